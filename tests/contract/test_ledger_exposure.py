"""Exposure is what open positions cost: sales give back no more than that, whoever bought, gained or lost.

On every ledger, and over two instances on one PostgreSQL. Whatever is found in a position when an order settles must
also be found from the records alone, so every test ends with adding up again.
"""

import asyncio
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import count
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_accounts import BUY, LONG_ONLY, LOST, NO, PRICE, SELL, SHORTS, Account, came_to, reason_of
from made_calls import act, claim, rooms
from made_desks import PostgresDesk, SqliteDesk

from gateway.terms.limits import Scopes
from gateway.terms.money import MICRO, NANO, Unit
from gateway.terms.operations import Reservation, Succeeded

SCOPES = ("tenant:acme", "account:paper/main", "agent:trader")
TEN = replace(LONG_ONLY, exposure_max=10**9 * MICRO, agent_exposure_max=10 * PRICE)
"""An agent that may have ten shares at the price, on an account without a limit that binds."""


def exposures(desk, *scopes):
    """What is held and spent of each scope's exposure."""
    return [desk.balance(scope, Unit.EXPOSURE) for scope in scopes or SCOPES]


def spent(desk, scope="agent:trader", unit=Unit.EXPOSURE):
    held, charged = desk.balance(scope, unit)
    assert held == 0
    return charged


async def traded(desk, account, side, shares, price=PRICE):
    """An order that is filled at once."""
    reservation = await account.order(desk, side, shares)
    assert isinstance(reservation, Reservation), reservation
    await account.filled(desk, reservation, side, shares, price)


async def placed(desk, account, side, shares, filled=0, price=PRICE):
    """An order of which the rest stays open."""
    reservation = await account.order(desk, side, shares)
    assert isinstance(reservation, Reservation), reservation
    account.fill(side, filled)
    outcome = came_to(reservation, side, shares, filled, live=True, price=price)
    await desk.ledger.settle(msgspec.structs.replace(desk.settlement(reservation, outcome), look_unix_us=1))
    return reservation


async def followed(desk, account, side, outcome, more=0):
    """The only open order is looked for, and so many more shares of it were filled."""
    account.fill(side, more)
    desk.clock.now_us += 10_000_000
    [watched] = await desk.ledger.take(rooms(10), lease_ms=1_000)
    look_us = 1 if isinstance(outcome, Succeeded) and outcome.live else None
    await desk.ledger.conclude(watched, outcome, desk.records.finding(watched, outcome), look_us)


@pytest.mark.parametrize("price", [PRICE, 150 * MICRO, 50 * MICRO, 33_333_333])
async def test_who_has_nothing_has_no_exposure_whatever_was_gained_or_lost(desk, price):
    account = Account(limits=TEN)
    for _ in range(3):
        await traded(desk, account, BUY, 10)
        assert reason_of(await account.order(desk, BUY, 1)) == "limit.exposure"
        await traded(desk, account, SELL, 7, price)
        assert exposures(desk) == [(0, 3 * PRICE)] * 3
        await traded(desk, account, SELL, 3, price)
        assert exposures(desk) == [(0, 0)] * 3


async def test_an_agent_makes_no_room_by_selling_what_another_one_bought(desk):
    """It gives back what the account and the firm have in it, and nothing of its own, for it has nothing."""
    other = Account(agent="other")
    await traded(desk, other, BUY, 50)
    trader = Account(held=other.held, limits=TEN)
    for _ in range(5):
        await traded(desk, trader, SELL, 10)
    assert exposures(desk, *SCOPES, "agent:other") == [(0, 0)] * 3 + [(0, 50 * PRICE)]
    refused = await trader.order(desk, BUY, 11)
    assert refused.reason == "limit.exposure"
    assert f"{10 * PRICE} are left and this order needs {11 * PRICE}" in refused.sentence
    await traded(desk, trader, BUY, 10)
    assert reason_of(await trader.order(desk, BUY, 1)) == "limit.exposure"
    assert exposures(desk) == [(0, 10 * PRICE)] * 3


