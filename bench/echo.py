"""The least that a server in this language can do: what one wake-up costs, as the floor under other figures."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bench.rig import processor_s

MESSAGE = b"x" * 100


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if isinstance(self._transport, asyncio.WriteTransport):
            self._transport.write(data)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Echo, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def echo(processors: set[int]) -> Iterator["Echo"]:
    """A server of its own process, on these processors."""
    command = [sys.executable, "-m", "bench.echo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            os.sched_setaffinity(process.pid, processors)
            assert process.stdout is not None
            yield Echo(process.pid, int(process.stdout.readline()))
        finally:
            process.terminate()


class Echo:
    """The server as its one client sees it."""

    def __init__(self, pid: int, port: int) -> None:
        self._pid = pid
        self._port = port

    async def cost_us(self, messages: int, apart_s: float) -> float:
        """Processor time of the server for one message, each sent after the answer to the one before."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        used = processor_s(self._pid)
        for _ in range(messages):
            writer.write(MESSAGE)
            await reader.readexactly(len(MESSAGE))
            if apart_s:
                await asyncio.sleep(apart_s)
        spent = processor_s(self._pid) - used
        writer.close()
        return spent / messages * 1e6


if __name__ == "__main__":
    asyncio.run(_serve())
