"""What a count of tokens depends on, as one hash: the prompt itself, without the settings of its answer."""

import hashlib
from dataclasses import fields
from typing import Final

import msgspec

from gateway.terms.conversation import Conversation

_OTHERWISE: Final = frozenset({"turns", "generation", "choosing", "allowed_functions", "guards"})
"""Fields of a conversation that are no part of the prompt, and the turns, whose parts need the names of their kinds."""

_WHOLE: Final = tuple(field.name for field in fields(Conversation) if field.name not in _OTHERWISE)


def content_key(conversation: Conversation) -> bytes:
    """SHA-256 over all that the prompt is made of; a part and a constraint with the name of its kind."""
    turns = [(turn.speaker, [(type(part).__name__, part) for part in turn.parts]) for turn in conversation.turns]
    whole = [(type(value).__name__, value) for value in (getattr(conversation, name) for name in _WHOLE)]
    return hashlib.sha256(msgspec.json.encode((turns, whole))).digest()
