"""The web application over real sockets, under hypercorn and on the gateway's own port, spoken to by real clients."""

import asyncio
import contextlib
import io
import shutil
import socket
from dataclasses import dataclass

import aiohttp
import pytest
from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config
from web_echo import METHODS, SERVICE, Echo, Log, Web, details, envelope, envelopes, eventually, reply, request

from gateway.terms.clock import SystemClock, SystemIds
from gateway.terms.verdict import Kind, Refusal, RefusedError
from gateway.wire.config import WireConfig
from gateway.wire.server import GatewayServer
from gateway.wire.table import bind
from gateway.wire.web.application import WebApplication
from generated.agentic.gateway.v1 import Operation

STREAM = "application/connect+json"


@dataclass
class Served:
    url: str
    port: int
    load: object
    log: Log


@contextlib.asynccontextmanager
async def under_hypercorn(on):
    web = Web(**on)
    listening = socket.create_server(("127.0.0.1", 0))
    config = Config()
    port = listening.getsockname()[1]
    # hypercorn closes what it is given.
    config.bind = [f"fd://{listening.detach()}"]
    config.errorlog = config.accesslog = None
    config.graceful_timeout = 0.2
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(hypercorn_serve(web.app, config, shutdown_trigger=stop.wait))
        yield Served(f"http://127.0.0.1:{port}", port, web.load, web.log)
        stop.set()


@contextlib.asynccontextmanager
async def on_the_port(on):
    log = Log()
    table = bind(METHODS, Echo(on))
    server = GatewayServer(table, WireConfig(linger_s=0.05), SystemClock(), SystemIds(), log)
    app = WebApplication(server.table, server.surroundings, server.readiness)
    port = await server.start("127.0.0.1", 0, app)
    server.readiness.set_serving(True)
    yield Served(f"http://127.0.0.1:{port}", port, server.surroundings.load, log)
    await server.drain(0.05)


SERVERS = {"hypercorn": under_hypercorn, "port": on_the_port}


@pytest.fixture(params=SERVERS)
async def serving(request):
    """Start a server: `await serving(say=...)`."""
    stack = contextlib.AsyncExitStack()

    async def start(**on):
        return await stack.enter_async_context(SERVERS[request.param](on))

    yield start
    await stack.aclose()


@pytest.fixture
async def http():
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


async def test_curls_friend(serving, http):
    served = await serving()
    headers = {"content-type": "application/json"}
    async with http.post(served.url + SERVICE + "Say", data=request(tool="h"), headers=headers) as answer:
        assert (answer.status, reply(await answer.read())) == (200, Operation(id="h"))
        assert answer.headers["trailer-gateway-timing"]
    async with http.get(served.url + SERVICE + "Look?encoding=json&message=%7B%22tool%22:%22l%22%7D") as answer:
        assert reply(await answer.read()).id == "l"
    async with http.get(served.url + "/readyz") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "ready"})
    async with http.get(served.url + "/") as answer:
        assert answer.status == 404
        assert "toy.v1.Echo" in (await answer.json())["message"]
    async with http.head(served.url + "/healthz") as answer:
        assert answer.status == 200


async def test_a_body_in_chunks(serving, http):
    served = await serving()

    async def chunks():
        for byte in request(tool="chunked"):
            yield bytes((byte,))

    headers = {"content-type": "application/json"}
    async with http.post(served.url + SERVICE + "Say", data=chunks(), headers=headers) as answer:
        assert reply(await answer.read()).id == "chunked"


async def test_a_refusal_of_a_body_that_is_too_long(serving, http):
    served = await serving()
    headers = {"content-type": "application/json"}
    body = io.BytesIO(b" " * (4 * 1024 * 1024 + 1))
    with contextlib.suppress(aiohttp.ClientOSError):
        async with http.post(served.url + SERVICE + "Say", data=body, headers=headers) as answer:
            assert (answer.status, (await answer.json())["code"]) == (429, "resource_exhausted")
    await eventually(lambda: not served.load.calls)
    assert served.load.receiving_bytes == 0


