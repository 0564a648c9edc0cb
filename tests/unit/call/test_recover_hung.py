"""A service that takes requests and never answers keeps nothing but what is looked for at itself."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest
from failing import gated, instead, raises
from whole import LIMITS, RESTING_BUY, agent, eventually, tool_request, world

from gateway.call import recover
from gateway.call.act import act
from gateway.call.operate import set_halt
from gateway.call.slots import SLOTS_EACH
from gateway.terms.asks import Effect, Idempotency
from gateway.terms.faults import LedgerUnavailableError
from gateway.terms.operations import State
from gateway.terms.overview import Page
from gateway.tools.http import HttpTools
from gateway.tools.http_config import HttpService, HttpTool
from gateway.tools.tightening import Bounds

TEXT = {"type": "string", "maxLength": 80}
DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "Refunds", "version": "1"},
    "paths": {
        "/refunds": {
            "post": {
                "operationId": "createRefund",
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "properties": {"order": TEXT, "reference": TEXT},
                                "required": ["order"],
                            }
                        }
                    },
                },
                "responses": {"201": {"description": "done"}},
            }
        },
        "/references/{reference}": {
            "get": {
                "operationId": "refundOf",
                "parameters": [{"name": "reference", "in": "path", "required": True, "schema": TEXT}],
            }
        },
    },
}
REFUND = HttpTool(
    operation="createRefund",
    name="create_refund",
    effect=Effect.IRREVERSIBLE,
    idempotency=Idempotency.LOOKUP,
    key_member="reference",
    lookup_operation="refundOf",
    lookup_argument="reference",
    timeout_ms=60_000,
)
RULES = """
@id("all.tools")
permit (principal is Agent, action in [Action::"place_order", Action::"create_refund"], resource is Tool);
"""
CASES = """
[principals.trader]
role = "trader"
[[cases]]
name = "nobody reads operations"
principal = "trader"
read = "get_operation"
expect = "refuse"
rules = []
"""


class Refunds:
    """A service that cuts every connection, and from a moment on takes them and never answers."""

    def __init__(self):
        self.hangs, self.held = False, 0

    async def talk(self, reader, writer):
        """One connection."""
        try:
            if self.hangs and await reader.readuntil(b"\r\n\r\n"):
                self.held += 1
                with suppress(ConnectionError):
                    await reader.read()  # until the other side leaves
                self.held -= 1
        finally:
            writer.close()


@asynccontextmanager
async def refunds():
    service = Refunds()
    server = await asyncio.start_server(service.talk, "127.0.0.1", 0)
    async with server:
        service.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield service
        service.hangs = False


def tools(service, clock):
    return HttpTools(
        HttpService(
            name="refunds",
            origin=service.url,
            document=json.dumps(DOCUMENT).encode(),
            tools=(REFUND,),
            networks=("127.0.0.0/8",),
            credentials=(),
            call_key=b"k" * 32,
            bounds=Bounds(),
        ),
        clock,
    )


@pytest.fixture
async def hung():
    async with refunds() as service:
        yield service


@pytest.fixture
async def whole(hung, tmp_path):
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "rules.cedar").write_text(RULES)
    (rules / "tests.toml").write_text(CASES)
    limits = replace(LIMITS, exposure_max=10**12, reference_age_ms_max=3_600_000)
    trader = agent(tools=frozenset({"place_order", "create_refund"}), limits=limits)
    async with world() as around:
        plan = {"policies": rules, "services": (tools(hung, around.clock),)}
        async with around.gateway(tmp_path, [trader], **plan) as running:
            yield running


async def lost_refunds(whole, many):
    for number in range(many):
        done = await whole.act({"body": {"order": "o-1"}}, key=f"r-{number}", tool="create_refund")
        assert done.operation.state is State.UNKNOWN


@asynccontextmanager
async def recovering(whole):
    """The recovery as a gateway runs it, and ends it."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(whole.recovery().run())
        try:
            yield
        finally:
            task.cancel()


def open_orders(whole):
    return [order.terms.symbol for order in whole.world.orders() if order.is_open]


def halt(whole):
    return set_halt(whole.stations, whole.passage("oncall"), "all", "drill")


async def test_the_kill_switch_cancels_at_a_healthy_venue_while_looks_hang_at_another(whole, hung, monkeypatch):
    """At once: the switch itself is all that makes the recovery look again. It cancels at the one that hangs too."""
    monkeypatch.setattr(recover, "PAUSE_S", 3_600)
    await lost_refunds(whole, 60)
    await whole.act(RESTING_BUY)
    hung.hangs = True
    whole.world.clock.pass_s(2)
    async with recovering(whole):
        await eventually(lambda: hung.held == SLOTS_EACH and whole.log.named("operation.looked_for"))
        assert open_orders(whole) == ["AAPL"]
        await halt(whole)
        await eventually(lambda: open_orders(whole) == [])
        await eventually(lambda: hung.held == 2 * SLOTS_EACH)
    await whole.idle()


