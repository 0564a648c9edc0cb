"""Counts that are kept, bounded and asked for once."""

import asyncio

import pytest
from made_streams import conversation, model, user

from gateway.llm.content_key import content_key
from gateway.llm.counts import Counts
from gateway.terms.conversation import ChoiceConstraint, Function, FunctionCall, Generation, Text, Thought
from gateway.terms.faults import Fault, UpstreamError

KEY = ("t", b"k")


class Asked:
    """Answers when it is told to, and counts how often it is asked."""

    def __init__(self, *answers):
        self.times = 0
        self.go = asyncio.Event()
        self._answers = list(answers)

    async def __call__(self):
        self.times += 1
        answer = self._answers.pop(0)
        await self.go.wait()
        if isinstance(answer, Exception):
            raise answer
        return answer


async def started(*callers):
    tasks = [asyncio.ensure_future(caller) for caller in callers]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


async def test_many_who_want_the_same_count_ask_once_and_a_later_one_not_at_all():
    counts, asked = Counts(), Asked(7)
    assert not counts
    tasks = await started(*(counts.counted(KEY, asked) for _ in range(10)))
    asked.go.set()
    assert await asyncio.gather(*tasks) == [7] * 10
    assert await counts.counted(KEY, asked) == counts.kept(KEY) == 7
    assert asked.times == 1
    assert counts


async def test_if_the_one_who_asks_leaves_the_next_one_asks():
    counts, asked = Counts(), Asked(7, 7)
    first, second, third = await started(*(counts.counted(KEY, asked) for _ in range(3)))
    first.cancel()
    await asyncio.wait((first,))
    asked.go.set()
    assert await asyncio.gather(second, third) == [7, 7]
    assert asked.times == 2


async def test_one_who_waits_and_leaves_disturbs_nobody():
    counts, asked = Counts(), Asked(7)
    first, second = await started(*(counts.counted(KEY, asked) for _ in range(2)))
    second.cancel()
    await asyncio.wait((second,))
    asked.go.set()
    assert await first == 7


async def test_a_fault_is_told_to_all_who_wait_and_not_kept():
    counts, asked = Counts(), Asked(UpstreamError(Fault.QUOTA, "no"), 7)
    tasks = await started(*(counts.counted(KEY, asked) for _ in range(3)))
    asked.go.set()
    for task in tasks:
        with pytest.raises(UpstreamError):
            await task
    assert await counts.counted(KEY, asked) == 7


async def test_that_an_upstream_does_not_count_is_not_kept():
    counts, asked = Counts(), Asked(None)
    asked.go.set()
    assert await counts.counted(KEY, asked) is None
    assert not counts


async def test_the_least_recently_used_count_is_forgotten():
    counts = Counts(most=2)
    for number in range(2):
        asked = Asked(number)
        asked.go.set()
        await counts.counted(("t", bytes([number])), asked)
    counts.kept(("t", b"\x00"))
    asked = Asked(2)
    asked.go.set()
    await counts.counted(("t", b"\x02"), asked)
    assert [counts.kept(("t", bytes([number]))) for number in range(3)] == [0, None, 2]


def test_the_key_depends_on_the_prompt_alone():
    call = FunctionCall(id="1", name="f", arguments_json="{}")
    function = Function(name="f", description="", parameters_json_schema="{}")
    different = [
        conversation("a"),
        conversation("b"),
        conversation("a", system="a"),
        conversation("a", "a"),
        conversation(user("a", "a")),
        conversation("a", model(Text(text="x"))),
        conversation("a", model(Thought(text="x"))),
        conversation("a", model(call)),
        conversation("a", functions=(function,)),
    ]
    assert len({content_key(one) for one in different}) == len(different)
    warm = conversation("a", generation=Generation(temperature=1.0, max_output_tokens=5))
    assert content_key(warm) == content_key(conversation("a"))
    # No count method is asked for these: who holds by a count adds their bound.
    formed = conversation("a", constraint=ChoiceConstraint(texts=("a",)), cached_content="handbook")
    assert content_key(formed) == content_key(conversation("a"))