async def test_selling_what_nobody_here_bought_makes_no_room_for_anyone(desk):
    account = Account(held=100, limits=replace(TEN, exposure_max=10 * PRICE))
    await traded(desk, account, BUY, 10)
    await traded(desk, account, SELL, 100)
    assert exposures(desk) == [(0, 0)] * 3
    await traded(desk, account, BUY, 10)
    assert reason_of(await account.order(desk, BUY, 1)) == "limit.exposure"


@pytest.mark.parametrize("scope", ["agent", "account", "firm"])
async def test_nor_for_a_larger_position(desk, scope):
    limits = replace(LONG_ONLY, position_max=Scopes(**{scope: 5 * NANO}))
    account = Account(held=100, limits=limits)
    await traded(desk, account, SELL, 50)
    await traded(desk, account, BUY, 5)
    assert reason_of(await account.order(desk, BUY, 1)) == "limit.position"
    await traded(desk, account, SELL, 2)
    await traded(desk, account, BUY, 2)
    assert reason_of(await account.order(desk, BUY, 1)) == "limit.position"


async def test_a_sale_closes_at_average_cost(desk):
    account = Account()
    await traded(desk, account, BUY, 1, 70 * MICRO)
    await traded(desk, account, BUY, 2, 80 * MICRO)
    assert spent(desk) == 230 * MICRO
    await traded(desk, account, SELL, 1, PRICE)
    # A third of 230 dollars, rounded down.
    assert spent(desk) == 230 * MICRO - 76_666_666
    await traded(desk, account, SELL, 2, 10 * MICRO)
    assert spent(desk) == 0


async def test_each_fill_of_a_sale_gives_its_part_back_once(desk):
    account = Account()
    await traded(desk, account, BUY, 10)
    sale = await placed(desk, account, SELL, 8, filled=2)
    assert spent(desk) == 8 * PRICE
    for filled, live in ((2, True), (5, True), (6, False)):
        await followed(desk, account, SELL, came_to(sale, SELL, 8, filled, live=live))
        assert exposures(desk) == [(0, (10 - filled) * PRICE)] * 3


async def test_what_was_never_filled_is_given_back_whole_whatever_was_sold_meanwhile(desk):
    """Ten are ordered and four filled below the limit price; two of these are sold, and the rest is cancelled."""
    account = Account()
    order = await placed(desk, account, BUY, 10, filled=4, price=90 * MICRO)
    assert spent(desk) == 4 * 90 * MICRO + 6 * PRICE
    await traded(desk, account, SELL, 2, 95 * MICRO)
    assert spent(desk) == 2 * 90 * MICRO + 6 * PRICE
    await followed(desk, account, BUY, came_to(order, BUY, 10, 4, price=90 * MICRO))
    assert exposures(desk) == [(0, 2 * 90 * MICRO)] * 3
    await traded(desk, account, SELL, 2, 95 * MICRO)
    assert exposures(desk) == [(0, 0)] * 3


async def test_a_fill_that_the_venue_takes_back_is_taken_back(desk):
    account = Account()
    order = await placed(desk, account, BUY, 10, filled=6)
    await followed(desk, account, BUY, came_to(order, BUY, 10, 2, live=True), more=-4)
    assert exposures(desk) == [(0, 10 * PRICE)] * 3
    await followed(desk, account, BUY, NO, more=-2)
    assert exposures(desk) == [(0, 0)] * 3


async def test_a_sale_that_the_venue_takes_back_is_exposure_again(desk):
    account = Account()
    await traded(desk, account, BUY, 10)
    sale = await placed(desk, account, SELL, 10, filled=6)
    assert spent(desk) == 4 * PRICE
    await followed(desk, account, SELL, came_to(sale, SELL, 10, 2), more=-4)
    assert exposures(desk) == [(0, 8 * PRICE)] * 3


async def test_a_short_sale_is_exposure_until_it_is_bought_back(desk):
    account = Account(limits=replace(SHORTS, agent_exposure_max=1_050 * MICRO))
    await traded(desk, account, SELL, 10, 110 * MICRO)
    assert exposures(desk) == [(0, 1_100 * MICRO)] * 3
    assert reason_of(await account.order(desk, SELL, 1)) == "limit.exposure"
    await traded(desk, account, BUY, 4, 50 * MICRO)
    assert exposures(desk) == [(0, 660 * MICRO)] * 3
    await traded(desk, account, BUY, 6, 150 * MICRO)
    assert exposures(desk) == [(0, 0)] * 3


