"""Sales against what the account holds: on every ledger, whatever races, is lost, ends or is filled meanwhile.

Table 5.3 of the governance study: every sent order is in the calculation at once, on both sides.
"""

import asyncio
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_accounts import BUY, LOST, NO, PRICE, SELL, SHORTS, Account, came_to, reason_of
from made_calls import act, rooms
from made_desks import SqliteDesk

from gateway.terms.limits import BarrierLimit, Scopes
from gateway.terms.money import NANO, Unit
from gateway.terms.operations import Reservation, Succeeded


async def looked_for(desk):
    """The only operation that is due, taken by this instance."""
    desk.clock.now_us += 10_000_000
    [watched] = await desk.ledger.take(rooms(10), lease_ms=1_000)
    return watched


async def test_of_two_racing_sales_that_are_covered_but_not_together_one_passes(desk):
    account = Account(held=100)
    both = [await account.claims(desk, SELL, 60) for _ in range(2)]
    found = await asyncio.gather(*(desk.admit(claims=claims) for claims in both))
    assert sorted(map(reason_of, found)) == ["", "limit.uncovered"]


async def test_racing_sales_get_exactly_what_is_held(desk):
    account = Account(held=70)
    found = Counter(map(reason_of, await asyncio.gather(*(account.order(desk, SELL, 10) for _ in range(40)))))
    assert found[""] == 7
    assert set(found) <= {"", "limit.uncovered", "limit.short_sale"}
    assert reason_of(await account.order(desk, SELL, 1)) == "limit.short_sale"


async def test_an_unknown_sale_covers_nothing_until_it_is_known(desk):
    account = Account(held=100)
    before = await account.claims(desk, SELL, 50)
    lost = await account.order(desk, SELL, 60)
    await desk.settle(lost, LOST)
    assert reason_of(await account.order(desk, SELL, 50)) == "limit.short_sale"
    assert reason_of(await desk.admit(claims=before)) == "limit.uncovered"
    assert reason_of(await account.order(desk, SELL, 40)) == ""


async def test_what_is_sold_while_the_position_is_asked_for_is_not_sold_again(desk):
    """The venue tells 100; before the order is admitted, another sale of all of it is admitted, filled and settled."""
    account = Account(held=100)
    late = await account.claims(desk, SELL, 100)
    await account.filled(desk, await account.order(desk, SELL, 100), SELL, 100)
    assert account.held == 0
    refused = await desk.admit(claims=late)
    assert (refused.reason, refused.rules) == ("limit.uncovered", ("limit.uncovered",))
    assert "account:paper/main/AAPL/sell" in refused.sentence
    assert "needs 100000000000" in refused.sentence


async def test_what_was_sold_before_binds_nobody_once_it_is_bought_again(desk):
    account = Account()
    for _ in range(3):
        await account.filled(desk, await account.order(desk, BUY, 100), BUY, 100)
        await account.filled(desk, await account.order(desk, SELL, 100), SELL, 100)
    assert reason_of(await account.order(desk, SELL, 1)) == "limit.short_sale"


async def test_an_open_sale_is_counted_until_it_ends(desk):
    account = Account(held=100)
    sale = await account.order(desk, SELL, 100)
    await desk.ledger.settle(
        msgspec.structs.replace(desk.settlement(sale, came_to(sale, SELL, 100, 0, live=True)), look_unix_us=1)
    )
    assert reason_of(await account.order(desk, SELL, 1)) == "limit.short_sale"
    watched = await looked_for(desk)
    account.fill(SELL, 30)
    ended = came_to(sale, SELL, 100, 30)
    await desk.ledger.conclude(watched, ended, desk.records.finding(watched, ended), None)
    assert reason_of(await account.order(desk, SELL, 71)) == "limit.short_sale"
    assert reason_of(await account.order(desk, SELL, 70)) == ""


async def test_a_sale_that_failed_leaves_all_to_sell(desk):
    account = Account(held=100)
    await desk.settle(await account.order(desk, SELL, 100), NO)
    assert reason_of(await account.order(desk, SELL, 100)) == ""


async def test_an_operator_who_says_that_it_happened_leaves_nothing_open(desk):
    account = Account(held=100)
    lost = await account.order(desk, SELL, 60)
    await desk.settle(lost, LOST)
    account.fill(SELL, 60)
    seen = await desk.ledger.shown(lost.operation)
    outcome = Succeeded(result=b"{}")
    record = desk.records.resolution(act("resolve_operation", lost.operation), seen, outcome, "the statement")
    await desk.ledger.resolve(seen, outcome, record)
    assert reason_of(await account.order(desk, SELL, 41)) == "limit.short_sale"
    assert reason_of(await account.order(desk, SELL, 40)) == ""


