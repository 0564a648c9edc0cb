"""The form that an answer must have: refused up front where nothing can hold the model to it."""

from collections.abc import Mapping
from typing import Final

from gateway.terms.conversation import ChoiceConstraint, Constraint, JsonSchemaConstraint, RegexConstraint
from gateway.terms.models import Model
from gateway.terms.verdict import Kind, Refusal

KINDS: Final[Mapping[type[Constraint], str]] = {
    JsonSchemaConstraint: "json_schema",
    RegexConstraint: "regex",
    ChoiceConstraint: "choice",
}


def constraint_refusal(model: Model, constraint: Constraint | None) -> Refusal | None:
    """The refusal of a constraint that the model's upstream cannot enforce."""
    if constraint is None:
        return None
    kind = KINDS[type(constraint)]
    if kind in model.constraints:
        return None
    able = ", ".join(sorted(model.constraints)) or "none"
    return Refusal(
        kind=Kind.UNSUPPORTED,
        reason="model.constraint_unsupported",
        sentence=f"{model.name} cannot enforce a {kind} constraint; it can enforce: {able}.",
    )
