"""What a stream costs, wherever it ends."""

import hashlib
import json
from dataclasses import replace

import pytest

from gateway.call.failures import BROKEN
from gateway.call.tally import Tally
from gateway.terms.asks import ChatAsk
from gateway.terms.conversation import Asking, Attempt, Conversation, Ending, Finish, FunctionCall, Text, Thought, Usage
from gateway.terms.faults import UNSPENT, Fault, UpstreamError
from gateway.terms.models import DatedPrice, Model, Price
from gateway.terms.money import Unit

MODEL = Model(
    name="flash",
    description="",
    upstream_id="gemini",
    max_output_tokens=1_000,
    constraints=frozenset(),
    price=Price(input=300_000, output=2_500_000, cached=75_000),
)
ASK = ChatAsk(
    model="flash",
    conversation=Conversation(system_instruction="", turns=()),
    max_output_tokens=20,
    input_tokens_bound=50,
    run="",
    digest=b"",
)
STOP = Ending(finish=Finish.STOP, upstream_reason="STOP", model_version="v1")


def tally(*chunks):
    counted = Tally(ask=ASK, model=MODEL)
    counted.take(Asking(target="flash"))
    for chunk in chunks:
        counted.take(chunk)
    return counted


def charges(outcome):
    return dict(outcome.charges)


def test_a_whole_answer_costs_what_the_upstream_counted():
    counted = tally(
        Text(text="hello"), Usage(input_tokens=7, output_tokens=3, thinking_tokens=1, cached_tokens=2), STOP
    )
    outcome = counted.completed(counted.ended())
    # 5 fresh and 2 cached input tokens, 3 of output, rounded up: 1.5 + 0.15 + 7.5 micro-dollars.
    assert charges(outcome) == {Unit.CALLS: 1, Unit.TOKENS: 10, Unit.COST: 10}
    assert json.loads(outcome.result) == {
        "finish": "stop",
        "upstream_reason": "STOP",
        "model_version": "v1",
        "input_tokens": 7,
        "output_tokens": 3,
        "thinking_tokens": 1,
        "cached_tokens": 2,
        "usage_estimated": False,
        "cost_micro_usd": 10,
        "price": {"valid_from": "", "input": 300_000, "output": 2_500_000, "cached": 75_000},
        "attempts": [],
        "estimate": {"input_tokens": 13, "output_tokens": 20, "cost_micro_usd": 54},
        "text_sha256": hashlib.sha256(b"hello").hexdigest(),
    }


def test_the_text_of_the_answer_is_in_the_record_as_a_hash_of_its_deltas_alone():
    counted = tally(Thought(text="hm"), Text(text="a"), Text(text="b"), Usage(output_tokens=1), STOP)
    assert json.loads(counted.completed(STOP).result)["text_sha256"] == hashlib.sha256(b"ab").hexdigest()


def test_without_the_upstreams_word_each_byte_counts_as_a_token_within_what_is_held():
    said = (
        Text(text="é"),
        Thought(text="abc"),
        FunctionCall(id="1", name="f", arguments_json="{}"),
    )
    assert tally(*said).usage == Usage(input_tokens=50, output_tokens=2 + 3 + 3, estimated=True)
    assert tally(Text(text="x" * 21)).usage == Usage(input_tokens=50, output_tokens=20, estimated=True)


def test_what_comes_after_the_upstreams_word_counts_on_top_of_it():
    counted = tally(Text(text="x" * 9), Usage(input_tokens=7, output_tokens=3), Text(text="12345"))
    assert counted.usage == Usage(input_tokens=7, output_tokens=8, estimated=True)
    counted.take(Text(text="x" * 100))
    assert counted.usage.output_tokens == 20


def test_the_upstreams_last_word_stands_when_it_ended():
    counted = tally(Usage(input_tokens=7, output_tokens=3), Text(text="12345"), STOP)
    assert counted.usage == Usage(input_tokens=7, output_tokens=3)


def test_an_upstream_that_makes_more_than_it_was_asked_for_is_stopped_and_its_word_is_charged():
    counted = tally(Text(text="x"), Usage(input_tokens=7, output_tokens=20))
    assert not counted.over
    counted.take(Usage(input_tokens=7, output_tokens=21))
    assert counted.over
    assert counted.ended().finish is Finish.BUDGET_SPENT
    assert charges(counted.completed(counted.ended()))[Unit.TOKENS] == 28


def test_a_stream_that_only_stops_has_no_ending():
    with pytest.raises(UpstreamError) as caught:
        tally(Text(text="x")).ended()
    assert caught.value.fault is Fault.TRUNCATED


