"""The venue: what accounts may do, what is held and given back, and that nothing is ever created or lost."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.exchange.accounts import Position
from localcloud.exchange.book import Side, TimeInForce
from localcloud.exchange.instruments import MICROS, Instrument
from localcloud.exchange.liquidity import Liquidity
from localcloud.exchange.orders import OrderRefusedError, OrderTerms, OrderType, Reason, Status
from localcloud.exchange.venue import Credential, Venue, VenueConfig

BUY, SELL = Side.BUY, Side.SELL
DAY, GTC, IOC, FOK = TimeInForce.DAY, TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK
NOON = 1_795_435_200_000_000
ACME = Instrument(symbol="ACME", name="Acme", reference_ticks=1_000)  # 10.00 dollars a share
THIN = Liquidity(levels=2, lots=100, drift_ticks=0, replenish=False)


class Clock:
    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now


def venue_of(cash=10_000, others=(), clock=None, **config):
    cash_of = {"A": cash, **dict(others)}
    credentials = tuple(
        Credential(key_id=key, secret=f"secret-{key}", cash_micros=dollars * MICROS) for key, dollars in cash_of.items()
    )
    settings_ = {"instruments": (ACME,), "liquidity": None, **config}
    return Venue(VenueConfig(credentials=credentials, **settings_), clock or Clock())


def terms(side, lots, limit=None, tif=DAY, client_id=None):
    return OrderTerms(
        symbol="ACME",
        side=side,
        type=OrderType.MARKET if limit is None else OrderType.LIMIT,
        tif=tif,
        lots=lots,
        limit_ticks=limit,
        client_order_id=client_id,
    )


def refused(call, *arguments):
    with pytest.raises(OrderRefusedError) as refusal:
        call(*arguments)
    return refusal.value


def dollars(micros):
    return micros / MICROS


def test_a_market_order_fills_against_the_maker_and_moves_cash_and_shares():
    venue = venue_of(liquidity=THIN)
    account = venue.accounts[0]
    order = venue.submit(account, terms(BUY, 10))
    assert (order.status, order.filled_lots) == (Status.FILLED, 10)
    assert account.positions["ACME"].lots == 10
    assert dollars(account.cash_micros) == 10_000 - 10 * 10.01
    assert venue.maker.account.positions["ACME"].lots == THIN.inventory_lots - 10


def test_an_open_buy_holds_its_limit_value_and_cancelling_gives_it_back():
    venue = venue_of()
    account = venue.accounts[0]
    order = venue.submit(account, terms(BUY, 100, 900))
    assert (dollars(account.cash_micros), dollars(account.buying_power_micros)) == (10_000, 9_100)
    venue.cancel(account, order.id)
    assert (order.status, account.held_micros) == (Status.CANCELED, 0)


def test_a_better_fill_gives_back_the_difference_to_the_limit():
    venue = venue_of(liquidity=THIN)
    account = venue.accounts[0]
    order = venue.submit(account, terms(BUY, 10, 1_050))
    assert order.status is Status.FILLED
    assert dollars(account.buying_power_micros) == 10_000 - 10 * 10.01


def test_open_orders_count_against_buying_power():
    venue = venue_of(cash=1_000)
    account = venue.accounts[0]
    venue.submit(account, terms(BUY, 60, 1_000))
    refusal = refused(venue.submit, account, terms(BUY, 41, 1_000))
    assert refusal.reason is Reason.INSUFFICIENT_BUYING_POWER
    assert refusal.details == {"buying_power": "400", "cost_basis": "410"}
    assert venue.submit(account, terms(BUY, 40, 1_000)).status is Status.NEW


def test_a_market_buy_is_refused_when_what_it_would_really_cost_is_not_there():
    venue = venue_of(cash=100, liquidity=THIN)
    account = venue.accounts[0]
    assert refused(venue.submit, account, terms(BUY, 10)).reason is Reason.INSUFFICIENT_BUYING_POWER
    assert (account.cash_micros, account.positions, len(venue.orders)) == (100 * MICROS, {}, 0)


def test_what_is_not_held_cannot_be_sold_and_what_is_promised_not_twice():
    venue = venue_of(liquidity=THIN)
    account = venue.accounts[0]
    assert refused(venue.submit, account, terms(SELL, 1)).reason is Reason.INSUFFICIENT_QUANTITY
    venue.submit(account, terms(BUY, 10))
    resting = venue.submit(account, terms(SELL, 8, 2_000))
    refusal = refused(venue.submit, account, terms(SELL, 3))
    assert refusal.message == "insufficient qty available for order (requested: 3, available: 2)"
    assert refusal.details == {"available": "2", "existing_qty": "10", "held_for_orders": "8", "symbol": "ACME"}
    venue.cancel(account, resting.id)
    assert venue.submit(account, terms(SELL, 10)).status is Status.FILLED
    assert account.positions == {}


def test_partial_fills_keep_working_and_add_up():
    venue = venue_of(others=[("B", 10_000)], liquidity=THIN)
    buyer, seller = venue.accounts
    venue.submit(seller, terms(BUY, 50))
    bid = venue.submit(buyer, terms(BUY, 30, 1_000))
    venue.submit(seller, terms(SELL, 10, 1_000))
    assert (bid.status, bid.filled_lots, bid.is_open) == (Status.PARTIALLY_FILLED, 10, True)
    assert dollars(buyer.held_micros) == 200
    venue.submit(seller, terms(SELL, 20, 1_000))
    assert (bid.status, bid.open_lots, buyer.held_micros) == (Status.FILLED, 0, 0)
    assert venue.open_orders(buyer) == []
    assert [trade.cumulative_lots for trade in venue.fills_of(buyer)] == [30, 10]


def test_remainders_that_may_not_rest_are_canceled_and_what_meets_nobody_is_rejected():
    venue = venue_of(cash=100_000, liquidity=THIN)
    account = venue.accounts[0]
    ioc = venue.submit(account, terms(BUY, 1_000, 1_001, IOC))
    assert (ioc.status, 0 < ioc.filled_lots < 1_000, account.held_micros) == (Status.CANCELED, True, 0)
    assert venue.submit(account, terms(BUY, 5_000, 1_010, FOK)).filled_lots == 0
    assert venue.submit(account, terms(BUY, 1_000)).status is Status.CANCELED
    assert venue.submit(account, terms(BUY, 1_000)).status is Status.REJECTED


@pytest.mark.parametrize("limit", [None, 1_000, 1_001])
def test_an_order_that_could_trade_with_an_own_order_is_refused(limit):
    venue = venue_of(liquidity=THIN)
    account = venue.accounts[0]
    venue.submit(account, terms(BUY, 10))
    ask = venue.submit(account, terms(SELL, 5, 1_000 if limit is None else limit))
    assert ask.status is Status.NEW
    refusal = refused(venue.submit, account, terms(BUY, 1, limit))
    assert (refusal.reason, refusal.details["existing_order_id"]) == (Reason.WASH_TRADE, ask.id)


def test_a_client_order_id_is_used_once_per_account_also_after_the_order_ended():
    venue = venue_of(others=[("B", 1_000)])
    first, second = venue.accounts
    order = venue.submit(first, terms(BUY, 1, 500, client_id="mine"))
    venue.cancel(first, order.id)
    assert refused(venue.submit, first, terms(BUY, 1, 500, client_id="mine")).reason is Reason.DUPLICATE_CLIENT_ORDER_ID
    assert venue.submit(second, terms(BUY, 1, 500, client_id="mine")).id != order.id
    assert venue.order_by_client_id(first, "mine") is order


def test_a_refused_order_leaves_its_client_order_id_free():
    venue = venue_of(cash=10)
    account = venue.accounts[0]
    refused(venue.submit, account, terms(BUY, 1_000, 1_000, client_id="again"))
    assert venue.submit(account, terms(BUY, 1, 500, client_id="again")).status is Status.NEW


def test_accounts_do_not_see_each_others_orders():
    venue = venue_of(others=[("B", 1_000)])
    first, second = venue.accounts
    order = venue.submit(first, terms(BUY, 1, 500, client_id="x"))
    assert refused(venue.order, second, order.id).reason is Reason.NOT_FOUND
    assert refused(venue.cancel, second, order.id).reason is Reason.NOT_FOUND
    assert refused(venue.order_by_client_id, second, "x").reason is Reason.NOT_FOUND


def test_an_ended_order_cannot_be_cancelled():
    venue = venue_of(liquidity=THIN)
    account = venue.accounts[0]
    filled = venue.submit(account, terms(BUY, 1))
    refusal = refused(venue.cancel, account, filled.id)
    assert (refusal.reason, refusal.message) == (Reason.NOT_CANCELABLE, 'order is already in "filled" state')


def test_day_orders_expire_with_the_day_and_gtc_orders_do_not():
    clock = Clock()
    venue = venue_of(clock=clock)
    account = venue.accounts[0]
    day, gtc = venue.submit(account, terms(BUY, 1, 500)), venue.submit(account, terms(BUY, 1, 500, GTC))
    clock.now = venue.closes_us - 1
    assert venue.open_orders(account) == [day, gtc]
    clock.now += 1
    assert venue.open_orders(account) == [gtc]
    assert (day.status, day.ended_us, dollars(account.held_micros)) == (Status.EXPIRED, clock.now, 5)


def test_a_resting_order_fills_when_the_market_comes_to_it():
    clock = Clock()
    venue = venue_of(clock=clock, liquidity=Liquidity(levels=3, lots=100, drift_ticks=50, interval_us=1_000))
    account = venue.accounts[0]
    order = venue.submit(account, terms(BUY, 10, 985, GTC))
    assert order.status is Status.NEW
    for _ in range(2_000):
        clock.now += 1_000
        venue.advance()
    assert (order.status, order.filled_micros) == (Status.FILLED, 10 * 985 * 10_000)


def test_fees_are_rounded_up_once_per_order_and_not_per_fill():
    venue = venue_of(others=[("B", 0)], fee_ppm=1)
    buyer, seller = venue.accounts
    seller.positions["ACME"] = Position(lots=3)
    for _ in range(3):
        assert venue.submit(seller, terms(SELL, 1, 1_001)).fee_micros == 0
    order = venue.submit(buyer, terms(BUY, 3, 1_001))
    assert order.fee_micros == 31  # 3 x 10.01 dollars x 1 ppm = 30.03 micro-dollars; by fill it would be 33.
    assert buyer.cash_micros == 10_000 * MICROS - 30_030_000 - 31
    assert seller.cash_micros == 30_030_000 - 3 * 11
    assert venue.markets["ACME"].fees_micros == 31 + 3 * 11


def test_the_hold_of_a_buy_order_covers_its_fee():
    venue = venue_of(cash=10, fee_ppm=1)
    account = venue.accounts[0]
    assert refused(venue.submit, account, terms(BUY, 1, 1_000)).details["cost_basis"] == "10.00001"
    venue.submit(account, terms(BUY, 1, 999))
    assert account.held_micros == 9_990_000 + 10


def test_the_maker_puts_back_what_was_traded_away():
    venue = venue_of(cash=10_000_000, liquidity=Liquidity(levels=2, lots=10, drift_ticks=0))
    account = venue.accounts[0]
    for _ in range(100):
        assert venue.submit(account, terms(BUY, 5)).status is Status.FILLED
    assert len(venue.markets["ACME"].book) == 4


def test_the_maker_does_not_trade_when_it_puts_back_its_quotes():
    venue = venue_of(cash=100_000, liquidity=Liquidity(levels=1, lots=10, drift_ticks=0))
    order = venue.submit(venue.accounts[0], terms(BUY, 500, 1_001))
    assert len(list(venue.fills_of(venue.accounts[0]))) == 1
    assert venue.markets["ACME"].book.best(BUY) == (1_001, order.open_lots)
    assert venue.markets["ACME"].book.best(SELL) is None


def test_ids_repeat_exactly_with_seed_and_opening_time_and_not_otherwise():
    def first_id(seed, now):
        clock = Clock()
        clock.now = now
        venue = venue_of(clock=clock, seed=seed)
        return venue.submit(venue.accounts[0], terms(BUY, 1, 500)).id

    assert first_id(1, NOON) == first_id(1, NOON)
    assert len({first_id(1, NOON), first_id(2, NOON), first_id(1, NOON + 1)}) == 3


@pytest.mark.parametrize(
    "config, lots, limit, reason",
    [
        ({"is_open": False}, 1, 500, Reason.MARKET_CLOSED),
        ({"instruments": (Instrument(symbol="ACME", name="", reference_ticks=10),)}, 9, 10, Reason.INVALID),
        ({"max_orders": 0}, 1, 500, Reason.CAPACITY),
        ({"max_open_orders": 0}, 1, 500, Reason.CAPACITY),
    ],
)
def test_orders_the_venue_does_not_take(config, lots, limit, reason):
    venue = venue_of(**config)
    assert refused(venue.submit, venue.accounts[0], terms(BUY, lots, limit)).reason is reason


def test_key_pairs():
    venue = venue_of(others=[("B", 1)])
    assert venue.authenticate("B", "secret-B") is venue.accounts[1]
    for key, secret in [("B", "secret-A"), ("B", ""), ("C", ""), ("C", "secret-B"), ("B", "s\udcff")]:
        assert venue.authenticate(key, secret) is None


@pytest.mark.parametrize(
    "broken",
    [
        {"credentials": ()},
        {"credentials": (Credential(key_id="A", secret="s", cash_micros=1),) * 2},
        {"credentials": (Credential(key_id="A", secret="", cash_micros=1),)},
        {"credentials": (Credential(key_id="A", secret="s", cash_micros=-1),)},
        {"instruments": (ACME, ACME)},
        {"fee_ppm": -1},
    ],
)
def test_a_venue_that_cannot_work_is_not_built(broken):
    with pytest.raises(ValueError, match=r"key pair|listed once|fees lie"):
        VenueConfig(**{"credentials": (Credential(key_id="A", secret="s", cash_micros=1),), **broken})


def test_a_secret_is_not_shown():
    assert "secret-A" not in repr(venue_of().config)


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from([BUY, SELL]),
            st.integers(1, 60),
            st.one_of(st.none(), st.integers(990, 1_010)),
            st.sampled_from([DAY, DAY, GTC, IOC, FOK]),
        ),
        st.tuples(st.just("cancel"), st.integers(0, 40)),
        st.tuples(st.just("wait"), st.sampled_from([1_000, 1_000_000, 86_400_000_000])),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=300)
@given(STEPS, st.sampled_from([0, 250, 9_999]))
def test_cash_and_shares_are_conserved_and_no_account_overspends(steps, fee_ppm):
    clock = Clock()
    liquidity = Liquidity(levels=3, lots=20, drift_ticks=8, inventory_lots=500, cash_micros=3_000 * MICROS)
    venue = venue_of(400, [("B", 900), ("C", 3_000)], clock, liquidity=liquidity, fee_ppm=fee_ppm)
    everybody = [*venue.accounts, venue.maker.account]
    cash = sum(account.cash_micros for account in everybody)
    for step in steps:
        _play(venue, clock, step)
        market = venue.markets["ACME"]
        assert sum(account.cash_micros for account in everybody) + market.fees_micros == cash
        assert sum(account.position("ACME").lots for account in everybody) == 500
        working = market.working()
        for account in everybody:
            mine = [order for order in working if order.account is account]
            position = account.position("ACME")
            assert account.held_micros == sum(order.held_micros for order in mine)
            assert position.held_lots == sum(order.open_lots for order in mine if order.terms.side is SELL)
            assert account.buying_power_micros >= 0
            assert position.available_lots >= 0
            assert account is venue.maker.account or mine == venue.open_orders(account)
        bid, ask = market.book.best(BUY), market.book.best(SELL)
        assert bid is None or ask is None or bid[0] < ask[0]


def _play(venue, clock, step):
    if step[0] == "wait":
        clock.now += step[1]
        venue.advance()
    elif step[0] == "cancel":
        open_orders = [order for account in venue.accounts for order in venue.open_orders(account)]
        if open_orders:
            order = open_orders[step[1] % len(open_orders)]
            venue.cancel(order.account, order.id)
    else:
        who, side, lots, limit, tif = step
        with contextlib.suppress(OrderRefusedError):
            venue.submit(venue.accounts[who], terms(side, lots, limit, tif))
