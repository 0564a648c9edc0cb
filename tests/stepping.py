"""Stopping a coroutine at each of its await points in turn: what a leaving caller or a kill can hit, all of it."""

import asyncio
import types
from itertools import count

STEPS_MAX = 500
"""More than any call suspends; a loop over the steps that gets here would never end."""


@types.coroutine
def stepped(coroutine, suspended):
    """Run a coroutine, and call `suspended(step, future)` each time it waits; `future` is None for a mere turn."""
    raised = None
    for step in count(1):
        try:
            waited = coroutine.send(None) if raised is None else coroutine.throw(raised)
        except StopIteration as stop:
            return stop.value
        suspended(step, waited)
        raised = None
        try:
            yield waited
        except BaseException as error:  # noqa: BLE001 - whatever the loop throws in goes on to the coroutine
            raised = error


async def cut_when(coroutine, here, *, answered=False):
    """Cancel the coroutine's task when it waits and `here(step)` says so; gives whether it came to that.

    With `answered`, it is cancelled in the very moment in which what it waits for is there: the result is lost on the
    way. Without, it is cancelled before.
    """
    loop = asyncio.get_running_loop()
    was_cut = False

    def suspended(step, waited):
        nonlocal was_cut
        if was_cut or not here(step):
            return
        was_cut = True
        if answered and waited is not None:
            # Before the task's own callback, which is added when it gets the future.
            waited.add_done_callback(lambda _: task.cancel())
        else:
            loop.call_soon(task.cancel)

    async def run():
        return await stepped(coroutine, suspended)

    task = loop.create_task(run())
    await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()  # what it ended with is in the records; here only that it ended
    return was_cut


async def cut_at(coroutine, step, *, answered=False):
    """Cancel the coroutine's task while it waits for the `step`-th time; see `cut_when`."""
    return await cut_when(coroutine, lambda now: now == step, answered=answered)


async def at_every_step(make, check, *, answered):
    """Make a coroutine and cut it at its first await, another at its second, until one is not cut; check each.

    Gives how many await points there were.
    """
    for step in range(1, STEPS_MAX):
        was_cut = await cut_at(make(step), step, answered=answered)
        await check(step)
        if not was_cut:
            return step - 1
    raise AssertionError(f"still not at the end after {STEPS_MAX} steps")
