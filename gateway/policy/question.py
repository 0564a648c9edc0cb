"""A call in Cedar's words: who asks, for what, of which thing, and what is known about it."""

from collections.abc import Mapping
from typing import Final, assert_never

import msgspec

from gateway.policy.rules import Answer
from gateway.policy.schema import AGENT, CHAT, COUNT_TOKENS, DRY_RUN, GATEWAY, MODEL, READS, TOOL
from gateway.policy.shapes import CedarJson, Record, UnfitError, fitted
from gateway.terms.asks import Ask, ChatAsk, CountAsk, DryRunAsk, ReadAsk, ToolAsk, ToolDeclaration
from gateway.terms.caller import Caller
from gateway.terms.evidence import Facts, for_rules
from gateway.terms.strict_json import FrozenJson
from gateway.terms.verdict import Hold, Permit, Refusal

_THE_GATEWAY: Final = "gateway"


class Thing(msgspec.Struct, frozen=True, kw_only=True):
    """An entity. Attributes are ordered, so that things can be compared and remembered."""

    type: str
    id: str
    attributes: tuple[tuple[str, str | frozenset[str]], ...] = ()

    def uid(self) -> dict[str, str]:
        """Its name in the form that no quote in an id can break out of."""
        return {"type": self.type, "id": self.id}

    def entity(self) -> dict[str, CedarJson]:
        """The whole of it, in the JSON form of Cedar's entities."""
        attributes: dict[str, CedarJson] = {
            name: value if isinstance(value, str) else list[CedarJson](sorted(value)) for name, value in self.attributes
        }
        return {"uid": {"type": self.type, "id": self.id}, "attrs": attributes, "parents": []}


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is put to the rules."""

    principal: Thing
    action: str
    resource: Thing
    context: dict[str, CedarJson]


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """A decision with all that went into it."""

    question: Question | None
    """None when the call could not be put into Cedar's words."""
    answer: Answer
    verdict: Permit | Hold | Refusal


def question(caller: Caller, ask: Ask, facts: Facts, contexts: Mapping[str, Record]) -> Question:
    """Put a call into Cedar's words, or raise `UnfitError`: then the call is refused.

    The principal is made of the caller's registration alone; arguments only ever become `context.arguments`.
    """
    action, resource, arguments = _of(ask)
    shape = contexts.get(action)
    if shape is None:
        raise UnfitError(f"the rules know no action {action[:64]!r}")
    return Question(
        principal=_agent(caller),
        action=action,
        resource=resource,
        context={
            name: fitted(value, shape.fields[name].shape, name)
            for name, value in (("arguments", arguments), ("facts", for_rules(facts)))
        },
    )


def _agent(caller: Caller) -> Thing:
    return Thing(
        type=AGENT,
        id=caller.agent,
        attributes=(
            ("role", caller.role),
            ("team", caller.team),
            ("tenant", caller.tenant),
            ("email", caller.email),
            ("models", caller.models),
            ("tools", caller.tools),
        ),
    )


def _of(ask: Ask) -> tuple[str, Thing, Mapping[str, FrozenJson]]:
    match ask:
        case ToolAsk(tool=tool):
            return tool.name, _tool(tool), ask.arguments
        case DryRunAsk(rehearsed=rehearsed):
            return DRY_RUN, _tool(rehearsed.tool), {}
        case ChatAsk():
            arguments: dict[str, FrozenJson] = {
                "max_output_tokens": ask.max_output_tokens,
                "input_tokens_bound": ask.input_tokens_bound,
                "functions": tuple(function.name for function in ask.conversation.functions),
            }
            return CHAT, _model(ask.model), arguments
        case CountAsk():
            return COUNT_TOKENS, _model(ask.model), {}
        case ReadAsk():
            if ask.what not in READS:
                raise UnfitError(f"the rules know no question {ask.what[:64]!r}")
            return ask.what, Thing(type=GATEWAY, id=_THE_GATEWAY), {}
        case _:
            assert_never(ask)


def _tool(tool: ToolDeclaration) -> Thing:
    attributes = (("name", tool.name), ("version", tool.version), ("effect", tool.effect.value))
    return Thing(type=TOOL, id=tool.name, attributes=attributes)


def _model(name: str) -> Thing:
    return Thing(type=MODEL, id=name, attributes=(("name", name),))
