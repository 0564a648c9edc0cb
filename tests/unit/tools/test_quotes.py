"""The quote board: one fetch for everybody who asks at the same time, and ages by the quote's own time."""

import asyncio
from decimal import Decimal

import pytest

from gateway.tools import quotes
from gateway.tools.alpaca_wire import Quote
from gateway.tools.quotes import NoQuote, QuoteBoard


class HandClock:
    """A clock that is turned by hand."""

    def __init__(self):
        self.now_us = 10_000_000
        self.now_ns = 0

    def unix_us(self):
        return self.now_us

    def monotonic_ns(self):
        return self.now_ns


class Source:
    """Gives what it is told when it is told to."""

    def __init__(self):
        self.asked = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.gives = made

    async def fetch(self, symbol):
        self.asked.append(symbol)
        await self.gate.wait()
        return self.gives(symbol)


def made(symbol="AAPL", at=10_000_000):
    one = Decimal(1)
    return Quote(symbol=symbol, bid=one, ask=one, bid_size=one, ask_size=one, at="", at_unix_us=at)


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def board(source, clock):
    return QuoteBoard(source.fetch, clock, 500)


async def until_waiting():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_quote_is_kept_for_half_a_second(board, source, clock):
    first = await board.latest("AAPL")
    clock.now_ns = 499_999_999
    assert await board.latest("AAPL") is first
    clock.now_ns = 500_000_000
    await board.latest("AAPL")
    assert source.asked == ["AAPL", "AAPL"]


async def test_symbols_do_not_wait_for_each_other(board, source):
    source.gate.clear()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(board.latest(symbol)) for symbol in ("A", "B", "A", "B")]
        await until_waiting()
        assert sorted(source.asked) == ["A", "B"]
        source.gate.set()
    assert [task.result().symbol for task in tasks] == ["A", "B", "A", "B"]


async def test_a_failure_is_told_to_all_who_wait_and_not_kept(board, source):
    source.gives = lambda _: NoQuote(why="none")
    source.gate.clear()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(board.latest("A")) for _ in range(3)]
        await until_waiting()
        source.gate.set()
    assert [task.result() for task in tasks] == [NoQuote(why="none")] * 3
    assert source.asked == ["A"]
    await board.latest("A")
    assert source.asked == ["A", "A"]


async def test_who_leaves_does_not_take_the_quote_from_the_others(board, source):
    source.gate.clear()
    leaver, *others = (asyncio.get_running_loop().create_task(board.latest("A")) for _ in range(3))
    await until_waiting()
    leaver.cancel()
    await until_waiting()
    assert source.asked == ["A", "A"]
    source.gate.set()
    assert [quote.symbol for quote in await asyncio.gather(*others)] == ["A", "A"]
    with pytest.raises(asyncio.CancelledError):
        await leaver
    assert source.asked == ["A", "A"]


async def test_one_who_waits_may_leave_too(board, source):
    source.gate.clear()
    flier, waiter = (asyncio.get_running_loop().create_task(board.latest("A")) for _ in range(2))
    await until_waiting()
    waiter.cancel()
    source.gate.set()
    assert (await flier).symbol == "A"
    with pytest.raises(asyncio.CancelledError):
        await waiter


async def test_a_broken_source_leaves_nobody_waiting(board, source):
    def breaks(_):
        raise RuntimeError

    source.gives = breaks
    for _ in range(2):
        with pytest.raises(RuntimeError):
            await board.latest("A")


async def test_a_kept_quote_that_is_too_old_for_this_caller_is_asked_for_again(board, source, clock):
    await board.latest("A", 1_000)
    clock.now_us += 1_000_001
    await board.latest("A", 2_000)
    assert source.asked == ["A"]
    await board.latest("A", 1_000)
    assert source.asked == ["A", "A"]


@pytest.mark.parametrize("behind_us, age", [(0, 0), (1, 1), (1_000, 1), (1_001, 2), (-2_000_000, 0), (-2_000_001, -1)])
def test_ages_are_rounded_up_and_have_an_end_in_the_future(board, clock, behind_us, age):
    assert board.age_ms(made(at=clock.now_us - behind_us)) == age


async def test_the_board_is_bounded(board, monkeypatch):
    monkeypatch.setattr(quotes, "SYMBOLS_MAX", 2)
    for symbol in "ABC":
        await board.latest(symbol)
    assert list(board._kept) == ["B", "C"]
    assert board._flights._flights == {}
