"""Attack list, rows 35 and 36: a model upstream that is slow, endless or smuggles something into its stream.

The upstream is a real socket that the test plays by hand, because no honest server sends any of this.
"""

import asyncio
import gzip
import json
import sys
import time
from contextlib import aclosing
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "llm"))

from made_streams import MODEL, STOP, ask, calls, ending, event, heard, saying, text, until, upstream, vertex_at

from gateway.terms.conversation import Ending, Finish, FunctionCall, Text
from gateway.terms.faults import Fault, UpstreamError


def call(**members):
    return {"candidates": [{"content": {"role": "model", "parts": [{"functionCall": members}]}}]}


def raw_call(arguments):
    """A call whose arguments are these bytes and no JSON library's."""
    return b'data: {"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":%b}}]}}]}\n\n' % arguments


async def played(play, asked=None, **config):
    """The chunks that came and the fault at the end, if there was one; nothing stays open afterwards."""
    chunks, fault = [], None
    async with upstream(play) as seen:
        async with vertex_at(seen.url, **config) as vertex:
            try:
                await heard(vertex, asked or ask("hi"), chunks)
            except UpstreamError as error:
                fault = error.fault
        await until(lambda: seen.open == 0)
    return chunks, fault


async def sent(*pieces, end=True):
    """What becomes of a stream with these pieces: bytes as they stand, documents as events."""

    async def play(exchange):
        await exchange.start()
        for piece in pieces:
            await exchange.chunk(piece if isinstance(piece, bytes) else event(piece))
        if end:
            await exchange.end()

    return await played(play, tail_s=0.05)


# Row 35: slow and endless.


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Slow: "])
async def test_a_head_that_drips(head):
    async def play(exchange):
        await exchange.raw(head)
        while head:
            await exchange.raw(b"x")
            await asyncio.sleep(0.005)
        await exchange.gone()
        exchange.close()

    started = time.monotonic()
    assert await played(play, idle_s=0.1) == ([], Fault.STALLED)
    assert time.monotonic() - started < 1


async def test_an_event_that_drips():
    """One byte at a time, each well within any timeout that asks only for a byte."""

    async def play(exchange):
        await exchange.start()
        await exchange.say(saying("one"))
        for byte in event(saying("never" * 1000)):
            await exchange.chunk(bytes([byte]))
            await asyncio.sleep(0.005)

    chunks, fault = await played(play, idle_s=0.1)
    assert (text(chunks), fault) == ("one", Fault.STALLED)


async def test_a_stream_that_is_fast_enough_and_has_no_end():
    async def play(exchange):
        await exchange.start()
        while True:
            await exchange.say(saying("more "))

    chunks, fault = await played(play, ask("hi", max_output_tokens=100))
    assert fault is Fault.TOO_LARGE
    assert len(text(chunks)) <= 100 * 32 + 16 * 1024


@pytest.mark.parametrize("piece", [event({}), b": ping\n\n", event(saying("")), event({"padding": "x" * 10_000})])
async def test_a_stream_of_nothing_has_an_end_too(piece):
    """No text, no tokens: what ends it is the number of bytes, or else the time without an event."""

    async def play(exchange):
        await exchange.start()
        while True:
            await exchange.chunk(piece * 100)

    chunks, fault = await played(play, ask("hi", max_output_tokens=1), idle_s=2)
    assert chunks == []
    assert fault in (Fault.TOO_LARGE, Fault.STALLED)


async def test_one_event_without_end():
    async def play(exchange):
        await exchange.start()
        await exchange.say(saying("one"))
        await exchange.chunk(b"data: ")
        while True:
            await exchange.chunk(b"x" * 65_536)

    chunks, fault = await played(play)
    assert (text(chunks), fault) == ("one", Fault.TOO_LARGE)


async def test_a_head_without_end():
    async def play(exchange):
        await exchange.raw(b"HTTP/1.1 200 OK\r\n")
        while True:
            await exchange.raw(b"X-Header: " + b"x" * 4000 + b"\r\n")

    assert await played(play) == ([], Fault.MALFORMED)


async def test_who_leaves_an_endless_stream_is_rid_of_it():
    async def play(exchange):
        await exchange.start()
        while True:
            await exchange.say(saying("more "))

    async with upstream(play) as seen, vertex_at(seen.url) as vertex:
        async with aclosing(vertex.stream(MODEL, ask("hi"), "c")) as stream:
            await anext(stream)
        left = time.monotonic()
        await until(lambda: seen.open == 0)
        assert time.monotonic() - left < 0.5


# Row 36: smuggling.


async def test_a_made_up_end_is_no_end():
    """`[DONE]` ends the streams of other providers; here it is no event at all."""
    chunks, fault = await sent(saying("one"), b"data: [DONE]\n\n")
    assert (text(chunks), fault) == ("one", Fault.MALFORMED)
    chunks, fault = await sent(saying('one\n\ndata: [DONE]\n\ndata: {"x":1}'), STOP)
    assert fault is None
    assert chunks[0] == Text(text='one\n\ndata: [DONE]\n\ndata: {"x":1}')
    assert ending(chunks).finish is Finish.STOP


