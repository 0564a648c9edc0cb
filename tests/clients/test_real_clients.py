"""A `gateway serve` process, called by the clients that people of other languages and libraries have."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from go_programs import go_program, not_found
from program_clients import ProgramError, curl, grpcurl, install_node_libraries, node, run
from python_clients import PYTHON_CLIENTS
from real_calls import Task, judge

from agent.tokens import MetadataTokens
from localcloud.demo.eyes import Eyes
from localcloud.demo.town import AUDIENCE, UNHURRIED, Plan, built

pytestmark = pytest.mark.asyncio(loop_scope="module")

NODE_SOURCES = Path(__file__).parent / "node"
CURL_VERSIONS = {"http1": ("--http1.1",), "http2": ("--http2-prior-knowledge",)}
CONNECT_NODE_WAYS = [
    ("connect", "1.1", True),
    ("connect", "2", True),
    ("connect", "2", False),
    ("grpc-web", "1.1", True),
    ("grpc-web", "2", True),
    ("grpc", "2", True),
]


@dataclass
class Gateway:
    """Where the gateway is, and the agent's token for it."""

    target: str
    token: str
    eyes: Eyes


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("town")
    with pytest.MonkeyPatch.context() as patch:
        # Clients must not ask a proxy of this machine for a loopback address.
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, "127.0.0.1,localhost")
        async with built(folder, Plan(with_agent=False, with_door=False, more_limits=UNHURRIED)) as town:
            async with MetadataTokens(town.metadata("agent")) as tokens:
                token = await tokens.id_token(AUDIENCE)
            async with aiohttp.ClientSession() as session:
                eyes = Eyes(town=town, session=session)
                yield Gateway(town.gateway_url.removeprefix("http://"), token, eyes)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def node_folder(pytestconfig, tmp_path_factory):
    """The scripts with their libraries, installed into pytest's cache; a reason to skip where that cannot be."""
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not found: {' and '.join(missing)}")
    cache = getattr(pytestconfig, "cache", None)
    folder = cache.mkdir("node-clients") if cache else tmp_path_factory.mktemp("node-clients")
    try:
        await install_node_libraries(NODE_SOURCES, folder)
    except ProgramError as error:
        pytest.skip(f"the libraries for Node cannot be installed: {str(error).splitlines()[0]}")
    return folder


async def called(gateway, request, client):
    """Let a client do its task, judge what it heard, and look whether it happened at the exchange and in the record."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    orders, records = len(await gateway.eyes.orders()), len(gateway.eyes.records())
    heard = await client(Task(target=gateway.target, token=gateway.token, name=name))
    judge(heard)
    placed = (await gateway.eyes.orders())[orders:]
    assert [(order["symbol"], order["qty"]) for order in placed] == [("AAPL", "1")]
    written = gateway.eyes.records()[records:]
    assert [record["kind"] for record in written] == ["intent", "outcome", "intent", "outcome", "refusal"]
    assert {record["operation"] for record in written[2:4]} == {heard.operation["id"]}


@pytest.mark.parametrize("name", PYTHON_CLIENTS)
async def test_python_library(gateway, request, name):
    await called(gateway, request, PYTHON_CLIENTS[name])


@pytest.mark.parametrize("version", CURL_VERSIONS)
async def test_curl(gateway, request, version):
    if shutil.which("curl") is None:
        pytest.skip("not found: curl")
    if version == "http2" and b"HTTP2" not in (await run("curl", "--version"))[0]:
        pytest.skip("this curl was built without HTTP/2")
    await called(gateway, request, curl(*CURL_VERSIONS[version]))


async def test_grpcurl_through_reflection(gateway, request):
    program = go_program("grpcurl")
    if program is None:
        pytest.skip(not_found("grpcurl"))
    await called(gateway, request, grpcurl(program))


async def test_grpc_js(gateway, request, node_folder):
    await called(gateway, request, node(node_folder, "grpc_js.mjs"))


@pytest.mark.parametrize("protocol, version, binary", CONNECT_NODE_WAYS)
async def test_connect_node(gateway, request, node_folder, protocol, version, binary):
    ways = {"protocol": protocol, "httpVersion": version, "binary": binary}
    await called(gateway, request, node(node_folder, "connect_node.mjs", **ways))