async def test_leases_end_while_every_place_of_a_service_hangs(whole, hung, monkeypatch):
    monkeypatch.setattr(recover, "PAUSE_S", 0.001)
    await lost_refunds(whole, 60)
    hung.hangs = True
    whole.world.clock.pass_s(2)
    async with recovering(whole), paused_order(whole) as placed:
        await eventually(lambda: hung.held == SLOTS_EACH)
        whole.world.clock.pass_s(34)
        await eventually(lambda: whole.log.named("operation.lost"))
        assert whole.operations()[placed] != "dispatched"
        assert {one["operation"] for one in whole.log.named("operation.lost")} == {placed}
        assert hung.held == SLOTS_EACH
    await whole.idle()


@asynccontextmanager
async def paused_order(whole):
    """An order whose call stands still before it is sent."""
    gate = asyncio.Event()
    before = set(whole.operations())
    placing = asyncio.ensure_future(
        act(gated(gate)(whole.stations), whole.passage(), tool_request(arguments=RESTING_BUY))
    )
    try:
        await eventually(lambda: "dispatched" in whole.operations().values())
        (placed,) = set(whole.operations()) - before
        yield placed
    finally:
        gate.set()
        await asyncio.gather(placing, return_exceptions=True)


async def test_a_hung_service_has_no_more_than_its_places(whole, hung, monkeypatch):
    monkeypatch.setattr(recover, "PAUSE_S", 0.001)
    await lost_refunds(whole, 3 * SLOTS_EACH)
    hung.hangs = True
    whole.world.clock.pass_s(2)
    rounds = counted(whole, "expire")
    async with recovering(whole):
        await eventually(lambda: hung.held == SLOTS_EACH)
        seen = len(rounds)
        await eventually(lambda: len(rounds) > seen + 20)
        assert hung.held == SLOTS_EACH
        assert sorted(whole.operations().values()) == ["reconciling"] * SLOTS_EACH + ["unknown"] * 2 * SLOTS_EACH
    await whole.idle()


async def test_a_look_that_takes_too_long_is_cut_and_its_place_is_free(whole, hung, monkeypatch):
    monkeypatch.setattr(recover, "LOOK_S", 0.05)
    monkeypatch.setattr(recover, "PAUSE_S", 3_600)
    await lost_refunds(whole, SLOTS_EACH + 1)
    hung.hangs = True
    whole.world.clock.pass_s(2)
    async with recovering(whole):
        await eventually(lambda: len(whole.log.named("operation.looked_for")) == SLOTS_EACH + 1)
    assert {one["found"] for one in whole.log.named("operation.looked_for")} == {"notyet"}
    assert set(whole.operations().values()) == {"unknown"}
    assert {one.looks for one in await whole.ledger.listed(Page(size=50))} == {1}


async def test_a_gateway_that_ends_cuts_its_looks_and_gives_back_what_they_were_for(whole, hung):
    """Another one need not wait until a lease has ended, and this one not until the service answers."""
    await lost_refunds(whole, 60)
    hung.hangs = True
    whole.world.clock.pass_s(2)
    before = asyncio.all_tasks()
    async with asyncio.timeout(recover.LOOK_S / 2):
        async with recovering(whole):
            await eventually(lambda: hung.held == SLOTS_EACH)
        await whole.idle()
    await eventually(lambda: asyncio.all_tasks() <= before)
    assert set(whole.operations().values()) == {"unknown"}
    assert {one["found"] for one in whole.log.named("operation.looked_for")} == {"given back"}
    hung.hangs = False
    await whole.swept()
    assert len(whole.log.named("operation.looked_for")) == SLOTS_EACH + 60


async def test_where_nothing_is_due_nothing_is_written_and_nobody_hurries(whole, monkeypatch):
    """An order that stands open, and the service's places free: one beat, and then only what time or a bell brings."""
    monkeypatch.setattr(recover, "PAUSE_S", 3_600)
    await whole.act(RESTING_BUY)
    asked = counted(whole, "take")
    whole.world.clock.pass_s(2)
    async with recovering(whole):
        await eventually(lambda: whole.log.named("operation.looked_for"))
        changes = written(whole)
        await asyncio.sleep(0.005)
        assert len(asked) == 1
        whole.stations.bell.set()
        await eventually(lambda: len(asked) == 2)
        await asyncio.sleep(0.005)
    assert (len(asked), written(whole)) == (2, changes)


async def test_a_step_that_fails_keeps_none_of_the_others(whole, monkeypatch):
    """An operation that cannot be told lost must not keep the kill switch from cancelling."""
    monkeypatch.setattr(recover, "PAUSE_S", 0.001)
    await whole.act(RESTING_BUY)
    await halt(whole)
    whole.stations = instead("ledger", expire=raises(LedgerUnavailableError("the balance is wrong")))(whole.stations)
    marked = counted(whole, "mark")
    async with recovering(whole):
        await eventually(lambda: open_orders(whole) == [] and len(marked) > 1)
    assert whole.log.named("recovery.failed")[0] == {"error": "the balance is wrong"}
    await whole.idle()


def counted(whole, name):
    """Every call of this function of the ledger, from now on."""
    real, calls = getattr(whole.stations.ledger, name), []

    async def counting(*values, **named):
        calls.append(None)
        return await real(*values, **named)

    whole.stations = instead("ledger", **{name: counting})(whole.stations)
    return calls


def written(whole):
    """How often the ledger's file was changed by anybody."""
    return whole.ledger._opened.source.connection.total_changes
