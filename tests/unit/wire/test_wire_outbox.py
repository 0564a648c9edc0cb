"""Writes are collected for a turn of the loop, and for no longer."""

import asyncio

from gateway.wire.outbox import Outbox


class Line(asyncio.Transport):
    """A transport that keeps each write, to count them."""

    def __init__(self):
        super().__init__()
        self.writes = []
        self.closing = False

    def write(self, data):
        self.writes.append(bytes(data))

    def is_closing(self):
        return self.closing

    def write_eof(self):
        self.writes.append("end")

    def close(self):
        self.closing = True

    def abort(self):
        self.closing = True


async def test_one_turn_is_one_write():
    line = Line()
    outbox = Outbox(line, 1_000)
    for piece in (b"a", b"b", b"", b"c"):
        outbox.write(piece)
    assert line.writes == []
    await asyncio.sleep(0)
    assert line.writes == [b"abc"]
    outbox.write(b"d")
    await asyncio.sleep(0)
    assert line.writes == [b"abc", b"d"]


async def test_a_burst_leaves_at_once():
    line = Line()
    outbox = Outbox(line, 3)
    outbox.write(b"ab")
    outbox.write(b"cd")
    assert line.writes == [b"abcd"]
    outbox.write(b"e")
    await asyncio.sleep(0)
    assert line.writes == [b"abcd", b"e"]


async def test_the_end_sends_what_was_collected_and_nothing_after():
    line = Line()
    outbox = Outbox(line, 1_000)
    outbox.write(b"last")
    outbox.end()
    outbox.write(b"too late")
    outbox.end()
    await asyncio.sleep(0)
    assert line.writes == [b"last", "end"]
    assert outbox.is_closing()


async def test_nothing_is_sent_after_an_abort_or_to_a_closed_line():
    line = Line()
    outbox = Outbox(line, 1_000)
    outbox.write(b"a")
    outbox.abort()
    await asyncio.sleep(0)
    assert line.writes == []
    other = Line()
    outbox = Outbox(other, 1_000)
    outbox.write(b"a")
    other.closing = True
    await asyncio.sleep(0)
    assert other.writes == []


async def test_a_peer_that_was_faster_is_no_error():
    class Gone(Line):
        def write_eof(self):
            raise OSError("not connected")

    line = Gone()
    Outbox(line, 10).end()
    assert line.closing