async def test_line_ends_inside_a_text_stay_inside():
    words = "one\r\n\r\ndata: two\r\revent: finish\n\n\0\u2028end"
    chunks, fault = await sent(saying(words), STOP)
    assert (chunks[:-1], fault) == ([Text(text=words)], None)


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
async def test_a_raw_line_end_inside_an_event_makes_no_other_event(end):
    smuggled = b'data: {"candidates":[{"content":{"parts":[{"text":"a' + end + b'b"}]}}]}\n\n'
    chunks, fault = await sent(saying("one"), smuggled, STOP)
    assert (text(chunks), fault) == ("one", Fault.MALFORMED)


async def test_a_second_object_in_one_event():
    finish = json.dumps(STOP).encode()
    for pair in (b"%b%b", b"%b %b", b"%b\ndata: %b", b"[%b,%b]"):
        chunks, fault = await sent(saying("one"), b"data: " + pair % (finish, finish) + b"\n\n")
        assert (text(chunks), fault) == ("one", Fault.MALFORMED)


@pytest.mark.parametrize(
    "members",
    [
        {"name": "place_order", "args": {"qty": "1"}, "willContinue": True},
        {"name": "place_order", "partialArgs": [{"jsonPath": "$.qty", "stringValue": "1"}]},
        {"partialArgs": [{"jsonPath": "$.qty", "stringValue": "1000"}]},
        {"name": "place_order", "args": '{"qty": "1'},
        {"name": "place_order", "args": None},
        {"name": "place_order", "args": [{"qty": "1"}]},
        {"name": "", "args": {}},
        {"name": "place_order\r\nx: y", "args": {}},
        {"name": "place_order\u0000", "args": {}},
        {"name": "place order", "args": {}},
        {"name": "1place_order", "args": {}},
        {"name": "x" * 65, "args": {}},
        {"name": ["place_order"], "args": {}},
    ],
)
async def test_a_call_in_pieces_or_without_a_reading_is_no_call(members):
    chunks, fault = await sent(saying("one"), call(**members), STOP)
    assert (text(chunks), calls(chunks), fault) == ("one", [], Fault.MALFORMED)


@pytest.mark.parametrize(
    "arguments",
    [
        b'{"qty":"1","qty":"1000"}',
        b'{"a":{"qty":"1","qty":"1000"}}',
        b'{"qty":"1"}{"qty":"1000"}',
        b'{"qty":NaN}',
        b'{"qty":1e999}',
        b'{"qty":' + b"9" * 50 + b"}",
        b'{"qty":"\xff"}',
        b'{"qty":"\\ud800"}',
        b'{"a":' * 40 + b"1" + b"}" * 40,
        b'"qty"',
        b"null",
        b"7",
    ],
)
async def test_arguments_that_two_readers_read_differently_are_no_arguments(arguments):
    chunks, fault = await sent(raw_call(arguments), STOP)
    assert (calls(chunks), fault) == ([], Fault.MALFORMED)


async def test_arguments_go_on_as_they_were_checked():
    chunks, fault = await sent(raw_call(b'{ "qty": 1.50, "note": "\\r\\ndata: x" }'), STOP)
    assert fault is None
    assert chunks[0] == FunctionCall(id="call-x-1", name="f", arguments_json='{ "qty": 1.50, "note": "\\r\\ndata: x" }')


async def test_the_upstream_does_not_name_the_calls():
    """Two calls under one id, or under an id of an earlier call, cannot be mixed up: the ids are ours."""
    chunks, fault = await sent(call(id="op-1", name="f"), call(id="op-1", name="g"), STOP)
    assert fault is None
    assert [(each.id, each.name) for each in calls(chunks)] == [("call-x-1", "f"), ("call-x-2", "g")]


async def test_a_second_candidate_is_not_mixed_in():
    other = {"candidates": [{"index": 1, "content": {"parts": [{"text": "evil"}]}}]}
    assert await sent(saying("one"), other, STOP) == ([Text(text="one")], Fault.MALFORMED)
    both = {"candidates": saying("one")["candidates"] + other["candidates"]}
    assert await sent(both, STOP) == ([], Fault.MALFORMED)


async def test_nothing_follows_the_end():
    for late in (saying("more"), call(name="f"), {"candidates": [{"finishReason": "SAFETY"}]}):
        chunks, fault = await sent(saying("one"), STOP, late)
        assert (text(chunks), calls(chunks), fault) == ("one", [], Fault.MALFORMED)
        assert not any(isinstance(chunk, Ending) for chunk in chunks)


async def test_names_ids_and_comments_of_events_are_nothing():
    pieces = [
        b": data: {}\n",
        b"event: error\nid: 1\nretry: 0\n",
        b"data\xe2\x80\x8b: x\n",
        b" data: x\n",
        b"DATA: x\n\n",
    ]
    chunks, fault = await sent(saying("one"), *pieces, STOP)
    assert (text(chunks), fault) == ("one", None)


async def test_an_error_event_after_the_end_is_an_error():
    chunks, fault = await sent(saying("one"), STOP, {"error": {"code": 500, "message": "x"}})
    assert (text(chunks), fault) == ("one", Fault.UNREACHABLE)


async def test_a_compressed_body_is_not_read():
    """The gateway asks for identity; who compresses regardless sends a bomb, or something that no check has seen."""
    bomb = gzip.compress(b"data: " + b"x" * 50_000_000)

    async def play(exchange):
        await exchange.raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n")
        await exchange.raw(b"Content-Length: %d\r\n\r\n%b" % (len(bomb), bomb))
        await exchange.gone()
        exchange.close()

    assert await played(play) == ([], Fault.MALFORMED)
