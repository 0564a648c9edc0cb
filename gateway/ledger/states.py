"""The states of an operation, as one table: what is not in it cannot happen (governance study, section 3.2)."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from gateway.terms.operations import Failed, Outcome, State, Succeeded


class Event(StrEnum):
    """What can happen to an operation."""

    DISPATCH = "dispatch"
    """Its intent became durable: from now on bytes may leave."""
    SUCCEED = "succeed"
    FAIL = "fail"
    DOUBT = "doubt"
    """The reply never came."""
    LOSE = "lose"
    """Its owner stopped without an outcome. A claim alone has nothing to lose: nothing was sent."""
    CHARGE = "charge"
    """Its owner stopped, and nothing is left in the world that could be asked for: it is charged in full."""
    ASK = "ask"
    """Its service is asked by our id."""
    AFFIRM = "affirm"
    DENY = "deny"
    """An operator decides what nobody else can know."""


TRANSITIONS: Final[Mapping[tuple[State, Event], State]] = MappingProxyType(
    {
        (State.CLAIMED, Event.DISPATCH): State.DISPATCHED,
        (State.DISPATCHED, Event.SUCCEED): State.SUCCEEDED,
        (State.DISPATCHED, Event.FAIL): State.FAILED,
        (State.DISPATCHED, Event.DOUBT): State.UNKNOWN,
        (State.DISPATCHED, Event.LOSE): State.UNKNOWN,
        (State.DISPATCHED, Event.CHARGE): State.FAILED,
        (State.UNKNOWN, Event.ASK): State.RECONCILING,
        (State.UNKNOWN, Event.AFFIRM): State.SUCCEEDED,
        (State.UNKNOWN, Event.DENY): State.FAILED,
        (State.RECONCILING, Event.SUCCEED): State.SUCCEEDED,
        (State.RECONCILING, Event.FAIL): State.FAILED,
        (State.RECONCILING, Event.DOUBT): State.UNKNOWN,
        (State.RECONCILING, Event.LOSE): State.UNKNOWN,
    }
)

OPEN: Final = (State.CLAIMED, State.DISPATCHED, State.RECONCILING)
"""Someone owns the operation and works on it."""


UNFINISHED: Final = (*OPEN, State.UNKNOWN)
"""Its outcome is not known yet."""

RUNNING: Final = (State.CLAIMED, State.DISPATCHED)
"""Its caller may still be waiting: a repeat is told to come again. One that is asked for is as unknown as before."""


class ImpossibleTransitionError(Exception):
    """An event came in a state in which it cannot happen: a defect of the gateway, and nothing was changed."""


def following(state: State, event: Event) -> State:
    """The state after the event. Raises `ImpossibleTransitionError`."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ImpossibleTransitionError(f"an operation in state {state} cannot {event}") from None


def event_of(outcome: Outcome) -> Event:
    """What an outcome does to its operation."""
    if isinstance(outcome, Succeeded):
        return Event.SUCCEED
    return Event.FAIL if isinstance(outcome, Failed) else Event.DOUBT