async def test_a_stream_arrives_as_it_is_made(serving, http):
    gate = asyncio.Event()

    async def tell(request, passage):
        yield Operation(id="first")
        await gate.wait()
        yield Operation(id="second")

    served = await serving(tell=tell)
    headers = {"content-type": STREAM}
    async with http.post(served.url + SERVICE + "Tell", data=envelope(b"{}"), headers=headers) as answer:
        first = await answer.content.readany()
        assert reply(first[5:]).id == "first"
        gate.set()
        rest = envelopes(await answer.read())
    assert reply(rest[0][1]).id == "second"
    assert rest[1][0] == 2


async def test_both_directions_over_http1(serving, http):
    served = await serving()
    heard = asyncio.Queue()

    async def chunks():
        yield envelope(request(tool="one"))
        await heard.get()
        yield envelope(request(tool="two"))

    async with http.post(served.url + SERVICE + "Talk", data=chunks(), headers={"content-type": STREAM}) as answer:
        first = await answer.content.readany()
        assert reply(first[5:]).id == "one"
        heard.put_nowait(None)
        rest = envelopes(await answer.read())
    assert reply(rest[0][1]).id == "two"


@pytest.mark.parametrize("name", ["Say", "Tell", "Collect", "Talk"])
async def test_a_caller_that_leaves(serving, http, name):
    told = []

    async def say(request, passage):
        try:
            told.append("began")
            await asyncio.get_running_loop().create_future()
        finally:
            told.append("ended")

    async def tell(request, passage):
        try:
            told.append("began")
            yield Operation(id="1")
            await asyncio.get_running_loop().create_future()
        finally:
            told.append("ended")

    served = await serving(say=say, tell=tell, collect=say, talk=tell)
    content_type = "application/json" if name == "Say" else STREAM
    body = b"{}" if name == "Say" else envelope(b"{}")
    asking = asyncio.ensure_future(
        http.post(served.url + SERVICE + name, data=body, headers={"content-type": content_type})
    )
    await eventually(lambda: told == ["began"])
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        (await asking).close()
    await eventually(lambda: told == ["began", "ended"])
    await eventually(lambda: not served.load.calls)
    assert served.load.running == 0
    assert not served.log.named("call.failed")