@pytest.mark.parametrize("fault", sorted(Fault, key=lambda one: one.value))
def test_a_fault_before_the_first_chunk_is_free_only_if_no_token_was_made(fault):
    failed = Attempt(target="flash", fault=fault, milliseconds=3)
    assert bool(tally(failed).broken(fault).charges) is (fault not in UNSPENT)
    assert charges(tally(Text(text="x")).broken(fault)) == {Unit.CALLS: 1, Unit.TOKENS: 51, Unit.COST: 18}


def test_an_answer_that_was_left_pays_what_was_received_and_says_why():
    left, late = tally(Text(text="x")).left(late=False), tally(Text(text="x")).left(late=True)
    assert charges(left) == charges(late) == {Unit.CALLS: 1, Unit.TOKENS: 51, Unit.COST: 18}
    assert (left.failure.reason, late.failure.reason) == ("call.cut", "deadline.passed")
    assert tally().cut(BROKEN).failure.reason == "gateway.fault"


ALIKE, OTHER = {"flash": "gemini", "lite": "gemini"}, {"flash": "gemini", "lite": "llama"}
LOST = Attempt(target="flash", fault=None, milliseconds=9, lost=True)
WON = Attempt(target="lite", fault=None, milliseconds=1, hedge=True)
HEDGE = Asking(target="lite", hedge=True)


def hedged(*chunks, tokenizers=ALIKE):
    """A tally of two targets, the first of them asked, of which the second one is cheaper."""
    cheap = Price(input=30_000, output=250_000, cached=30_000)
    targets = tuple(
        (name, DatedPrice(valid_from="", from_unix_us=0, price=price))
        for name, price in (("flash", MODEL.price), ("lite", cheap))
    )
    counted = Tally(ask=ASK, model=replace(MODEL, targets=targets, tokenizers=tokenizers))
    for chunk in (Asking(target="flash"), *chunks):
        counted.take(chunk)
    return counted


@pytest.mark.parametrize(
    "told, tokenizers, expected",
    [
        ((Usage(input_tokens=7, output_tokens=3),), ALIKE, 7),
        ((Usage(input_tokens=7, output_tokens=3),), OTHER, 50),
        ((Usage(input_tokens=7, output_tokens=3),), {}, 50),
        ((Usage(input_tokens=99, output_tokens=3),), ALIKE, 50),  # never more than is held for it
        ((Usage(input_tokens=7, estimated=True),), ALIKE, 50),
        ((Usage(output_tokens=3),), ALIKE, 50),
        ((), ALIKE, 50),
    ],
)
def test_the_loser_of_a_race_is_charged_its_prompt_at_its_own_price_as_an_estimate(told, tokenizers, expected):
    counted = hedged(HEDGE, LOST, WON, Text(text="x"), *told, tokenizers=tokenizers)
    lost, won = counted.attempts
    assert (lost.charged_tokens, lost.charged_cost) == (expected, -(-expected * 300_000 // 10**6))
    assert (won.charged_tokens, won.charged_cost) == (0, 0)
    alone = Tally(ask=ASK, model=replace(MODEL, price=counted._asked.price))
    for chunk in (Asking(target="lite"), Text(text="x"), *told):
        alone.take(chunk)
    assert counted.usage.input_tokens == alone.usage.input_tokens + expected
    assert counted.cost == alone.cost + lost.charged_cost
    assert counted.usage.estimated


def test_while_two_are_asked_both_prompts_are_owed_each_at_its_own_price():
    counted = hedged(HEDGE)
    assert counted.usage == Usage(input_tokens=100, estimated=True)
    assert counted.cost == 15 + 2
    left = counted.left(late=False)
    assert charges(left) == {Unit.CALLS: 1, Unit.TOKENS: 100, Unit.COST: 17}
    assert json.loads(left.account)["in_flight"] == ["flash", "lite"]


def test_one_that_failed_before_any_token_was_made_leaves_the_other_to_be_paid_alone():
    failed = Attempt(target="flash", fault=Fault.UNREACHABLE, milliseconds=3)
    counted = hedged(HEDGE, failed)
    assert (counted.usage, counted.cost) == (Usage(input_tokens=50, estimated=True), 2)
    assert json.loads(counted.left(late=True).account)["in_flight"] == ["lite"]
    counted.take(WON)
    counted.take(Text(text="x"))
    counted.take(Usage(input_tokens=7, output_tokens=3))
    counted.take(STOP)
    outcome = counted.completed(counted.ended())
    assert charges(outcome) == {Unit.CALLS: 1, Unit.TOKENS: 10, Unit.COST: 1}
    assert "in_flight" not in json.loads(outcome.result)


def test_a_hedge_that_failed_leaves_the_first_one_to_be_paid():
    failed = Attempt(target="lite", fault=Fault.TRUNCATED, milliseconds=3, hedge=True)
    counted = hedged(HEDGE, failed, Attempt(target="flash", fault=None, milliseconds=9), Text(text="x"))
    assert [one.charged_tokens for one in counted.attempts] == [50, 0]
    assert counted.cost == 2 + 18
