"""The latch of tools whose backend has none of its own: a loop of one irreversible call is stopped for a person.

What can be taken back is not latched: a cancel in a loop does less harm than a cancel that is refused.
"""

import hashlib
from collections.abc import Mapping

from msgspec.structs import replace

from gateway.terms.asks import Effect, ToolAsk
from gateway.terms.caller import Caller
from gateway.terms.operations import Demand, Latch
from gateway.terms.strict_json import FrozenJson


def latched(caller: Caller, ask: ToolAsk, demand: Demand) -> Demand:
    """The demand, with a latch on executions of one shape where the agent's limits have one (RTS 6 Art. 15(3))."""
    limits = None if caller.limits is None else caller.limits.repeats
    if limits is None or ask.tool.effect is not Effect.IRREVERSIBLE:
        return demand
    if any(isinstance(guard, Latch) for guard in demand.guards):
        return demand
    latch = Latch(
        scope=f"agent:{caller.agent}/{ask.tool.name}",
        digest=shape(ask),
        executions=limits.executions,
        window_ms=limits.window_ms,
    )
    return replace(demand, guards=(*demand.guards, latch))


def shape(ask: ToolAsk) -> bytes:
    """What two executions in a loop share: the tool, and which arguments of which kind, not what they say."""
    digest = hashlib.sha256(ask.tool.name.encode())
    for name, value in sorted(ask.arguments.items()):
        digest.update(f"\x00{name}\x00{_kind(value)}".encode())
    return digest.digest()


def _kind(value: FrozenJson) -> str:
    if isinstance(value, Mapping):
        return "object"
    return "array" if isinstance(value, tuple) else type(value).__name__
