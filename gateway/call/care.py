"""How an effect is looked after, as it follows from permit and demand: what stops it, and who can be asked."""

from typing import Final

from gateway.terms.asks import Ask, ChatAsk, CountAsk, Effect, ToolAsk
from gateway.terms.halts import EVERYTHING
from gateway.terms.operations import Aftercare, Demand, Loss, Similar
from gateway.terms.verdict import Permit

_UNSTOPPED: Final[tuple[str, ...]] = ()
"""What only reads or only takes back goes on while a kill switch stands: it is what one needs then."""


def aftercare(permit: Permit, demand: Demand) -> Aftercare:
    """What must be durable with the intent."""
    return Aftercare(
        loss=_loss(permit.ask, demand),
        memo=demand.memo,
        halts=_halts(permit, demand),
        similar=tuple(guard for guard in demand.guards if isinstance(guard, Similar)),
    )


def _loss(ask: Ask, demand: Demand) -> Loss:
    if not isinstance(ask, ToolAsk) or ask.tool.effect is Effect.READ:
        return Loss.CHARGE
    return Loss.ASK if demand.memo else Loss.PERSON


def _halts(permit: Permit, demand: Demand) -> tuple[str, ...]:
    caller, ask = permit.caller, permit.ask
    if isinstance(ask, ToolAsk):
        if ask.tool.effect is Effect.READ or ask.tool.reduces:
            return _UNSTOPPED
        about = f"tool:{ask.tool.name}"
    elif isinstance(ask, ChatAsk | CountAsk):
        about = f"model:{ask.model}"
    else:
        return _UNSTOPPED
    return (
        EVERYTHING,
        f"tenant:{caller.tenant}",
        f"team:{caller.team}",
        f"agent:{caller.agent}",
        about,
        *demand.halts,
    )
