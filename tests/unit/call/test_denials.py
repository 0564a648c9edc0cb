"""Attack row 50: many cheap refusals leave few records, and none is lost from the count."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from test_claims import CALLER
from whole import agent, refusal, world

from gateway.call.denials import Denials
from gateway.terms.verdict import Kind, Refusal

DENIED = Refusal(kind=Kind.FORBIDDEN, reason="policy.denied", sentence="No.")
OTHER = replace(CALLER, agent="other")


class Time:
    now_us = 10**15

    def unix_us(self):
        return self.now_us


def test_the_first_are_told_and_recorded_and_the_rest_are_summed():
    denials = Denials(Time(), 3)
    found = [denials.count(CALLER, DENIED) for _ in range(10)]
    assert [one.recorded for one in found] == [True] * 3 + [False] * 7
    assert all(one.answer is DENIED for one in found[:3])
    assert [one.sum and one.sum.count for one in found] == [None, None, None, 1, 2, None, 4, None, None, None]
    last = found[-1].answer
    assert (last.kind, last.reason) == (Kind.EXHAUSTED, "denials.too_many")
    assert last.retry_after_ms == 20_000


def test_what_is_said_of_an_operation_is_never_hidden():
    denials = Denials(Time(), 1)
    running = replace(DENIED, kind=Kind.IN_PROGRESS, reason="operation.in_progress", operation_id="op-1")
    found = [denials.count(CALLER, running) for _ in range(5)]
    assert [one.recorded for one in found] == [True] + [False] * 4
    assert all(one.answer is running for one in found)


def test_agents_are_counted_apart():
    denials = Denials(Time(), 1)
    assert [denials.count(one, DENIED).recorded for one in (CALLER, CALLER, OTHER)] == [True, False, True]


def test_who_comes_back_in_time_is_told_again_and_the_sum_is_closed():
    time = Time()
    denials = Denials(time, 1)
    for _ in range(7):
        denials.count(CALLER, DENIED)
    time.now_us += 60_000_000
    counted = denials.count(CALLER, replace(DENIED, reason="limit.notional"))
    assert (counted.recorded, counted.sum.count, dict(counted.sum.reasons)) == (True, 6, {"policy.denied": 6})
    assert (counted.sum.since_unix_us, counted.sum.until_unix_us) == (10**15, time.now_us)
    assert denials.rest() == ()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400_000), st.sampled_from(["a", "b"])), max_size=200), st.integers(1, 300))
def test_every_refusal_is_recorded_or_in_exactly_one_sum(refusals, per_minute):
    time = Time()
    denials = Denials(time, per_minute)
    own, sums, records, added = 0, {}, 0, 0
    for gap, reason in refusals:
        time.now_us += gap
        counted = denials.count(CALLER, replace(DENIED, reason=reason))
        own += counted.recorded
        records += counted.recorded + (counted.sum is not None)
        if counted.sum:
            sums[counted.sum.since_unix_us] = counted.sum.count
            added += counted.sum.added
    for told in denials.rest():
        sums[told.since_unix_us] = told.count
        added += told.added
    assert own + sum(sums.values()) == own + added == len(refusals)
    span_us = time.now_us - Time.now_us
    allowed = per_minute + span_us * per_minute // 60_000_000 + 1
    assert own <= allowed
    assert records <= 2 * allowed + len(refusals).bit_length() * allowed


async def test_row_50_a_flood_of_refusals_cannot_fill_the_ledger(tmp_path):
    async with world() as around, around.gateway(tmp_path, [agent(), agent("other")], refusals_per_minute=5) as whole:
        refused = [await refusal(whole.act("{", key=f"k-{number}")) for number in range(100)]
        assert [one.reason for one in refused[:5]] == ["arguments.malformed"] * 5
        assert {one.reason for one in refused[5:]} == {"denials.too_many"}
        assert all(0 < one.retry_after_ms <= 12_000 for one in refused[5:])
        sums = whole.told("denied")
        assert (len(whole.told("refusal")), [one["count"] for one in sums]) == (5, [1, 2, 4, 8, 16, 32, 64])
        assert sums[-1]["reasons"] == {"arguments.malformed": 64}
        assert (await refusal(whole.act("{", caller="other"))).reason == "arguments.malformed"
        # What is permitted is not held up by what was refused.
        assert (await whole.act(key="good")).operation.state.value == "succeeded"
        around.clock.pass_s(12)
        assert (await refusal(whole.act("{"))).reason == "arguments.malformed"
        assert whole.told("denied")[-1]["count"] == 95
        await whole.agree()
