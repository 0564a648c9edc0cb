"""Claude on Vertex AI: Anthropic's Messages API behind rawPredict and streamRawPredict."""