async def test_a_purchase_by_one_who_may_not_be_short_closes_what_another_one_owes(desk):
    bold = Account(limits=SHORTS, agent="bold")
    await traded(desk, bold, SELL, 10)
    careful = Account(held=bold.held)
    await traded(desk, careful, BUY, 10)
    # The account has nothing any more; each agent has its own, which the other one does not close.
    assert exposures(desk, *SCOPES[:2]) == [(0, 0)] * 2
    assert exposures(desk, "agent:bold", "agent:trader") == [(0, 10 * PRICE)] * 2


async def test_one_order_closes_what_is_owed_and_opens_the_rest(desk):
    account = Account(limits=SHORTS)
    await traded(desk, account, SELL, 4)
    await traded(desk, account, BUY, 10, 90 * MICRO)
    assert exposures(desk) == [(0, 6 * 90 * MICRO)] * 3
    await traded(desk, account, SELL, 6)
    assert exposures(desk) == [(0, 0)] * 3


async def test_what_one_account_owes_closes_nothing_of_another_one(desk):
    """Or a firm or an agent could be long and short of one symbol without limit."""
    limits = replace(SHORTS, agent_exposure_max=20 * PRICE, firm_exposure_max=25 * PRICE)
    main, side = Account(limits=limits), Account(limits=limits, name="side")
    await traded(desk, main, BUY, 10)
    await traded(desk, side, SELL, 9)
    assert exposures(desk) == [(0, 19 * PRICE), (0, 10 * PRICE), (0, 19 * PRICE)]
    assert reason_of(await main.order(desk, BUY, 2)) == "limit.exposure"
    await traded(desk, side, BUY, 9)
    await traded(desk, main, SELL, 10)
    assert exposures(desk) == [(0, 0)] * 3


async def test_what_an_operator_says_was_filled_can_be_sold(desk):
    account = Account()
    lost = await account.order(desk, BUY, 10)
    await desk.settle(lost, LOST)
    assert exposures(desk) == [(10 * PRICE, 0)] * 3
    seen = await desk.ledger.shown(lost.operation)
    outcome = Succeeded(result=b"{}", charges=((Unit.FILLED, 4 * NANO), (Unit.EXPOSURE, 4 * PRICE)))
    await desk.ledger.resolve(
        seen, outcome, desk.records.resolution(act("resolve_operation", lost.operation), seen, outcome, "the statement")
    )
    account.fill(BUY, 4)
    assert exposures(desk) == [(0, 4 * PRICE)] * 3
    await traded(desk, account, SELL, 3)
    assert exposures(desk) == [(0, PRICE)] * 3


def of_old(amount):
    """The claims of an order as older gateways wrote them."""
    return [claim(scope=scope, unit=Unit.EXPOSURE, window="total", limit=LIMIT, amount=amount) for scope in SCOPES]


async def test_what_an_older_gateway_left_below_zero_is_no_room(desk):
    """It wrote only the exposure of a sale, which no purchase had taken."""
    given = Succeeded(result=b"{}", charges=((Unit.EXPOSURE, -95 * PRICE),))
    await desk.settle(await desk.admit(claims=of_old(0)), given)
    assert exposures(desk) == [(0, -95 * PRICE)] * 3
    account = Account(limits=replace(TEN, exposure_max=10 * PRICE))
    refused = await account.order(desk, BUY, 11)
    assert f"{10 * PRICE} are left and this order needs {11 * PRICE}" in refused.sentence
    for _ in range(2):
        await traded(desk, account, BUY, 5)
    assert exposures(desk) == [(0, 10 * PRICE)] * 3
    assert reason_of(await account.order(desk, BUY, 1)) == "limit.exposure"
    await traded(desk, account, SELL, 10)
    assert exposures(desk) == [(0, 0)] * 3


