"""Tool declarations: what an operator writes about a tool, checked, completed on the safe side and hashed."""

import hashlib
from dataclasses import dataclass

from gateway.terms.asks import Effect, Idempotency, ToolDeclaration
from gateway.terms.ids import TOOL_NAME, ToolName
from gateway.terms.verdict import Violation
from gateway.tools.schema import ArgumentsSchema, SchemaRefusedError

TIMEOUT_MS_MAX = 300_000
DESCRIPTION_LENGTH_MAX = 2_000

ONCE = "It is sent at most once: if its answer is lost, nobody can find out whether it happened."
"""Ends the description of a tool with an effect that its service can neither repeat nor be asked about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A declaration as it is written. An unknown or missing effect is irreversible, an unknown idempotency is none."""

    name: str
    version: str
    description: str
    arguments_schema: str
    effect: str = ""
    idempotency: str = ""
    timeout_ms: int = 10_000
    redacted: frozenset[str] = frozenset()
    reduces: bool = False


class DeclarationRefusedError(ValueError):
    """A tool that cannot be offered; the message lists what must change."""

    def __init__(self, name: str, violations: tuple[Violation, ...]) -> None:
        lines = (f"  {found.field or '(the whole)'} {found.description}" for found in violations)
        super().__init__("\n".join((f"tool {name[:64]!r} cannot be declared:", *lines)))
        self.violations = violations


def declared(draft: Draft) -> ToolDeclaration:
    """The declaration that a draft makes. Raises `DeclarationRefusedError` with everything that is wrong."""
    found = _faults(draft)
    if found:
        raise DeclarationRefusedError(draft.name, tuple(found))
    effect = Effect(draft.effect) if draft.effect in set(Effect) else Effect.IRREVERSIBLE
    idempotency = Idempotency(draft.idempotency) if draft.idempotency in set(Idempotency) else Idempotency.NONE
    return ToolDeclaration(
        name=ToolName(draft.name),
        version=draft.version,
        description=draft.description,
        arguments_schema=draft.arguments_schema,
        effect=effect,
        idempotency=idempotency,
        timeout_ms=draft.timeout_ms,
        redacted=draft.redacted,
        reduces=draft.reduces,
        hash=_hash(draft, effect, idempotency),
    )


def described(text: str, effect: Effect, idempotency: Idempotency) -> str:
    """A service's description as agents may see it: one line, bounded, and with `ONCE` where that is so.

    Raises ValueError for one with invisible characters: a person who approves it must see what a model will read.
    """
    line = " ".join(text.split())
    if not line.isprintable() or len(line) > DESCRIPTION_LENGTH_MAX:
        raise ValueError(
            f"its description has invisible characters or more than {DESCRIPTION_LENGTH_MAX}: write one of your own"
        )
    once = effect is not Effect.READ and idempotency is Idempotency.NONE
    return " ".join(part for part in (line, ONCE if once else "") if part)


def _faults(draft: Draft) -> list[Violation]:
    found = []
    if not TOOL_NAME.fullmatch(draft.name):
        found.append(Violation(field="name", description="must be 1 to 64 of a-z, 0-9 and _, beginning with a letter"))
    if not draft.version or not draft.version.isascii() or not draft.version.isprintable() or len(draft.version) > 32:
        found.append(Violation(field="version", description="must be 1 to 32 printable ASCII characters"))
    if not 1 <= draft.timeout_ms <= TIMEOUT_MS_MAX:
        found.append(Violation(field="timeout_ms", description=f"must be 1 to {TIMEOUT_MS_MAX}"))
    try:
        schema = ArgumentsSchema(draft.arguments_schema)
    except SchemaRefusedError as error:
        return found + [
            Violation(field=f"arguments_schema#{wrong.field}", description=wrong.description)
            for wrong in error.violations
        ]
    unknown = sorted(draft.redacted - schema.properties)
    return found + [Violation(field="redacted", description=f"{name[:64]!r} is no argument") for name in unknown]


def _hash(draft: Draft, effect: Effect, idempotency: Idempotency) -> str:
    """SHA-256 over the length-framed fields, in the order of `ToolDeclaration` (attack row 19)."""
    digest = hashlib.sha256()
    fields = (draft.name, draft.version, draft.description, draft.arguments_schema, effect.value, idempotency.value)
    reduces = ("(reduces)",) if draft.reduces else ()
    for field in (*fields, str(draft.timeout_ms), *sorted(draft.redacted), *reduces):
        data = field.encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()
