"""A container of a few lines: gRPC health and an echo on $PORT. What it is called with says how it misbehaves."""

import asyncio
import os
import signal
import sys

import grpclib.const
import grpclib.server
from grpclib.const import Cardinality
from grpclib.encoding.base import CodecBase


class Raw(CodecBase):
    __content_subtype__ = "proto"

    def encode(self, message, message_type):
        return message

    def decode(self, data, message_type):
        return data


class Small:
    """Says who it is; a call that asks for it waits until the process is told to end."""

    def __init__(self, mode):
        self.mode = mode
        self.ending = asyncio.Event()
        self.open = 0
        self.empty = asyncio.Event()
        self.empty.set()

    async def check(self, stream):
        await stream.recv_message()
        await stream.send_message(b"\x08\x02" if self.mode == "never-ready" else b"\x08\x01")

    async def who(self, stream):
        """The revision, the process and the ledger's folder; with b"wait" only when the end has begun."""
        asked = await stream.recv_message()
        self.open += 1
        self.empty.clear()
        try:
            if asked == b"wait":
                await self.ending.wait()
            words = (os.environ["K_REVISION"], str(os.getpid()), os.environ.get("SMALL_FILE", ""))
            await stream.send_message(" ".join(words).encode())
        finally:
            self.open -= 1
            if not self.open:
                self.empty.set()

    def __mapping__(self):
        handler = grpclib.const.Handler
        return {
            "/grpc.health.v1.Health/Check": handler(self.check, Cardinality.UNARY_UNARY, bytes, bytes),
            "/test.Small/Who": handler(self.who, Cardinality.UNARY_UNARY, bytes, bytes),
        }


async def main(mode):
    if mode == "crash":
        sys.exit("it cannot find its configuration")
    small = Small(mode)
    loop = asyncio.get_running_loop()
    if mode != "deaf":
        loop.add_signal_handler(signal.SIGTERM, small.ending.set)
    else:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server = grpclib.server.Server([small], codec=Raw())
    port = int(os.environ["PORT"]) + (1 if mode == "wrong-port" else 0)
    await server.start(os.environ["SMALL_HOST"], port)
    await small.ending.wait()
    await small.empty.wait()
    server.close()
    await server.wait_closed()


asyncio.run(main(sys.argv[1]))
