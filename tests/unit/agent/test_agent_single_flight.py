import asyncio

import pytest

from agent.single_flight import SingleFlight


class Work:
    """Waits for a gate, then gives the number of its turn or raises."""

    def __init__(self, error=None):
        self.done = 0
        self.gate = asyncio.Event()
        self.error = error

    async def __call__(self):
        self.done += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.done


async def test_many_wait_and_one_works():
    flight, work = SingleFlight(), Work()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(flight.join(work)) for _ in range(10)]
        await asyncio.sleep(0)
        assert flight.under_way
        work.gate.set()
    assert [task.result() for task in tasks] == [1] * 10
    assert not flight.under_way


async def test_results_are_not_kept():
    flight, work = SingleFlight(), Work()
    work.gate.set()
    assert [await flight.join(work), await flight.join(work)] == [1, 2]


async def test_a_failure_is_shared_and_the_next_one_starts_anew():
    flight, work = SingleFlight(), Work(ValueError("no"))
    asyncio.get_running_loop().call_later(0.005, work.gate.set)
    told = await asyncio.gather(*(flight.join(work) for _ in range(5)), return_exceptions=True)
    assert [str(error) for error in told] == ["no"] * 5
    assert work.done == 1
    with pytest.raises(ValueError, match="no"):
        await flight.join(work)
    assert work.done == 2


async def test_when_the_worker_is_cancelled_one_waiter_takes_over_and_the_rest_still_wait():
    flight, work = SingleFlight(), Work()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(flight.join(work)) for _ in range(4)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.sleep(0.005)
        assert work.done == 2
        work.gate.set()
    assert [task.result() for task in tasks[1:]] == [2, 2, 2]


async def test_a_waiter_that_is_cancelled_disturbs_nobody():
    flight, work = SingleFlight(), Work()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(flight.join(work)) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.sleep(0)
        work.gate.set()
    assert [tasks[0].result(), tasks[2].result()] == [1, 1]
