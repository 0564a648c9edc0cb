"""Alpaca's own client judges the paper exchange: what it sends is understood and what it reads is what it expects."""

import asyncio
import datetime as dt

import pytest
from alpaca.common.enums import Sort
from alpaca.common.exceptions import APIError
from alpaca.data.historical import StockHistoricalDataClient
from alpaca.data.requests import StockLatestQuoteRequest
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import (
    AccountStatus,
    AssetStatus,
    OrderSide,
    OrderStatus,
    OrderType,
    PositionSide,
    QueryOrderStatus,
    TimeInForce,
)
from alpaca.trading.requests import GetOrdersRequest, LimitOrderRequest, MarketOrderRequest

from localcloud.exchange import Credential, ExchangeConfig, PaperExchange, VenueConfig
from localcloud.exchange.faults import Fault, FaultKind


class Judge:
    """Alpaca's synchronous clients, each call in a thread so that the exchange can answer in this one."""

    def __init__(self, url, key="KEY", secret="SECRET"):
        self.trading = TradingClient(key, secret, paper=True, url_override=url)
        self.data = StockHistoricalDataClient(key, secret, url_override=url)
        for client in (self.trading, self.data):
            client._retry_wait = 0

    async def __call__(self, method, *arguments):
        client = self.data if method.startswith("get_stock") else self.trading
        return await asyncio.wait_for(asyncio.to_thread(getattr(client, method), *arguments), 10)

    async def refused(self, method, *arguments):
        with pytest.raises(APIError) as error:
            await self(method, *arguments)
        return error.value.status_code, error.value.code, error.value.message

    def close(self):
        self.trading._session.close()
        self.data._session.close()


@pytest.fixture
async def exchange():
    credential = Credential(key_id="KEY", secret="SECRET", cash_micros=100_000_000_000)
    async with PaperExchange(ExchangeConfig(venue=VenueConfig(credentials=(credential,)))) as running:
        yield running


@pytest.fixture
async def judge(exchange):
    judge = Judge(exchange.url)
    yield judge
    judge.close()


def buy(qty=10, **more):
    return MarketOrderRequest(symbol="AAPL", qty=qty, side=OrderSide.BUY, time_in_force=TimeInForce.DAY, **more)


def bid(price, tif=TimeInForce.GTC, **more):
    return LimitOrderRequest(symbol="MSFT", qty=2, side=OrderSide.BUY, time_in_force=tif, limit_price=price, **more)


async def test_a_market_order_fills(judge):
    order = await judge("submit_order", buy(client_order_id="judge-1"))
    assert (order.status, order.type, order.side) == (OrderStatus.FILLED, OrderType.MARKET, OrderSide.BUY)
    assert (order.qty, order.filled_qty, order.client_order_id) == ("10", "10", "judge-1")
    assert abs(float(order.filled_avg_price) - 189.5) < 1
    assert abs(order.filled_at - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=1)
    assert await judge("get_order_by_id", order.id) == order
    assert await judge("get_order_by_client_id", "judge-1") == order


async def test_limit_orders_rest_are_listed_and_cancelled(judge):
    first, second = [await judge("submit_order", bid(price)) for price in (100.5, 101)]
    assert (first.status, first.limit_price, first.time_in_force) == (OrderStatus.NEW, "100.5", TimeInForce.GTC)
    everything = GetOrdersRequest(status=QueryOrderStatus.OPEN, symbols=["MSFT"], direction=Sort.ASC, limit=10)
    assert [order.id for order in await judge("get_orders", everything)] == [first.id, second.id]
    assert await judge("cancel_order_by_id", first.id) is None
    assert (await judge("get_order_by_id", first.id)).status is OrderStatus.CANCELED
    assert [(each.id, each.status) for each in await judge("cancel_orders")] == [(second.id, 200)]
    assert await judge("get_orders") == []
    now = dt.datetime.now(dt.UTC)
    since = GetOrdersRequest(status=QueryOrderStatus.CLOSED, after=now - dt.timedelta(hours=1), until=now)
    assert {order.id for order in await judge("get_orders", since)} == {first.id, second.id}


@pytest.mark.parametrize("tif, status", [(TimeInForce.IOC, "canceled"), (TimeInForce.FOK, "canceled")])
async def test_orders_that_do_not_rest(judge, tif, status):
    order = await judge("submit_order", bid(100, tif))
    assert (order.status, order.filled_qty, order.filled_avg_price) == (status, "0", None)


