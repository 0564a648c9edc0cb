"""Asks, clocks and upstreams for the tests of the model stations: every upstream is a real socket on loopback."""

import asyncio
import json
import socket
import struct
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

import aiohttp

from gateway.llm.claude import Claude
from gateway.llm.compatible import Compatible, CompatibleConfig
from gateway.llm.compatible_request import Dialect
from gateway.llm.credentials import FixedKey
from gateway.llm.vertex import Vertex, VertexConfig
from gateway.terms.asks import ChatAsk, CountAsk
from gateway.terms.conversation import (
    Conversation,
    Ending,
    FunctionCall,
    Generation,
    Speaker,
    Text,
    Thought,
    Turn,
    Usage,
)
from gateway.terms.ids import ModelName, RunId
from gateway.terms.models import Model, Price
from gateway.terms.money import MicroUsd

NAME = "gemini-3.5-flash"
MODEL = Model(
    name=ModelName("fast"),
    description="",
    upstream_id=NAME,
    max_output_tokens=8192,
    constraints=frozenset({"json_schema", "choice"}),
    price=Price(input=MicroUsd(1), output=MicroUsd(1), cached=MicroUsd(1)),
)
CLAUDE = replace(MODEL, name=ModelName("sonnet"), upstream_id="claude-sonnet-5", constraints=frozenset({"json_schema"}))
LLAMA = replace(
    MODEL,
    name=ModelName("llama"),
    upstream_id="llama-4-maverick",
    constraints=frozenset({"json_schema", "regex", "choice"}),
)
STOP = {"candidates": [{"content": {"role": "model"}, "finishReason": "STOP"}]}


class StandingClock:
    """Shows what the test says."""

    def __init__(self):
        self.now_s = 1_790_000_000.0

    def unix_us(self):
        return int(self.now_s * 1e6)

    def monotonic_ns(self):
        return int(self.now_s * 1e9)


class GivenTokens:
    """Credentials that give the tokens of a list, the next one after each refusal, and the last one for ever."""

    def __init__(self, *tokens):
        self._tokens = list(tokens or ["t"])
        self.refusals = []

    async def token(self):
        return self._tokens[0]

    def refused(self, token):
        self.refusals.append(token)
        if len(self._tokens) > 1:
            self._tokens.pop(0)


def user(*parts):
    return Turn(speaker=Speaker.USER, parts=tuple(Text(text=part) if isinstance(part, str) else part for part in parts))


def model(*parts):
    return Turn(speaker=Speaker.MODEL, parts=parts)


def conversation(*turns, system="", **more):
    turns = tuple(user(turn) if isinstance(turn, str) else turn for turn in turns)
    return Conversation(system_instruction=system, turns=turns, **more)


def ask(*turns, max_output_tokens=8192, **more):
    asked = conversation(*turns, **more) if not isinstance(turns[0], Conversation) else turns[0]
    return ChatAsk(
        model=MODEL.name,
        conversation=asked,
        max_output_tokens=max_output_tokens,
        input_tokens_bound=100_000,
        run=RunId(""),
        digest=b"",
    )


def count_ask(*turns, **more):
    return CountAsk(model=MODEL.name, conversation=conversation(*turns, **more), digest=b"")


def thinking(**more):
    return Generation(include_thoughts=True, **more)


@asynccontextmanager
async def vertex_at(url, *, credentials=None, **config):
    """The adapter in front of an upstream, with a session of its own."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        settings = VertexConfig(project="p", location="us-central1", endpoint=url, **config)
        yield Vertex(settings, session, credentials or GivenTokens())


@asynccontextmanager
async def claude_at(url, *, credentials=None, **config):
    """The adapter of Claude in front of an upstream."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        settings = VertexConfig(name="claude", project="p", location="us-central1", endpoint=url, **config)
        yield Claude(settings, session, credentials or GivenTokens())


