"""The smoke call over a real connection: what it waits for, and what ends it at once."""

import io
import time
from contextlib import asynccontextmanager

import pytest
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError
from grpclib.server import Server

from agent.client.errors import GatewayError
from deploy import smoke as smoke_command
from deploy.smoke import smoke


class AsBytes(CodecBase):
    __content_subtype__ = "proto"

    def encode(self, message, _):
        return message

    def decode(self, data, _):
        return data


class Gateway:
    """Refuses its first calls, from the edge or by its own word, then lists no models."""

    def __init__(self, *refusals, own=False):
        self.refusals, self.own, self.tokens = list(refusals), own, []

    def __mapping__(self):
        return {
            "/agentic.gateway.v1.ModelService/ListModels": Handler(self._list, Cardinality.UNARY_UNARY, bytes, bytes)
        }

    async def _list(self, stream):
        await stream.recv_message()
        self.tokens.append(stream.metadata["authorization"])
        if self.own:
            await stream.send_initial_metadata(metadata={"gateway-request": "r-1"})
        if self.refusals:
            raise GRPCError(self.refusals.pop(0), "no")
        await stream.send_message(b"")


@asynccontextmanager
async def serving(gateway):
    server = Server([gateway], codec=AsBytes())
    await server.start("127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server._server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


async def test_it_waits_for_a_grant_to_be_known_at_the_edge():
    gateway = Gateway(Status.PERMISSION_DENIED, Status.UNIMPLEMENTED)
    async with serving(gateway) as url:
        assert await smoke(url, "https://x", "the-token", wait_seconds=5.0, pause_seconds=0.001) == 0
    assert gateway.tokens == ["Bearer the-token"] * 3


async def test_it_waits_no_longer_than_it_is_told():
    gateway = Gateway(*[Status.PERMISSION_DENIED] * 99)
    started = time.monotonic()
    async with serving(gateway) as url:
        with pytest.raises(GatewayError):
            await smoke(url, "https://x", "t", wait_seconds=0.3, pause_seconds=0.06)
    assert time.monotonic() - started < 5
    assert 1 < len(gateway.tokens) < 10


async def test_the_gateways_own_refusal_is_final():
    gateway = Gateway(Status.UNAUTHENTICATED, Status.UNAUTHENTICATED, own=True)
    async with serving(gateway) as url:
        with pytest.raises(GatewayError):
            await smoke(url, "https://x", "t", wait_seconds=5.0, pause_seconds=0.001)
    assert len(gateway.tokens) == 1


@pytest.mark.parametrize("url, code, said", [("nonsense", 2, "smoke: "), ("http://127.0.0.1:1", 1, "does not pass")])
def test_the_command_says_why(url, code, said, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("the-token\n"))
    with pytest.raises(SystemExit) as ended:
        smoke_command.main([url, "--audience=https://x", "--wait=0"])
    assert ended.value.code == code
    err = capsys.readouterr().err
    assert said in err
    assert "the-token" not in err
