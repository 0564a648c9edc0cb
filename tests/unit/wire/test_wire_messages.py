"""The messages of a request that streams: when the window opens, when time runs, what a reader is told."""

import asyncio

import pytest

from gateway.terms.verdict import Kind
from gateway.wire.errors import EndedError, refused
from gateway.wire.message import framed
from gateway.wire.messages import Form, Messages


class Caller:
    """Notes what a `Source` is told."""

    def __init__(self):
        self.opened = []
        self.unfinished_calls = []

    def consumed(self, size):
        self.opened.append(size)

    def unfinished(self, begun):
        self.unfinished_calls.append(begun)


def messages(bytes_max=100):
    caller = Caller()
    return Messages(Form(bytes_max=bytes_max, gzip=False, decode=bytes.upper), caller), caller


async def test_the_window_opens_for_each_message_as_it_is_taken():
    own, caller = messages()
    data = framed(b"a") + framed(b"bcd")
    own.add(data, len(data))
    assert caller.opened == []
    assert await anext(own) == b"A"
    assert sum(caller.opened) == 6
    assert own.held == 8
    assert await anext(own) == b"BCD"
    assert sum(caller.opened) == len(data)


async def test_a_reader_that_waits_opens_the_window_for_what_has_begun():
    own, caller = messages()
    own.add(framed(b"abc")[:6], 6)
    reader = asyncio.get_running_loop().create_task(anext(own))
    await asyncio.sleep(0)
    assert sum(caller.opened) == 6
    assert caller.unfinished_calls == [True]
    own.add(framed(b"abc")[6:], 2)
    assert await reader == b"ABC"
    assert caller.unfinished_calls[-1] is False
    assert sum(caller.opened) == 8
    own.add(framed(b"d"), 6)
    assert await anext(own) == b"D"
    assert sum(caller.opened) == 8 + 6


async def test_padding_counts_as_window():
    own, caller = messages()
    own.add(framed(b"a"), 200)
    assert await anext(own) == b"A"
    own.finish()
    with pytest.raises(StopAsyncIteration):
        await anext(own)
    assert 6 <= sum(caller.opened) <= 200


async def test_a_bad_prefix_behind_a_good_message_does_not_take_it_along():
    own, _ = messages()
    own.add(framed(b"a") + b"\x07", 7)
    own.add(bytes(4), 4)
    assert await anext(own) == b"A"
    for _ in range(2):
        with pytest.raises(EndedError, match=r"wire\.flag_malformed"):
            await anext(own)


async def test_a_message_too_large_is_refused_by_its_prefix():
    own, _ = messages(bytes_max=3)
    with pytest.raises(EndedError, match=r"wire\.message_too_large"):
        own.add(framed(b"abcd")[:5], 5)


async def test_a_failure_wakes_the_reader_and_stays():
    own, _ = messages()
    reader = asyncio.get_running_loop().create_task(anext(own))
    await asyncio.sleep(0)
    own.fail(refused(Kind.LATE, "test.late", "late"))
    for waiting in (reader, anext(own)):
        with pytest.raises(EndedError, match=r"test\.late"):
            await waiting


async def test_there_is_one_reader():
    own, _ = messages()
    reader = asyncio.get_running_loop().create_task(anext(own))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="one reader"):
        await anext(own)
    own.finish()
    with pytest.raises(StopAsyncIteration):
        await reader
