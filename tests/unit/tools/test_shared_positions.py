"""Racing sales share requests for the position, and none is answered from before it read the ledger."""

import asyncio

import pytest
from toolcases import CALLER, MARKET_SELL, asked, error, holding, nothing_counted

from gateway.terms.money import NANO
from gateway.terms.operations import Counted, Demand
from gateway.terms.verdict import Refusal

POSITIONS = "/v2/positions/"
RACING = 40


class Account:
    """What the venue says of a position: as it is when the request comes, sent when the test lets it go."""

    def __init__(self, held):
        self.held = held
        self.requests = 0
        self.open = asyncio.Event()
        self.came = asyncio.Event()

    async def answer(self, received):
        self.requests += 1
        said = holding(str(self.held))
        self.came.set()
        await self.open.wait()
        return await said(received)


@pytest.fixture
def account(venue):
    made = Account(10)
    venue.on("GET", POSITIONS, made.answer)
    return made


async def sale(toolbox, quantity, tally=nothing_counted):
    ask = asked(toolbox, "place_order", MARKET_SELL | {"quantity": str(quantity)}, key=f"key-{quantity}")
    facts = await toolbox.facts(CALLER, ask, tally)
    return facts if isinstance(facts, Refusal) else toolbox.demand(CALLER, ask, facts)


async def under_way(*sales):
    tasks = [asyncio.ensure_future(one) for one in sales]
    for _ in range(10):
        await asyncio.sleep(0)
    return tasks


async def test_racing_sales_need_two_requests(toolbox, venue):
    verdicts = await asyncio.gather(*(sale(toolbox, number) for number in range(1, RACING + 1)))
    assert all(isinstance(verdict, Demand) for verdict in verdicts)
    assert venue.count("GET", POSITIONS) == 2
    assert isinstance(await sale(toolbox, 1), Demand)
    assert venue.count("GET", POSITIONS) == 3


async def test_a_sale_is_not_answered_by_a_request_from_before_it_read_the_ledger(toolbox, account):
    """The account sells 4 of its 10 while a request is under way; who then sells 10 would owe 4."""
    early = asyncio.ensure_future(sale(toolbox, 1))
    await account.came.wait()
    account.held = 6

    async def four_filled(places):
        four = Counted(held=0, spent=4 * NANO)
        return (four, four, *await nothing_counted(places[2:]))

    (late,) = await under_way(sale(toolbox, 10, four_filled))
    account.open.set()
    assert isinstance(await early, Demand)
    refused = await late
    assert isinstance(refused, Refusal)
    assert refused.reason == "limit.short_sale"
    assert "holds 6" in refused.sentence
    assert account.requests == 2


async def test_who_leaves_takes_the_position_from_nobody(toolbox, account):
    first, *others = await under_way(*(sale(toolbox, number) for number in range(1, 6)))
    await account.came.wait()
    account.came.clear()
    first.cancel()
    await account.came.wait()
    account.open.set()
    assert all(isinstance(verdict, Demand) for verdict in await asyncio.gather(*others))
    assert account.requests == 2
    with pytest.raises(asyncio.CancelledError):
        await first
    assert isinstance(await sale(toolbox, 7), Demand)


async def test_an_error_is_of_those_who_share_the_request_and_is_not_remembered(toolbox, venue):
    venue.on("GET", POSITIONS, holding(), error(500, 50010000, "internal error"), holding())
    first, *others = await asyncio.gather(*(sale(toolbox, number) for number in range(1, 6)))
    assert isinstance(first, Demand)
    assert {verdict.reason for verdict in others} == {"limit.no_position"}
    assert isinstance(await sale(toolbox, 6), Demand)
    assert venue.count("GET", POSITIONS) == 3