@pytest.mark.parametrize("more", [[], ["--http2-prior-knowledge"]])
async def test_curl(serving, more):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    served = await serving()

    async def curl(*arguments):
        process = await asyncio.create_subprocess_exec(
            "curl", "-sS", "--max-time", "5", *more, *arguments, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        return out.decode()

    said = await curl("-d", '{"tool":"saw"}', "-H", "content-type: application/json", served.url + SERVICE + "Say")
    assert said == '{"id":"saw"}'
    assert "alive" in await curl(served.url + "/healthz")
    shown = await curl("-i", "-d", "{}", served.url + SERVICE + "Say")
    assert " 415" in shown.splitlines()[0]
    assert "send content-type: application/json" in shown


class OurCodec:
    """Our codecs, as connect-python wants them."""

    def __init__(self, name):
        self._name = name

    def name(self):
        return self._name

    def encode(self, message):
        return request(self._name, tool=message.tool)

    def decode(self, data, message_class):
        return reply(bytes(data), self._name)


class ConnectPython:
    """Official clients over our messages."""

    def __init__(self, served, codec, protocol, http2):
        connectrpc = pytest.importorskip("connectrpc", reason="connectrpc is not installed")
        from connectrpc.client import ConnectClient  # noqa: PLC0415 - skipped where it is not installed
        from connectrpc.protocol import ProtocolType  # noqa: PLC0415
        from pyqwest import Client, HTTPTransport, HTTPVersion  # noqa: PLC0415

        assert connectrpc
        transport = HTTPTransport(http_version=HTTPVersion.HTTP2 if http2 else HTTPVersion.HTTP1)
        self.client = ConnectClient(
            served.url, codec=OurCodec(codec), protocol=ProtocolType[protocol], http_client=Client(transport)
        )

    @staticmethod
    def method(name):
        from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType  # noqa: PLC0415

        kinds = {
            "Say": StreamType.UNARY,
            "Look": StreamType.UNARY,
            "Tell": StreamType.SERVER_STREAM,
            "Collect": StreamType.CLIENT_STREAM,
            "Talk": StreamType.BIDI_STREAM,
        }
        level = IdempotencyLevel.NO_SIDE_EFFECTS if name == "Look" else IdempotencyLevel.UNKNOWN
        return MethodInfo(
            name=name,
            service_name="toy.v1.Echo",
            input=Operation,
            output=Operation,
            idempotency_level=level,
            stream_type=kinds[name],
        )


@dataclass
class Asked:
    tool: str


async def several(*tools):
    for tool in tools:
        yield Asked(tool)


@pytest.fixture(params=[("json", "CONNECT"), ("proto", "CONNECT"), ("proto", "GRPC_WEB")], ids="-".join)
def spoken(request):
    return request.param


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_connect_python(serving, spoken, http2):
    served = await serving()
    python = ConnectPython(served, *spoken, http2)
    client, method = python.client, python.method
    said = await client.execute_unary(request=Asked("x" * 3_000), method=method("Say"), timeout_ms=5_000)
    assert said.id == "x" * 3_000
    if spoken[1] == "CONNECT":
        looked = await client.execute_unary(request=Asked("l"), method=method("Look"), use_get=True)
        assert looked.id == "l"
    told = [each.id async for each in client.execute_server_stream(request=Asked("t"), method=method("Tell"))]
    assert told == ["t0", "t1", "t2"]
    collected = await client.execute_client_stream(request=several("a", "b", "c"), method=method("Collect"))
    assert collected.id == "a+b+c"
    if http2:
        talked = [
            each.id async for each in client.execute_bidi_stream(request=several("a", "b"), method=method("Talk"))
        ]
        assert talked == ["a", "b"]


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@pytest.mark.parametrize("name", ["Say", "Tell"])
async def test_connect_python_is_told_refusals_whole(serving, spoken, http2, name):
    refusal = Refusal(
        kind=Kind.EXHAUSTED, reason="budget.exhausted", sentence="the budget is used up", retry_after_ms=2_000
    )

    async def say(request, passage):
        raise RefusedError(refusal)

    async def tell(request, passage):
        yield Operation(id="1")
        raise RefusedError(refusal)

    served = await serving(say=say, tell=tell)
    python = ConnectPython(served, *spoken, http2)
    from connectrpc.errors import ConnectError  # noqa: PLC0415

    async def called():
        if name == "Say":
            await python.client.execute_unary(request=Asked(""), method=python.method("Say"))
        else:
            async for _ in python.client.execute_server_stream(request=Asked(""), method=python.method("Tell")):
                pass

    with pytest.raises(ConnectError) as refused:
        await called()
    assert refused.value.code.name == "RESOURCE_EXHAUSTED"
    assert refused.value.message == "the budget is used up"
    assert [detail.type_name for detail in refused.value.details] == ["google.rpc.ErrorInfo", "google.rpc.RetryInfo"]


async def test_health_check_as_json(serving, http):
    served = await serving()
    headers = {"content-type": "application/json"}
    async with http.post(served.url + "/grpc.health.v1.Health/Check", data=b"{}", headers=headers) as answer:
        assert await answer.json() == {"status": "SERVING"}
    async with http.post(
        served.url + "/grpc.health.v1.Health/Check", data=b'{"service":"x"}', headers=headers
    ) as answer:
        assert answer.status == 404
        assert details(await answer.json())["google.rpc.ErrorInfo"]["reason"] == "health.service_unknown"
