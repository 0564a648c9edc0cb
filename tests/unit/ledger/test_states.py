"""The table of states is the whole truth about what can happen to an operation."""

import itertools

import pytest

from gateway.ledger.states import OPEN, TRANSITIONS, Event, ImpossibleTransitionError, event_of, following
from gateway.terms.operations import Failed, Failure, State, Succeeded, Unknown

NO = Failure(reason="no", message="No.")


@pytest.mark.parametrize("state, event", list(itertools.product(State, Event)))
def test_what_is_not_in_the_table_is_impossible(state, event):
    if (state, event) in TRANSITIONS:
        assert following(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(ImpossibleTransitionError, match=state.value):
            following(state, event)


def test_final_states_are_left_by_nothing():
    assert {state for state, _ in TRANSITIONS}.isdisjoint(state for state in State if state.final)


def test_every_open_state_can_end():
    reached = {state: {after for (before, _), after in TRANSITIONS.items() if before is state} for state in OPEN}
    assert reached[State.DISPATCHED] == reached[State.RECONCILING] == {State.SUCCEEDED, State.FAILED, State.UNKNOWN}
    assert reached[State.CLAIMED] == {State.DISPATCHED}


def test_an_unknown_operation_is_asked_about_or_decided_by_an_operator():
    """Never settled by who sent it: its events are not among those of an outcome."""
    assert [event for state, event in TRANSITIONS if state is State.UNKNOWN] == [Event.ASK, Event.AFFIRM, Event.DENY]


def test_an_outcome_is_an_event():
    outcomes = (Succeeded(result=b"{}"), Failed(failure=NO), Unknown(failure=NO))
    assert [event_of(outcome) for outcome in outcomes] == [Event.SUCCEED, Event.FAIL, Event.DOUBT]
