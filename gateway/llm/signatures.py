"""Whose signature it is: what one provider's model thought, another's refuses or misreads.

Gemini's signatures go back as they came. Claude's have its name before them, so that a conversation may go on at
another provider, for one turn or for good.
"""

import base64
from typing import Final

CLAUDE: Final = b"claude:"
"""Before the signature of a thought."""

CLAUDE_REDACTED: Final = b"claude-redacted:"
"""Before thoughts that Anthropic shows to nobody, but wants back."""

GEMINI_FILLER: Final = base64.urlsafe_b64decode("skip_thought_signature_validator")
"""Google's own word for a call that no Gemini made; Gemini 3 refuses the first call of a step without a signature."""


def claudes(signature: bytes) -> bool:
    """Whether only Claude can read it."""
    return signature.startswith((CLAUDE, CLAUDE_REDACTED))


def is_text(signature: bytes) -> bool:
    """Whether it is UTF-8, as every signature of Claude's is: in its JSON it is a string."""
    try:
        signature.decode()
    except UnicodeDecodeError:
        return False
    return True
