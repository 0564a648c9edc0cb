"""The budgets of a connection, in a time that the test owns."""

import pytest
from h2.errors import ErrorCodes
from h2.exceptions import DenialOfServiceError
from hyperframe.frame import DataFrame, HeadersFrame, PingFrame, RstStreamFrame

from gateway.wire.config import WireConfig
from gateway.wire.toll import CHATTER_PER_CALL, Budget, Toll


class Time:
    def __init__(self):
        self.ns = 10**18

    def monotonic_ns(self):
        return self.ns

    def unix_us(self):
        return 0

    def go(self, seconds):
        self.ns += round(seconds * 1e9)


def spent(budget, tries=10_000):
    count = 0
    while count < tries and budget.spend():
        count += 1
    return count


def test_a_budget_starts_full_and_ends():
    assert spent(Budget(Time(), 20, 5)) == 20


def test_it_refills_with_time_and_never_above_its_burst():
    time = Time()
    budget = Budget(time, 20, 5)
    spent(budget)
    time.go(2)
    assert spent(budget) == 10
    time.go(3_600)
    assert spent(budget) == 20


def test_small_steps_of_time_add_up():
    time = Time()
    budget = Budget(time, 20, 5)
    spent(budget)
    granted = 0
    for _ in range(100):
        time.go(0.03)
        granted += budget.spend()
    assert granted == 15


def test_honest_work_earns_and_never_above_the_burst():
    budget = Budget(Time(), 20, 5)
    spent(budget)
    budget.earn(3)
    assert spent(budget) == 3
    budget.earn(1_000)
    assert spent(budget) == 20


def data(size, *flags):
    frame = DataFrame(1, data=bytes(size))
    for flag in flags:
        frame.flags.add(flag)
    return frame


@pytest.mark.parametrize(
    "frame, costs",
    [
        (HeadersFrame(1), False),
        (data(1_024), False),
        (data(3, "END_STREAM"), False),
        (data(1_023), True),
        (data(0), True),
        (PingFrame(0), True),
    ],
)
def test_only_frames_without_work_cost(frame, costs):
    toll = Toll(Time(), WireConfig(chatter_burst=1, resets_burst=1))
    toll.charge(frame)
    if not costs:
        toll.charge(frame)
        return
    with pytest.raises(DenialOfServiceError) as caught:
        toll.charge(frame)
    assert caught.value.error_code is ErrorCodes.ENHANCE_YOUR_CALM


def test_resets_and_chatter_are_counted_apart_and_earned_by_calls():
    toll = Toll(Time(), WireConfig(chatter_burst=CHATTER_PER_CALL, resets_burst=2))
    for _ in range(CHATTER_PER_CALL):
        toll.charge(PingFrame(0))
    toll.charge_reset()
    toll.charge_reset()
    toll.call_answered()
    toll.charge_reset()
    for _ in range(CHATTER_PER_CALL):
        toll.charge(PingFrame(0))
    with pytest.raises(DenialOfServiceError):
        toll.charge_reset()
    with pytest.raises(DenialOfServiceError):
        toll.charge(PingFrame(0))
    toll.data_sent()
    toll.charge(PingFrame(0))


def test_an_echo_is_free_for_each_data_frame_sent_and_chatter_beyond():
    toll = Toll(Time(), WireConfig(chatter_burst=1, resets_burst=1))
    for _ in range(10):
        toll.data_sent()
    for _ in range(11):
        toll.charge_echo(RstStreamFrame(1))
    with pytest.raises(DenialOfServiceError):
        toll.charge_echo(RstStreamFrame(1))
    toll.charge_reset()
