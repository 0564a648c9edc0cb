"""A proxy before PostgreSQL that loses a connection at a chosen moment of a commit, as a network or a failover does."""

import asyncio
import re
from contextlib import asynccontextmanager
from enum import Enum
from urllib.parse import urlsplit

COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
"""A simple query (PostgreSQL's protocol, 55.7): type, length, text, NUL."""

PREPARED = re.compile(rb"P.{4}([^\x00]+)\x00WITH [^\x00]*boots", re.DOTALL)
RUN = re.compile(rb"B.{4}\x00([^\x00]+)\x00", re.DOTALL)
"""A statement is prepared under a name, and bound by it to be run."""


class Cut(Enum):
    """Where the connection ends."""

    BEFORE = "the server never hears of the commit"
    AFTER = "the server has committed, and its answer is lost"
    MEANWHILE = "the client is gone before the server begins the commit"


class CommitProxy:
    """Forwards everything; the next `cut` ends one connection at its commit.

    That is COMMIT, or, where a whole batch is one statement, that statement.
    """

    def __init__(self, host, port):
        self.server = (host, port)
        self.cut = None
        self.cuts = 0
        self.at_writes = True
        """False where batches lock first: they write, and then send COMMIT."""
        self.refuse = False
        self.port = 0

    async def serve(self, reader, writer):
        if self.refuse:
            writer.close()
            return
        up_reader, up_writer = await asyncio.open_connection(*self.server)
        writing = set()
        answers = asyncio.ensure_future(self._answers(up_reader, writer))
        try:
            while data := await reader.read(1 << 16):
                writing.update(PREPARED.findall(data))
                commits = COMMIT in data or (self.at_writes and writing.intersection(RUN.findall(data)))
                if commits and self.cut is not None:
                    await self._end(data, up_writer, writer, answers)
                    return
                up_writer.write(data)
                await up_writer.drain()
        except ConnectionError:
            pass
        finally:
            answers.cancel()
            for one in (writer, up_writer):
                one.close()

    async def _end(self, data, up_writer, writer, answers):
        cut, self.cut = self.cut, None
        self.cuts += 1
        if cut is Cut.BEFORE:
            return
        answers.cancel()
        if cut is Cut.MEANWHILE:
            writer.transport.abort()
            await asyncio.sleep(0.005)
        up_writer.write(data)
        await up_writer.drain()
        if cut is Cut.AFTER:
            await asyncio.sleep(0.05)

    async def _answers(self, up_reader, writer):
        try:
            while data := await up_reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
            writer.close()
        except ConnectionError:
            return


@asynccontextmanager
async def commit_proxy(url):
    """The proxy and the address through it."""
    place = urlsplit(url)
    proxy = CommitProxy(place.hostname, place.port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy, url.replace(f":{place.port}/", f":{proxy.port}/")
    finally:
        server.close()
