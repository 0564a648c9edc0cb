"""One file for each protobuf service: messages to terms and back, nothing else."""
