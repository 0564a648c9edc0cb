"""Shared requests: who may be answered by which one, who leaves, what fails, and what hangs."""

import asyncio

import pytest

from gateway.tools.flights import Flights


class Service:
    """Answers each question with its number, when it is let go; the tests hold back what they want."""

    def __init__(self):
        self.asked = []
        self.gates = []
        self.left = 0
        self.news = asyncio.Condition()

    async def ask(self, subject):
        gate = asyncio.get_running_loop().create_future()
        self.asked.append(subject)
        self.gates.append(gate)
        number = len(self.gates)
        async with self.news:
            self.news.notify_all()
        try:
            await gate
        except asyncio.CancelledError:
            self.left += 1
            raise
        return f"{subject}{number}"

    async def was_asked(self, times):
        async with self.news:
            await self.news.wait_for(lambda: len(self.asked) >= times)

    def answer(self, number, error=None):
        gate = self.gates[number - 1]
        if error is None:
            gate.set_result(None)
        else:
            gate.set_exception(error)


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def flights(service):
    return Flights(service.ask, slow_s=60)


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


async def started(*asks):
    """Tasks of these questions, each of which has come to where it waits."""
    tasks = []
    for ask in asks:
        tasks.append(asyncio.ensure_future(ask))
        await settle()
    return tasks


async def test_any_joins_the_request_that_is_under_way(flights, service):
    tasks = await started(*(flights.any("A") for _ in range(5)))
    service.answer(1)
    assert await asyncio.gather(*tasks) == ["A1"] * 5
    assert service.asked == ["A"]


async def test_later_never_joins_the_request_that_is_under_way_and_all_share_the_next(flights, service):
    first, *others = await started(*(flights.later("A") for _ in range(5)))
    assert service.asked == ["A"]
    service.answer(1)
    await settle()
    assert await first == "A1"
    assert not any(task.done() for task in others)
    assert service.asked == ["A", "A"]
    (last,) = await started(flights.later("A"))
    service.answer(2)
    assert await asyncio.gather(*others) == ["A2"] * 4
    await settle()
    service.answer(3)
    assert await last == "A3"


async def test_nothing_is_kept_of_what_was_answered(flights, service):
    for number in (1, 2, 3):
        (task,) = await started(flights.later("A"))
        service.answer(number)
        assert await task == f"A{number}"
    assert flights._flights == {}


async def test_subjects_do_not_wait_for_each_other(flights, service):
    one, other = await started(flights.later("A"), flights.later("B"))
    service.answer(2)
    assert await other == "B2"
    service.answer(1)
    assert await one == "A1"


async def test_when_the_one_who_flies_leaves_the_next_flies(flights, service):
    first, flier, *others = await started(*(flights.later("A") for _ in range(4)))
    service.answer(1)
    await settle()
    flier.cancel()
    await settle()
    assert (service.asked, service.left) == (["A", "A", "A"], 1)
    service.answer(3)
    assert await first == "A1"
    assert await asyncio.gather(*others) == ["A3", "A3"]
    assert flier.cancelled()
    assert flights._flights == {}


async def test_one_who_waits_leaves_alone(flights, service):
    first, shares, waits, stays = await started(*(flights.later("A") for _ in range(4)))
    waits.cancel()
    await settle()
    assert service.left == 0
    service.answer(1)
    await settle()
    assert waits.cancelled()
    service.answer(2)
    assert await asyncio.gather(first, shares, stays) == ["A1", "A2", "A2"]


async def test_when_the_one_in_front_leaves_the_others_need_not_wait_for_it(flights, service):
    first, *others = await started(*(flights.later("A") for _ in range(3)))
    first.cancel()
    await settle()
    assert (service.asked, service.left) == (["A", "A"], 1)
    service.answer(2)
    assert await asyncio.gather(*others) == ["A2", "A2"]


async def test_when_all_leave_nothing_is_under_way(flights, service):
    for task in (tasks := await started(*(flights.later("A") for _ in range(3)))):
        task.cancel()
    await asyncio.wait(tasks)
    assert flights._flights == {}
    assert service.left == len(service.asked)


async def test_a_request_that_breaks_is_its_own_and_leaves_nobody_waiting(flights, service):
    tasks = await started(*(flights.later("A") for _ in range(3)))
    for number in (1, 2, 3):
        service.answer(number, RuntimeError(f"broken {number}"))
        await settle()
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(error) for error in told] == ["broken 1", "broken 2", "broken 3"]
    assert flights._flights == {}


async def test_a_request_that_hangs_holds_nobody_up_for_long(service):
    flights = Flights(service.ask, slow_s=0.001)
    hangs, other = await started(flights.later("A"), flights.later("A"))
    await service.was_asked(2)
    service.answer(2)
    assert await other == "A2"
    (after,) = await started(flights.later("A"))
    service.answer(3)
    assert await after == "A3"
    assert not hangs.done()
    service.answer(1)
    assert await hangs == "A1"
    assert flights._flights == {}


async def test_a_late_end_of_a_slow_request_does_not_end_the_newer_one(service):
    flights = Flights(service.ask, slow_s=0.001)
    slow, newer = await started(flights.later("A"), flights.later("A"))
    await service.was_asked(2)
    service.answer(1)
    assert await slow == "A1"
    (shares,) = await started(flights.any("A"))
    assert len(service.asked) == 2
    service.answer(2)
    assert await asyncio.gather(newer, shares) == ["A2", "A2"]