async def test_what_an_older_gateway_counted_still_counts(desk):
    await desk.settle(await desk.admit(claims=of_old(6 * PRICE)), Succeeded(result=b"{}"))
    account = Account(held=6, limits=TEN)
    assert reason_of(await account.order(desk, BUY, 5)) == "limit.exposure"
    await traded(desk, account, BUY, 4)
    await traded(desk, account, SELL, 10)
    assert exposures(desk) == [(0, 6 * PRICE)] * 3


def named(number):
    """Names for operations that no other instance gives."""
    return (f"op-{number}-{turn}" for turn in count(1))


async def test_two_instances_that_settle_at_once_give_nothing_back_twice(postgres_url):
    """Both agents' orders close the account's position; each instance remembers balances that the other one changes."""
    async with AsyncExitStack() as stack:
        desks = [PostgresDesk(postgres_url, instance=f"gateway-{number}", names=named(number)) for number in range(2)]
        for one in desks:
            await stack.enter_async_context(one.open())
        buyer = Account(agent="buyer")
        await traded(desks[0], buyer, BUY, 20)
        sellers = [Account(held=20, agent=name, limits=replace(TEN, exposure_max=10**9)) for name in ("one", "two")]
        sales = [
            (desks[number % 2], await sellers[number % 2].order(desks[number % 2], SELL, 1)) for number in range(20)
        ]
        await asyncio.gather(*(one.settle(sale, came_to(sale, SELL, 1, 1)) for one, sale in sales))
        assert exposures(desks[0], *SCOPES, "agent:one", "agent:two") == [(0, 0)] * 5
        assert exposures(desks[1], "agent:buyer") == [(0, 20 * PRICE)]
        found = await asyncio.gather(
            *(sellers[number % 2].order(desks[number % 2], BUY, 2) for number in range(20)),
        )
        assert sum(isinstance(one, Reservation) for one in found) == 5
        assert desks[0].checked() == ()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["one", "two"]),
        st.sampled_from([BUY, BUY, SELL]),
        st.integers(1, 9),
        st.sampled_from(["fill", "fill", "part", "fail", "lose"]),
        st.integers(1, 140),
    ),
    max_size=30,
)
LIMIT = 12 * PRICE


@dataclass
class Open:
    """What an agent has open of its own purchases, and what that cost, exactly."""

    shares: int = 0
    cost: Fraction = Fraction(0)

    def fill(self, side, shares, price):
        if side is BUY:
            self.shares, self.cost = self.shares + shares, self.cost + shares * price
        elif self.shares:
            closed = min(shares, self.shares)
            self.cost -= self.cost * closed / self.shares
            self.shares -= closed


@settings(max_examples=80, deadline=None)
@given(STEPS, st.booleans())
async def test_whatever_is_traded_no_exposure_is_below_zero_or_left_of_nothing(steps, shorts):
    """And what is open of an agent's own purchases cost no more than its limit, when no fill is above its hold."""
    with tempfile.TemporaryDirectory() as folder:
        desk = SqliteDesk(Path(folder) / "ledger.db")
        limits = replace(SHORTS if shorts else LONG_ONLY, agent_exposure_max=LIMIT)
        agents = {name: Account(agent=name, limits=limits) for name in ("one", "two")}
        own, held = {name: Open() for name in agents}, 0
        async with desk.open():
            for name, side, shares, fate, dollars in steps:
                account = agents[name]
                account.held = held
                reservation = await account.order(desk, side, shares)
                if not isinstance(reservation, Reservation):
                    continue
                filled = {"fill": shares, "part": shares // 2}.get(fate, 0)
                price = min(dollars, 100 if side is BUY else 140) * MICRO
                outcome = LOST if fate == "lose" else came_to(reservation, side, shares, filled, price=price)
                await desk.settle(reservation, outcome if filled or fate == "lose" else NO)
                held += filled if side is BUY else -filled
                own[name].fill(side, filled, price)
                charged = [balance[1] for balance in exposures(desk, *SCOPES[:2], "agent:one", "agent:two")]
                assert min(charged) >= 0
                if held == 0:
                    assert charged[:2] == [0, 0]
                if not shorts:
                    # Each fill is rounded up by less than one millionth.
                    for one, exposure in zip(own.values(), charged[2:], strict=True):
                        assert one.cost <= exposure <= min(LIMIT, one.cost + len(steps))
        assert desk.checked() == ()
