"""How much a model is to think, for the generations of models that take tokens instead of a level."""

from typing import Final

from gateway.terms.conversation import Thinking

BUDGETS: Final = {
    Thinking.MINIMAL: 1_024,
    Thinking.LOW: 1_024,
    Thinking.MEDIUM: 8_192,
    Thinking.HIGH: 24_576,
}
"""Google's own table of levels and budgets (Vertex AI, OpenAI compatibility); 1,024 is also the least of Claude."""
