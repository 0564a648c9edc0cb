"""A call knows what each of its stages took and how long it has left."""

import pytest

from gateway.terms.caller import Credentials
from gateway.terms.ids import RequestId
from gateway.terms.passage import Passage, Stages


class Hand:
    """A clock that is moved by hand."""

    def __init__(self):
        self.ns = 0

    def monotonic_ns(self):
        return self.ns

    def unix_us(self):
        return self.ns // 1000


def test_stages_are_told_in_the_syntax_of_server_timing():
    clock = Hand()
    stages = Stages(clock)
    with stages.stage("identity"):
        clock.ns += 1_500_000
    with stages.stage("policy"):
        clock.ns += 250_000
    with stages.stage("identity"):
        clock.ns += 500_000
    assert stages.server_timing() == "identity;dur=2.000, policy;dur=0.250"


def test_a_stage_that_raises_is_counted():
    clock = Hand()
    stages = Stages(clock)

    def failing():
        with stages.stage("policy"):
            clock.ns += 7
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert stages.spent_ns() == {"policy": 7}


def test_the_time_left_is_told_and_may_be_negative():
    clock = Hand()
    passage = Passage(
        request=RequestId("r"), credentials=Credentials(), clock=clock, deadline_ns=2_000_000_000, stages=Stages(clock)
    )
    assert passage.left_s() == 2.0
    clock.ns = 3_000_000_000
    assert passage.left_s() == -1.0
