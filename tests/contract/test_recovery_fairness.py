"""The recovery over every ledger: an upstream that does not answer keeps nothing but what is asked of itself."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields, replace

import msgspec
from made_calls import NOON_US, PLACE_ORDER, claim, rooms, tool_ask
from whole import Log, eventually

from gateway.call import recover
from gateway.call.changes import Changes
from gateway.call.effects import EffectTasks
from gateway.call.recover import Recovery
from gateway.call.slots import SLOTS_EACH
from gateway.call.stations import Stations
from gateway.call.unsettled import Unsettled
from gateway.terms.aftercare import NotYet
from gateway.terms.operations import Failed, Failure, State, Succeeded

SECOND_US = 1_000_000
ENDED = Failed(failure=Failure(reason="venue.order_canceled", message="It ended."))
SILENCE = NotYet(failure=Failure(reason="venue.no_look_up", message="It did not answer."))
MANY = 60


@dataclass
class Services:
    """Two upstreams: what they are asked for is ended at once, unless it is among those that are never answered."""

    clock: object
    silent: set = field(default_factory=set)
    costs_s: float | None = None
    """How long a look takes that gets no answer, on the injected clock; without it, forever."""
    asked: list = field(default_factory=list)
    waiting: int = 0
    upstreams: tuple = (("place_order",), ("book_flight",))

    async def look(self, watched):
        self.asked.append((watched.operation.id, watched.withdraw))
        if watched.operation.id not in self.silent:
            return ENDED
        if self.costs_s is not None:
            self.clock.now_us += int(self.costs_s * SECOND_US)
            return SILENCE
        self.waiting += 1
        try:
            return await asyncio.Event().wait()
        finally:
            self.waiting -= 1


@asynccontextmanager
async def recovery(desk, services):
    """What the recovery needs; it asks no other station."""
    async with EffectTasks() as effects:
        used = {
            "ledger": desk.ledger,
            "tools": services,
            "recorder": desk.records,
            "witness": Log(),
            "effects": effects,
            "clock": desk.clock,
            "changes": Changes(),
            "unsettled": Unsettled(),
            "bell": asyncio.Event(),
        }
        at = Stations(**dict.fromkeys(one.name for one in fields(Stations)) | used)
        yield Recovery(at), at


@asynccontextmanager
async def running(desk, services):
    """It runs as in a gateway, and is ended like there."""
    async with recovery(desk, services) as (one, at), asyncio.TaskGroup() as group:
        task = group.create_task(one.run())
        try:
            yield at
        finally:
            task.cancel()


async def opened(desk, tool="place_order", key=""):
    """An effect that goes on, due now."""
    ask = tool_ask(key=key or f"k-{next(desk.names)}", tool=replace(PLACE_ORDER, name=tool))
    reservation = await desk.reserve(ask=ask, claims=[claim(limit=10**6)])
    settlement = desk.settlement(reservation, Succeeded(result=b"{}", live=True))
    await desk.ledger.settle(msgspec.structs.replace(settlement, look_unix_us=desk.clock.now_us))
    return reservation.operation


async def live(desk, operation):
    return (await desk.ledger.shown(operation)).live


async def test_sixty_that_get_no_answer_do_not_keep_the_one_after_them(desk):
    """At one upstream, all of them to be withdrawn; what got no answer is due again after five seconds at most."""
    services = Services(desk.clock, costs_s=10 / SLOTS_EACH)
    services.silent |= {await opened(desk) for _ in range(MANY)}
    healthy = await opened(desk)
    await desk.halt("all")
    real, asked = services.look, services.asked

    async def look(watched):
        found = await real(watched)
        if watched.operation.id == healthy or len(asked) > 5 * MANY:
            services.silent.clear()  # so that the sweep ends
        return found

    services.look = look
    async with recovery(desk, services) as (one, _):
        await one.sweep()
    assert asked.index((healthy, True)) <= MANY
    assert not await live(desk, healthy)


async def test_a_switch_ends_at_a_healthy_upstream_at_once_what_hangs_at_another(desk, monkeypatch):
    monkeypatch.setattr(recover, "PAUSE_S", 3_600)
    services = Services(desk.clock)
    services.silent |= {await opened(desk, "book_flight") for _ in range(MANY)}
    async with running(desk, services) as at:
        await eventually(lambda: services.waiting == SLOTS_EACH)
        healthy = await opened(desk)
        await desk.halt("all")
        at.bell.set()
        await eventually(lambda: (healthy, True) in services.asked)
        # Those that hang are asked to withdraw as well, in places of their own.
        await eventually(lambda: services.waiting == 2 * SLOTS_EACH)
        withdrawn = [name for name, withdraw in services.asked if withdraw]
        assert len(withdrawn) == SLOTS_EACH + 1
    assert not await live(desk, healthy)


async def test_leases_end_while_every_look_hangs(desk, monkeypatch):
    monkeypatch.setattr(recover, "PAUSE_S", 0.001)
    services = Services(desk.clock)
    services.silent |= {await opened(desk) for _ in range(MANY)}
    async with running(desk, services) as at:
        await eventually(lambda: services.waiting == SLOTS_EACH)
        lost = await desk.reserve(claims=[claim(limit=10**6)])
        services.silent.add(lost.operation)
        desk.clock.now_us += 31 * SECOND_US
        await eventually(lambda: at.witness.named("operation.lost"))
        assert services.waiting == SLOTS_EACH
    assert (await desk.ledger.shown(lost.operation)).operation.state is State.UNKNOWN


async def test_who_ends_while_looks_hang_gives_them_back_for_another_to_take(desk):
    services = Services(desk.clock)
    services.silent |= {await opened(desk) for _ in range(SLOTS_EACH)}
    doubted = await desk.reserve(claims=[claim(limit=10**6)])
    async with running(desk, services):
        await eventually(lambda: services.waiting == SLOTS_EACH)
        assert await desk.ledger.take(rooms(99), lease_ms=1) == ()
    assert services.waiting == 0
    assert len(await desk.ledger.take(rooms(99), lease_ms=1)) == SLOTS_EACH
    await desk.settle(doubted)


async def test_many_that_are_answered_need_no_second_beat(desk, monkeypatch):
    """A place that is free again is filled again."""
    monkeypatch.setattr(recover, "PAUSE_S", 3_600)
    services = Services(desk.clock)
    orders = [await opened(desk) for _ in range(5 * SLOTS_EACH)]
    async with running(desk, services):
        await eventually(lambda: len(services.asked) == len(orders))
    assert services.asked == [(order, False) for order in orders]
    assert desk.clock.now_us == NOON_US
