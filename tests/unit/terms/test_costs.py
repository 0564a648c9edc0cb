"""What the stages of a measured call cost adds up to what its process used; who does not measure reads nothing."""

import threading
from functools import partial

import pytest

from gateway.terms.clock import SystemClock, SystemProcessorClock
from gateway.terms.costs import Cost, MeasuredStages, Meter
from gateway.terms.passage import Stages
from localcloud.demo.scene import stages_ms, stages_told


class Hand:
    """Clocks that are moved by hand, in nanoseconds, and a ledger whose commits are."""

    def __init__(self):
        self.now_ns = self.loop_ns = self.writer_ns = self.commits = 0

    def monotonic_ns(self):
        return self.now_ns

    def unix_us(self):
        return self.now_ns // 1000

    def thread_ns(self):
        return self.loop_ns

    def process_ns(self):
        return self.loop_ns + self.writer_ns

    def work(self, now_ns, loop_ns=0, writer_ns=0, commits=0):
        self.now_ns += now_ns
        self.loop_ns += loop_ns
        self.writer_ns += writer_ns
        self.commits += commits

    def stages(self):
        return MeasuredStages(self, Meter(processor=self, commits=lambda: self.commits))


def test_a_stage_costs_what_the_process_used_between_its_borders():
    hand = Hand()
    hand.work(now_ns=5, loop_ns=5, writer_ns=5, commits=5)
    stages = hand.stages()
    hand.work(now_ns=200_000, loop_ns=100_000)
    stages.spend_since("wire", opened_ns=5)
    hand.work(now_ns=40_000, loop_ns=30_000)
    with stages.stage("admit"):
        hand.work(now_ns=3_000_000, loop_ns=200_000, writer_ns=400_000, commits=1)
    with stages.stage("admit"):
        hand.work(now_ns=1_000_000, loop_ns=50_000)
    hand.work(now_ns=10_000, loop_ns=7_000, writer_ns=1_000)
    assert stages.cost() == {"wire": Cost(100_000, 100_000, 0), "admit": Cost(250_000, 650_000, 1)}
    assert stages.spent_ns() == {"wire": 200_000, "admit": 4_000_000}
    assert stages.server_timing() == (
        "wire;dur=0.200;cpu=0.1000;threads=0.0000;commits=0, admit;dur=4.000;cpu=0.6500;threads=0.4000;commits=1, "
        "between;dur=0.050;cpu=0.0380;threads=0.0010;commits=0"
    )


def test_a_stage_that_raises_has_cost_what_it_did_until_then():
    hand = Hand()
    stages = hand.stages()

    def failing():
        with stages.stage("settle"):
            hand.work(now_ns=2, loop_ns=3, commits=1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert stages.cost() == {"settle": Cost(3, 3, 1)}
    assert stages.spent_ns() == {"settle": 2}


def test_a_time_without_borders_is_told_without_a_cost_and_is_not_counted_twice():
    hand = Hand()
    stages = hand.stages()
    hand.work(now_ns=2_000_000, loop_ns=1_000_000)
    stages.spend("first_chunk", 2_000_000)
    told = stages_told(stages.server_timing())
    assert told == {
        "first_chunk": {"dur": 2.0},
        "between": {"dur": 0.0, "cpu": 1.0, "threads": 0.0, "commits": 0.0},
    }
    assert stages_ms(stages.server_timing()) == {"first_chunk": 2.0, "between": 0.0}


def test_without_measuring_no_processor_time_is_read_or_told():
    hand = Hand()
    stages = Stages(hand)
    with stages.stage("admit"):
        hand.work(now_ns=1_000_000, loop_ns=1_000_000, commits=1)
    stages.spend_since("wire", opened_ns=0)
    assert stages.server_timing() == "admit;dur=1.000, wire;dur=1.000"
    assert stages_told("") == {}


def busy(ns, clock):
    """Use the processor for so long, on whichever thread this runs."""
    end = clock.thread_ns() + ns
    while clock.thread_ns() < end:
        pass


def test_the_system_counts_the_own_thread_and_the_others_apart():
    """With the real clocks: what another thread did in a stage is in the stage, and not on this thread's account."""
    clock = SystemProcessorClock()
    stages = MeasuredStages(SystemClock(), Meter(processor=clock, commits=int))
    with stages.stage("admit"):
        busy(2_000_000, clock)
        other = threading.Thread(target=partial(busy, 5_000_000, clock))
        other.start()
        other.join()
    cost = stages.cost()["admit"]
    assert cost.loop_ns >= 2_000_000
    assert cost.process_ns - cost.loop_ns >= 5_000_000
    assert sum(part["cpu"] for part in stages_told(stages.server_timing()).values()) * 1e6 >= 7_000_000
