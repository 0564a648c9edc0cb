"""Effects run to their end, whoever waits for them and however it goes."""

import asyncio
import gc

import pytest

from gateway.call.effects import EffectTasks


async def gives(value, steps=3):
    for _ in range(steps):
        await asyncio.sleep(0)
    return value


async def fails(error):
    await asyncio.sleep(0)
    raise error


async def test_who_waits_gets_what_came_of_it():
    async with EffectTasks() as effects:
        assert await effects.start(gives(7)) == 7
        with pytest.raises(KeyError):
            await effects.start(fails(KeyError("x")))


async def test_one_that_fails_does_not_end_the_others():
    async with EffectTasks() as effects:
        other = effects.start(gives("whole", steps=10))
        with pytest.raises(ValueError, match="broken"):
            await effects.start(fails(ValueError("broken")))
        assert await other == "whole"


async def test_one_that_nobody_waits_for_fails_without_a_word_of_asyncio():
    said = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["message"]))
    async with EffectTasks() as effects:
        effects.start(fails(ValueError("nobody asks")))
    gc.collect()
    assert said == []


async def test_who_leaves_does_not_stop_the_work():
    ended = []

    async def work():
        ended.append(await gives("done", steps=5))

    async with EffectTasks() as effects:
        waiting = asyncio.get_running_loop().create_task(_wait(effects.start(work())))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait((waiting,))
        assert (ended, effects.running) == ([], 1)
    assert (ended, effects.running) == (["done"], 0)


async def _wait(future):
    return await future


async def test_an_effect_may_start_another_and_wait_for_it():
    async with EffectTasks() as effects:

        async def outer():
            return await effects.start(gives(1)) + 1

        assert await effects.start(outer()) == 2


async def test_an_error_of_the_block_does_not_cut_what_was_sent():
    ended = []

    async def work():
        ended.append(await gives("sent", steps=5))

    async def block():
        async with EffectTasks() as effects:
            effects.start(work())
            await asyncio.sleep(0)
            raise LookupError

    with pytest.raises(LookupError):
        await block()
    assert ended == ["sent"]


async def test_a_bounded_wait_at_the_end_cuts_what_hangs_and_frees_who_waits_for_it():
    never = asyncio.Event()
    effects = await EffectTasks().__aenter__()
    waiting = asyncio.get_running_loop().create_task(_wait(effects.start(never.wait())))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await effects.__aexit__(None, None, None)
    assert effects.running == 0
    await asyncio.wait((waiting,))
    assert waiting.cancelled()


async def test_none_is_started_after_the_end():
    async with EffectTasks() as effects:
        pass
    with pytest.raises(RuntimeError):
        effects.start(gives(1))
    assert effects.running == 0


async def test_one_that_is_cut_before_its_first_step_leaves_nobody_waiting():
    effects = await EffectTasks().__aenter__()
    done = effects.start(gives(1))
    for task in effects._group._tasks:
        task.cancel()
    await effects.__aexit__(None, None, None)
    assert done.cancelled()
    assert effects.running == 0