@pytest.mark.parametrize("scope", ["agent", "account", "firm"])
async def test_a_short_position_is_bounded_as_a_long_one_is(desk, scope):
    limits = replace(SHORTS, position_max=Scopes(**{scope: 45 * NANO}))
    account = Account(limits=limits)
    found = await asyncio.gather(*(account.order(desk, SELL, 10) for _ in range(20)))
    assert Counter(map(reason_of, found)) == {"": 4, "limit.position": 16}
    for one in found:
        if isinstance(one, Reservation):
            await account.filled(desk, one, SELL, 10)
    assert account.held == -40
    assert reason_of(await account.order(desk, SELL, 6)) == "limit.position"
    for shares in (40, 45):
        bought = await account.order(desk, BUY, shares)
        assert reason_of(bought) == ""
        await account.filled(desk, bought, BUY, shares)
    assert reason_of(await account.order(desk, BUY, 1)) == "limit.position"
    assert reason_of(await account.order(desk, SELL, 90)) == ""


async def test_an_unknown_short_sale_counts_against_the_position(desk):
    account = Account(limits=replace(SHORTS, position_max=Scopes(agent=45 * NANO)))
    await desk.settle(await account.order(desk, SELL, 40), LOST)
    assert reason_of(await account.order(desk, SELL, 6)) == "limit.position"
    assert reason_of(await account.order(desk, SELL, 5)) == ""


async def test_a_short_sale_takes_exposure_and_what_closes_it_always_passes(desk):
    limits = replace(
        SHORTS, exposure_max=10 * PRICE * 105 // 100, barrier=BarrierLimit(gamma_bps=10_000, window_ms=60_000)
    )
    account = Account(limits=limits)
    sold = await account.order(desk, SELL, 10)
    assert desk.balance("agent:trader", Unit.EXPOSURE) == (10 * PRICE * 105 // 100, 0)
    await account.filled(desk, sold, SELL, 10)
    assert desk.balance("agent:trader", Unit.EXPOSURE) == (0, 10 * PRICE)
    assert reason_of(await account.order(desk, SELL, 1)) == "limit.exposure"
    late = await account.claims(desk, BUY, 10)
    bought = await account.order(desk, BUY, 10)
    assert reason_of(bought) == ""
    assert reason_of(await desk.admit(claims=late)) == "limit.uncovered"
    # One that closes more than is owed opens a long position, and is exposure.
    assert reason_of(await account.order(desk, BUY, 1)) == "limit.exposure"
    await account.filled(desk, bought, BUY, 10)
    assert desk.balance("agent:trader", Unit.EXPOSURE) == (0, 0)


async def test_of_agents_on_one_account_who_may_be_short_is_their_own(desk):
    careful, bold = Account(held=50), Account(limits=SHORTS, agent="bold")
    assert reason_of(await careful.order(desk, SELL, 50)) == ""
    assert reason_of(await careful.order(desk, SELL, 1)) == "limit.short_sale"
    bold.held = 50
    assert reason_of(await bold.order(desk, SELL, 5)) == ""
    assert desk.balance("agent:bold", Unit.EXPOSURE) == (525 * NANO // 1_000, 0)


async def test_a_tally_is_of_the_total_window_and_in_the_order_of_its_places(desk):
    account = Account(held=100)
    await account.order(desk, SELL, 3)
    await account.filled(desk, await account.order(desk, SELL, 4), SELL, 4)
    place = "account:paper/main/AAPL/sell"
    told = await desk.ledger.tally(((place, Unit.FILLED), ("nowhere", Unit.TRADED), (place, Unit.TRADED)))
    assert [(one.held, one.spent) for one in told] == [(3 * NANO, 4 * NANO), (0, 0), (3 * NANO, 4 * NANO)]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["look", "look", "admit", "admit", "fill", "fill", "tell", "lose", "buy"]), st.integers(1, 9)
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
async def test_whatever_order_things_happen_in_nothing_is_sold_that_is_not_held(steps):
    """Facts are read, orders admitted, filled and settled in any order, and the account never owes a share."""
    with tempfile.TemporaryDirectory() as folder:
        desk = SqliteDesk(Path(folder) / "ledger.db")
        account, looked, sent = Account(held=20), [], []
        async with desk.open():
            for what, number in steps:
                if what == "look":
                    claims = await account.claims(desk, SELL, number)
                    looked += [(claims, number)] if isinstance(claims, tuple) else []
                elif what == "admit" and looked:
                    claims, shares = looked.pop(number % len(looked))
                    verdict = await desk.admit(claims=claims)
                    sent += [[verdict, shares, 0]] if isinstance(verdict, Reservation) else []
                elif what == "fill" and sent:
                    order = sent[number % len(sent)]
                    part = min(number, order[1] - order[2])
                    order[2] += part
                    account.fill(SELL, part)
                elif what in {"tell", "lose"} and sent:
                    reservation, shares, filled = sent.pop(number % len(sent))
                    outcome = LOST if what == "lose" else came_to(reservation, SELL, shares, filled)
                    await desk.settle(reservation, outcome)
                elif what == "buy":
                    account.fill(BUY, number)
                assert account.held >= sum(shares - filled for _, shares, filled in sent)
        assert desk.checked() == ()