@asynccontextmanager
async def compatible_at(url, *, key="", dialect=Dialect.VLLM, **config):
    """The adapter of an OpenAI-compatible server; `url` with its `/v1`."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        settings = CompatibleConfig(name="vllm", url=url, dialect=dialect, **config)
        yield Compatible(settings, session, FixedKey(key) if key else None)


async def heard(upstream, asked, chunks=None, *, of=MODEL):
    """All chunks of a stream; with a list given, also those before an error."""
    chunks = [] if chunks is None else chunks
    async with asyncio.timeout(20), aclosing(upstream.stream(of, asked, "call-x")) as stream:
        async for chunk in stream:
            chunks.append(chunk)
    return chunks


def text(chunks):
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, Text))


def thoughts(chunks):
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, Thought))


def calls(chunks):
    return [chunk for chunk in chunks if isinstance(chunk, FunctionCall)]


def usage(chunks):
    """The last count that was told."""
    return [chunk for chunk in chunks if isinstance(chunk, Usage)][-1]


def ending(chunks):
    """The ending, which must be the only one and the last chunk."""
    assert [place for place, chunk in enumerate(chunks) if isinstance(chunk, Ending)] == [len(chunks) - 1]
    return chunks[-1]


def saying(words, **more):
    """An event with a delta of text."""
    return {"candidates": [{"content": {"role": "model", "parts": [{"text": words}]}, **more}]}


def event(document):
    """An event as Vertex frames it."""
    return b"data: " + json.dumps(document).encode() + b"\r\n\r\n"


@dataclass
class Exchange:
    """One request as the upstream sees it, and the means to answer it badly."""

    connection: int
    head: bytes
    body: bytes
    writer: asyncio.StreamWriter
    reader: asyncio.StreamReader

    @property
    def token(self):
        line = next(line for line in self.head.split(b"\r\n") if line.lower().startswith(b"authorization:"))
        return line.split(b" ")[-1].decode()

    async def start(self, content_type="text/event-stream"):
        """The head of a chunked 200."""
        told = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
        await self.raw(told.encode())

    async def chunk(self, data):
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    async def say(self, *documents):
        """Each event as a chunk of its own."""
        for document in documents:
            await self.chunk(event(document))

    async def end(self):
        await self.raw(b"0\r\n\r\n")

    async def raw(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, status, document, **headers):
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.raw("\r\n".join([*lines, "", ""]).encode() + body)

    def close(self):
        self.writer.close()

    def reset(self):
        """Close with RST (socket(7), SO_LINGER of zero seconds)."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def gone(self):
        """Wait until the far end has closed or reset the connection."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            return


@dataclass
class Upstream:
    """A server that answers as the test says; `exchanges` holds every request that was read whole."""

    url: str = ""
    connections: int = 0
    open: int = 0
    exchanges: list = field(default_factory=list)
    faults: list = field(default_factory=list)


@asynccontextmanager
async def upstream(play, *, bodies=True):
    """Run `play(exchange)` for every request of every connection; `bodies`: requests have one."""
    seen = Upstream()
    serving = set()

    async def serve(reader, writer):
        serving.add(asyncio.current_task())
        seen.connections += 1
        seen.open += 1
        number = seen.connections
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                sizes = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                body = await reader.readexactly(int(sizes[0].split(b":")[1])) if bodies else b""
                exchange = Exchange(number, head, body, writer, reader)
                seen.exchanges.append(exchange)
                await play(exchange)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the adapter has gone, or the test is over
        except Exception as error:  # noqa: BLE001 - told to the test at its end
            seen.faults.append(error)
        finally:
            seen.open -= 1
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    seen.url = "http://{}:{}".format(*server.sockets[0].getsockname()[:2])
    try:
        yield seen
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        assert seen.faults == []


@asynccontextmanager
async def listener(serve):
    """Run `serve(reader, writer)` for every connection and give the URL; what it leaves open is cut at the end."""
    writers = []

    async def keep(reader, writer):
        writers.append(writer)
        await serve(reader, writer)

    server = await asyncio.start_server(keep, "127.0.0.1", 0)
    try:
        yield "http://{}:{}".format(*server.sockets[0].getsockname()[:2])
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


async def until(happened):
    """Wait until something is so, looking every millisecond; five seconds are far more than it takes."""
    async with asyncio.timeout(5):
        while not happened():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.001)
