"""What a count of tokens depends on, as one hash: what CountTokens is asked for, without the settings of an answer."""

import hashlib
from dataclasses import fields
from typing import Final

import msgspec

from gateway.terms.conversation import Conversation

_OTHERWISE: Final = frozenset(
    {"turns", "generation", "choosing", "allowed_functions", "guards", "constraint", "cached_content"}
)
"""Fields of a conversation that no count has, and the turns, whose parts need the names of their kinds.

A constraint and a cached beginning are part of the prompt: who holds by a count adds their bound."""

_WHOLE: Final = tuple(field.name for field in fields(Conversation) if field.name not in _OTHERWISE)


def content_key(conversation: Conversation) -> bytes:
    """SHA-256 over all that a count is asked for; each part with the name of its kind."""
    turns = [(turn.speaker, [(type(part).__name__, part) for part in turn.parts]) for turn in conversation.turns]
    whole = [getattr(conversation, name) for name in _WHOLE]
    return hashlib.sha256(msgspec.json.encode((turns, whole))).digest()
