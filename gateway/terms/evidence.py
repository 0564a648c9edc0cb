"""What is known about a call when one of its records is written."""

from collections.abc import Mapping

import msgspec

from gateway.terms.asks import Ask, Unformed
from gateway.terms.caller import Caller, Operator
from gateway.terms.ids import OperationId, RequestId, RuleId

Facts = Mapping[str, int | str | bool]
"""What policy and limits may know beyond the arguments: names to integers in declared units, texts and booleans.

A name with a dot is for the limits and the record alone: the rules do not see it.
"""


def for_rules(facts: Facts) -> Facts:
    """The facts that rules may name."""
    return {name: value for name, value in facts.items() if "." not in name}


class Denied(msgspec.Struct, frozen=True, kw_only=True):
    """Refusals of one caller that have no record of their own."""

    caller: Caller
    since_unix_us: int
    until_unix_us: int
    count: int
    """All since then, also those that an earlier sum with the same beginning told."""
    added: int
    """Those that no earlier sum told."""
    reasons: Mapping[str, int]
    """How many for each reason."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Who asked for what, when, on which facts, and which rules decided."""

    request: RequestId
    operation: OperationId
    """Empty for a refused call."""
    at_unix_us: int
    caller: Caller
    ask: Ask | Unformed
    facts: Facts
    rules: tuple[RuleId, ...] = ()
    policy_hash: str = ""


class OperatorAct(msgspec.Struct, frozen=True, kw_only=True):
    """Which operator asked for what, when."""

    request: RequestId
    at_unix_us: int
    operator: Operator
    what: str
    """The method, such as `set_halt`."""
    about: str
    """Which scope or operation it names, as received: any text of any length."""
