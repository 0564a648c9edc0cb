"""Whose signature it is: what one provider's model thought, another's refuses or misreads.

Gemini's signatures go back as they came. Claude's have its name before them, so that a conversation may go on at
another provider, for one turn or for good.
"""

import base64
import binascii
from dataclasses import replace
from typing import Final

from gateway.llm.pieces import malformed
from gateway.terms.conversation import FunctionCall, Part, Text, Thought, Turn
from gateway.terms.faults import Fault, UpstreamError
from gateway.terms.models import ThinkingForm

LENGTH_MAX: Final = 256 * 1024
"""Of a signature, in its upstream's own form."""

CLAUDE: Final = b"claude:"
"""Before the signature of a thought."""

CLAUDE_REDACTED: Final = b"claude-redacted:"
"""Before thoughts that Anthropic shows to nobody, but wants back."""

GEMINI_FILLER_WORD: Final = "skip_thought_signature_validator"
GEMINI_FILLER: Final = base64.urlsafe_b64decode(GEMINI_FILLER_WORD)
"""Google's own word for a call that no Gemini made; Gemini 3 refuses the first call of a step without a signature."""

_PLAIN: Final = str.maketrans("-_", "+/")


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


def for_gemini(turn: Turn, form: ThinkingForm) -> Turn:
    """A turn as Gemini takes it, whoever made it: without thoughts that it cannot read, and with its first call signed.

    Only models that are told to think in tokens, the generation before signatures were asked for, need no filler.
    """
    parts = tuple(part for part in turn.parts if not (isinstance(part, Thought) and claudes(part.signature)))
    if len(parts) < len(turn.parts):
        # Of what Claude thought aloud only the last piece is signed: none of them is Gemini's.
        parts = tuple(part for part in parts if not isinstance(part, Thought)) or (Text(text=""),)
    return replace(turn, parts=parts if form is ThinkingForm.BUDGET else _signed(parts))


def _signed(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The parts, the first call among them with Google's filler where it has no signature of its own."""
    for place, part in enumerate(parts):
        if isinstance(part, FunctionCall):
            filled = part if part.signature else replace(part, signature=GEMINI_FILLER)
            return (*parts[:place], filled, *parts[place + 1 :])
    return parts


def read_geminis(text: str) -> bytes:
    """A signature of Gemini's (base64, in either alphabet: RFC 4648, 4 and 5); raises `UpstreamError`."""
    if len(text) > LENGTH_MAX:
        raise UpstreamError(Fault.TOO_LARGE, "a thought signature")
    plain = text.translate(_PLAIN).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise malformed(f"thought signature: {error}") from None


def written_geminis(signature: bytes) -> str:
    """A signature as Gemini takes it back."""
    return GEMINI_FILLER_WORD if signature == GEMINI_FILLER else base64.b64encode(signature).decode()
