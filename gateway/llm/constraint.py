"""The form that an answer must have: refused where nothing holds a model to it, and verified when the answer is whole.

An upstream that enforces a form may still miss it (a schema keyword that it does not know, a cut answer), and one that
enforces nothing usually does. So every whole answer is verified here, whoever promised what.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NoReturn, Protocol

import jsonschema_rs

from gateway.llm.schema_cost import SchemaCost, SchemaRefusedError
from gateway.terms.conversation import ChoiceConstraint, Constraint, JsonSchemaConstraint, RegexConstraint
from gateway.terms.limits import SCHEMA_BYTES_MAX
from gateway.terms.models import Model
from gateway.terms.strict_json import JsonRefusedError, strict_object, strict_value
from gateway.terms.verdict import Kind, Refusal, malformed

KINDS: Final[Mapping[type[Constraint], str]] = {
    JsonSchemaConstraint: "json_schema",
    RegexConstraint: "regex",
    ChoiceConstraint: "choice",
}
TEXT_LENGTH_MAX: Final = 256 * 1024
"""Of an answer that can be verified, in characters: 65,536 tokens of four. A longer one has not the form."""

EVALUATIONS_MAX: Final = 2_000_000
"""Of subschemas against one answer: about 30 ms, measured. What a caller's schema could cost beyond it is not paid."""

PATTERN_LENGTH_MAX: Final = 8 * 1024
PATTERN_MEMORY: Final = 1024 * 1024
STEPS_MAX: Final = 50_000_000
"""Of an expression's program over one answer, should RE2 fall back to its slowest way; 6 ms was the most measured."""

_LINEAR: Final = jsonschema_rs.RegexOptions(size_limit=256 * 1024, dfa_size_limit=2 * 1024 * 1024)


class UnusableConstraintError(ValueError):
    """A constraint that nothing can verify; the message says why."""


class Verifier(Protocol):
    """Says whether a whole answer has a form."""

    def holds(self, text: str) -> bool:
        """Whether it has; what cannot be verified within the bounds has not."""
        ...


def constraint_refusal(model: Model, constraint: Constraint | None) -> Refusal | None:
    """The refusal of a constraint that this model is not held to, or that cannot be verified."""
    if constraint is None:
        return None
    kind = KINDS[type(constraint)]
    able = model.constraints | model.verified
    if kind not in able:
        told = ", ".join(sorted(able)) or "none"
        return Refusal(
            kind=Kind.UNSUPPORTED,
            reason="model.constraint_unsupported",
            sentence=f"{model.name} cannot be held to a {kind} constraint; it can to: {told}.",
        )
    try:
        verifier_of(constraint)
    except UnusableConstraintError as error:
        return malformed(f"constraint.{kind}", str(error))
    return None


@lru_cache(maxsize=64)
def verifier_of(constraint: Constraint) -> Verifier:
    """The verifier of a constraint, compiled; raises `UnusableConstraintError`."""
    match constraint:
        case JsonSchemaConstraint():
            return _Schema(constraint.schema_json)
        case RegexConstraint():
            return _Regex(constraint.pattern)
        case ChoiceConstraint():
            return _Choice(frozenset(constraint.texts))


class _Choice:
    """One of some texts, to the letter."""

    def __init__(self, texts: frozenset[str]) -> None:
        self._texts = texts

    def holds(self, text: str) -> bool:
        return text in self._texts


class _Regex:
    """An RE2 expression that must match from the first character to the last."""

    def __init__(self, pattern: str) -> None:
        # Only where a caller asks for it: the library is an extension of 4 MB.
        import re2  # noqa: PLC0415 - lazy, see above

        options = re2.Options()
        options.max_mem, options.log_errors = PATTERN_MEMORY, False
        if len(pattern) > PATTERN_LENGTH_MAX:
            raise UnusableConstraintError(f"write at most {PATTERN_LENGTH_MAX} characters")
        try:
            self._expression = re2.compile(pattern, options)
        except re2.error as error:
            told = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
            raise UnusableConstraintError(f"is not RE2 syntax: {told[:200]!a}") from None

    def holds(self, text: str) -> bool:
        if len(text) * int(self._expression.programsize) > STEPS_MAX:
            return False
        return self._expression.fullmatch(text) is not None


class _Schema:
    """A JSON Schema (2020-12) that the text, read strictly, must fit; formats count."""

    def __init__(self, text: str) -> None:
        try:
            schema = strict_object(text, size_max=SCHEMA_BYTES_MAX)
            self._cost = SchemaCost(schema)
            self._validator = jsonschema_rs.Draft202012Validator(
                schema,
                validate_formats=True,
                ignore_unknown_formats=False,
                retriever=_refuse_to_retrieve,
                pattern_options=_LINEAR,
            )
        except JsonRefusedError as error:
            raise UnusableConstraintError(str(error)) from None
        except SchemaRefusedError as error:
            raise UnusableConstraintError(str(error)) from None
        except ValueError as error:
            raise UnusableConstraintError(f"is no JSON Schema (2020-12): {str(error)[:200]!a}") from None

    def holds(self, text: str) -> bool:
        try:
            value = strict_value(text, size_max=TEXT_LENGTH_MAX)
        except JsonRefusedError:
            return False
        return self._cost.of(value) <= EVALUATIONS_MAX and self._validator.is_valid(value)


def _refuse_to_retrieve(uri: str) -> NoReturn:
    """A remote `$ref` would be fetched: an SSRF (governance study, section 0, item 4)."""
    raise ValueError(f"{uri}: schemas are never fetched")


class Verification:
    """Collects one answer's text and verifies it at its end."""

    __slots__ = ("_length", "_texts", "_verifier")

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._texts: list[str] = []
        self._length = 0

    def take(self, text: str) -> None:
        """One more piece. Beyond the bound nothing is kept."""
        self._length += len(text)
        if self._length <= TEXT_LENGTH_MAX:
            self._texts.append(text)

    @property
    def met(self) -> bool:
        """Whether what was said up to now is whole and has the form."""
        return self._length <= TEXT_LENGTH_MAX and self._verifier.holds("".join(self._texts))
