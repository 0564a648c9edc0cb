"""Which target a second attempt goes to, and when there is none."""

import pytest
from made_routes import MostChance, Waits
from made_streams import MODEL, StandingClock, conversation, user

from gateway.llm.breaker import BreakerTerms
from gateway.llm.retry_budget import RetryBudget, RetryTerms
from gateway.llm.standing import Target, standings
from gateway.llm.tries import Surroundings, Tries
from gateway.terms.faults import Fault, UpstreamError


def tries(*, attempts=4, burst=10, same=False, names="abcd"):
    """The way of a call over targets of these names, in their order; their upstreams are never asked here."""
    targets = [
        Target(name=name, model=MODEL, upstream=None, prices=(), tokenizer=name, order=order)
        for order, name in enumerate(names, 1)
    ]
    terms = RetryTerms(attempts=attempts, percent=0, burst=burst, hedge_after_ms=1, hedge_same_target=same)
    around = Surroundings(clock=StandingClock(), chance=MostChance(), sleep=Waits(lambda _: None))
    return Tries(standings(targets, BreakerTerms()), conversation(user("hello")), terms, RetryBudget(terms), around)


def name(trying):
    return trying and trying.standing.target.name


async def test_a_call_has_one_hedge_whatever_becomes_of_it():
    way = tries()
    first = way.first()
    hedge = way.hedge(first, None)
    assert (name(first), name(hedge), hedge.hedge) == ("a", "b", True)
    assert not way.may_hedge(first, None)
    assert way.hedge(first, None) is None
    for one in (first, hedge):
        failed = UpstreamError(Fault.UNREACHABLE, "gone")
        one.fail(failed)
        way.failed(one, failed)
    third = await way.again(failed, None)
    assert name(third) == "c"
    assert way.hedge(third, None) is None


async def test_a_hedge_counts_as_an_attempt_and_needs_none_to_be_left():
    way = tries(attempts=1)
    first = way.first()
    assert name(way.hedge(first, None)) == "b"
    way = tries(attempts=2)
    first = way.first()
    hedge = way.hedge(first, None)
    failed = UpstreamError(Fault.UNREACHABLE, "gone")
    for one in (first, hedge):
        way.failed(one, failed)
    with pytest.raises(UpstreamError) as told:
        await way.again(failed, None)
    assert told.value is failed


async def test_the_budget_of_retries_pays_and_is_asked_last():
    way = tries(burst=0)
    first = way.first()
    assert way.may_hedge(first, None)
    assert way.hedge(first, None) is None


async def test_one_target_is_its_own_hedge_only_where_that_is_wanted():
    way = tries(names="a")
    assert way.hedge(way.first(), None) is None
    way = tries(names="a", same=True)
    first = way.first()
    assert name(way.hedge(first, None)) == "a"
    way = tries(names="ab", same=True)
    first = way.first()
    assert name(way.hedge(first, None)) == "b"


async def test_both_attempts_at_one_target_may_be_told_that_it_does_not_know_them():
    way = tries(names="a", same=True)
    first = way.first()
    denied = UpstreamError(Fault.DENIED, "no")
    for one in (way.hedge(first, None), first):
        way.failed(one, denied)
    with pytest.raises(UpstreamError) as told:
        await way.again(denied, None)
    assert told.value is denied
