"""Sends a script over one HTTP exchange and notes in the journal how far it came."""

import asyncio
import socket
import struct

from aiohttp import web

from localcloud.vertex.journal import Entry, now_us
from localcloud.vertex.script import Ending, Script
from localcloud.vertex.ticker import Ticker
from localcloud.vertex.wire import Frames

# Silence is not for ever: a forgotten client is let go after this many seconds.
STALL_SECONDS = 3600.0
JSON_TYPE = "application/json; charset=UTF-8"


async def play(request: web.Request, script: Script, framing: Frames, entry: Entry) -> web.StreamResponse:
    """Send a stream. ConnectionError if the client leaves; a script that ends badly does so here."""
    response = web.StreamResponse(headers={"Content-Type": framing.value})
    response.enable_chunked_encoding()
    frames = framing.frames(script.documents, complete=script.ending is Ending.CLEAN)
    entry.chunks_planned = len(frames)
    entry.status = 200
    await asyncio.sleep(script.first_s)
    await response.prepare(request)
    if script.ending is Ending.ENDLESS:
        await response.write(b"".join(frames) + framing.next(script.repeated[0]))
        frames = [b"", *(framing.next(document) for document in script.repeated)]
    else:
        await response.write(frames[0] if frames else b"")
    entry.first_chunk_us = now_us()
    entry.chunks_sent = min(1, len(frames))
    await _send(request, response, frames[1:], script, entry)
    await _end(request, script.ending)
    return response


async def _send(
    request: web.Request, response: web.StreamResponse, frames: list[bytes], script: Script, entry: Entry
) -> None:
    if not script.interval_s:
        for frame in frames:
            await response.write(frame)
            entry.chunks_sent += 1
        return

    def sent() -> None:
        entry.chunks_sent += 1

    ticker = Ticker(_transport(request), frames, script.interval_s, sent)
    if not await ticker.run(endless=script.ending is Ending.ENDLESS):
        raise ConnectionResetError("the client left")


async def answer_whole(request: web.Request, body: bytes, script: Script, entry: Entry) -> web.StreamResponse:
    """Send a single JSON answer; a script that ends badly sends half of what it announced."""
    entry.chunks_planned = 1
    entry.status = 200
    await asyncio.sleep(script.first_s)
    if script.ending is Ending.CLEAN:
        entry.chunks_sent = 1
        return web.Response(body=body, headers={"Content-Type": JSON_TYPE})
    response = web.StreamResponse(headers={"Content-Type": JSON_TYPE})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    await _end(request, script.ending)
    if script.ending is Ending.TRUNCATED:
        _transport(request).close()
    return response


async def _end(request: web.Request, ending: Ending) -> None:
    if ending is Ending.STALL:
        await asyncio.sleep(STALL_SECONDS)
    if ending is Ending.RESET:
        reset(request)


def reset(request: web.Request) -> None:
    """Reset the connection (TCP RST). What a slow reader has not taken yet is lost, as with a real reset."""
    transport = _transport(request)
    # Lingering for zero seconds makes the kernel send RST instead of FIN (socket(7), SO_LINGER).
    linger = struct.pack("ii", 1, 0)
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()


def _transport(request: web.Request) -> asyncio.Transport:
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client left")
    return transport