async def test_positions_and_account_follow_the_fills(judge):
    await judge("submit_order", buy(4))
    position = await judge("get_open_position", "AAPL")
    assert (position.qty, position.qty_available, position.side) == ("4", "4", PositionSide.LONG)
    assert [held.symbol for held in await judge("get_all_positions")] == ["AAPL"]
    account = await judge("get_account")
    assert (account.status, account.currency, account.shorting_enabled) == (AccountStatus.ACTIVE, "USD", False)
    assert float(account.cash) == pytest.approx(100_000 - float(position.cost_basis))
    assert account.buying_power == account.cash


async def test_clock_asset_and_quotes(judge):
    clock = await judge("get_clock")
    assert clock.is_open
    assert clock.timestamp < clock.next_close
    asset = await judge("get_asset", "GOOG")
    assert (asset.symbol, asset.status, asset.tradable) == ("GOOG", AssetStatus.ACTIVE, True)
    quotes = await judge("get_stock_latest_quote", StockLatestQuoteRequest(symbol_or_symbols=["AAPL", "GOOG"]))
    assert sorted(quotes) == ["AAPL", "GOOG"]
    assert 0 < quotes["AAPL"].bid_price < quotes["AAPL"].ask_price
    assert abs(quotes["AAPL"].timestamp - clock.timestamp) < dt.timedelta(seconds=5)
    single = await judge("get_stock_latest_quote", StockLatestQuoteRequest(symbol_or_symbols="GOOG"))
    assert list(single) == ["GOOG"]


async def test_refusals_are_api_errors_with_alpacas_codes(judge):
    assert await judge.refused("submit_order", buy(10_000)) == (403, 40310000, "insufficient buying power")
    sell = MarketOrderRequest(symbol="AAPL", qty=1, side=OrderSide.SELL, time_in_force=TimeInForce.DAY)
    assert (await judge.refused("submit_order", sell))[:2] == (403, 40310000)
    await judge("submit_order", buy(1, client_order_id="once"))
    duplicate = await judge.refused("submit_order", buy(1, client_order_id="once"))
    assert duplicate == (422, 40010001, "client_order_id must be unique")
    assert (await judge.refused("submit_order", bid(100.005)))[:2] == (422, 42210000)
    assert (await judge.refused("submit_order", buy(0.5)))[:2] == (422, 42210000)
    by_value = MarketOrderRequest(symbol="AAPL", notional=100, side=OrderSide.BUY, time_in_force=TimeInForce.DAY)
    assert (await judge.refused("submit_order", by_value))[:2] == (422, 42210000)
    unknown = "7a3c9f0e-0000-4000-8000-000000000000"
    assert (await judge.refused("get_order_by_id", unknown))[:2] == (404, 40410000)
    assert (await judge.refused("cancel_order_by_id", unknown))[:2] == (404, 40410000)
    assert (await judge.refused("get_open_position", "MSFT"))[:2] == (404, 40410000)
    filled = await judge("get_order_by_client_id", "once")
    assert await judge.refused("cancel_order_by_id", filled.id) == (422, 42210000, 'order is already in "filled" state')


async def test_a_wrong_secret_is_refused(exchange):
    intruder = Judge(exchange.url, secret="guess")
    assert await intruder.refused("get_account") == (401, 40110000, "request is not authorized.")
    intruder.close()


async def test_the_judge_sends_an_order_again_when_the_reply_to_an_accepted_one_is_lost(exchange, judge):
    """Without a client order id, an answer of 504 makes this client place the order a second time."""
    exchange.faults.add([Fault(kind=FaultKind.STATUS_AFTER, status=504)])
    await judge("submit_order", buy(1))
    assert len(exchange.venue.orders) == 2


async def test_with_a_client_order_id_the_second_sending_is_refused_and_the_order_can_be_found(exchange, judge):
    exchange.faults.add([Fault(kind=FaultKind.STATUS_AFTER, status=504)])
    assert (await judge.refused("submit_order", buy(1, client_order_id="mine")))[:2] == (422, 40010001)
    assert (await judge("get_order_by_client_id", "mine")).status is OrderStatus.FILLED
    assert len(exchange.venue.orders) == 1
