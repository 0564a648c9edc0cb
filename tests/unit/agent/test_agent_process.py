"""`python -m agent` as a process of its own, as Cloud Run starts and ends it."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys

import aiohttp
import pytest
from agent_parts import AGENT, AUDIENCE, StandIn, finish, standing, text

from localcloud.google import GoogleConfig, LocalGoogle
from localcloud.google.jws import claims_of

BARE = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "PYTHONPATH")}


async def ran(*arguments, **environment):
    """Exit code, standard output and standard error of a process that ends by itself."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agent",
        *arguments,
        env=BARE | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(20):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_help_says_what_the_environment_must_say():
    code, out, _ = await ran("--help")
    assert code == 0
    for name in ("GATEWAY_URL", "AGENT_MODEL", "GATEWAY_AUDIENCE", "GCE_METADATA_HOST", "PORT", "--ready-file"):
        assert name in out


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "agent: GATEWAY_URL: write the gateway's URL"),
        ({"GATEWAY_URL": "https://a.example/path", "AGENT_MODEL": "flash"}, "agent: GATEWAY_URL: "),
        ({"GATEWAY_URL": "https://a.example"}, "agent: AGENT_MODEL: name a model"),
    ],
)
async def test_an_environment_that_cannot_be_used_ends_with_2_and_a_sentence(environment, said):
    code, out, err = await ran(**environment)
    assert code == 2
    assert out == ""
    assert err.startswith(said)
    assert err.count("\n") == 1


async def test_a_port_that_is_taken_ends_with_1_and_a_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = await ran(
            GATEWAY_URL="http://127.0.0.1:1",
            AGENT_MODEL="flash",
            AGENT_HOST="127.0.0.1",
            PORT=str(taken.getsockname()[1]),
        )
    assert code == 1
    assert err.startswith("agent: cannot listen on 127.0.0.1:")
    assert "Traceback" not in err


@contextlib.asynccontextmanager
async def process(tmp_path, gateway, google):
    """The agent between a stand-in gateway and a local Google; yields the process and where it listens."""
    ready = tmp_path / "agent.json"
    agent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agent",
        "--ready-file",
        str(ready),
        env=BARE
        | {
            "GATEWAY_URL": gateway.url,
            "GATEWAY_AUDIENCE": AUDIENCE,
            "AGENT_MODEL": "flash",
            "AGENT_HOST": "127.0.0.1",
            "PORT": "0",
            "GCE_METADATA_HOST": google.metadata_address("agent"),
        },
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(20):
            while not ready.exists():  # noqa: ASYNC110  # a file is how a process tells that it listens
                await asyncio.sleep(0.01)
        told = json.loads(ready.read_text())
        assert told["pid"] == agent.pid
        yield agent, told["url"]
    finally:
        if agent.returncode is None:
            agent.kill()
            await agent.wait()


async def stops_listening(url):
    """Whether new connections are refused within some seconds."""
    port = int(url.rpartition(":")[2])
    async with asyncio.timeout(5):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                return True
            writer.close()
            await asyncio.sleep(0.005)


async def test_it_answers_with_its_own_token_and_lets_runs_end_at_sigterm(tmp_path):
    stand_in = StandIn()

    async def held(stream):
        await stream.send_message(text(1, "first"))
        await stand_in.gate.wait()
        await stream.send_message(finish(2))

    stand_in.chat = held
    async with (
        LocalGoogle(GoogleConfig(identities={"agent": AGENT})) as google,
        standing(stand_in) as gateway,
        process(tmp_path, gateway, google) as (agent, url),
        aiohttp.ClientSession() as session,
        session.post(f"{url}/ask", json={"prompt": "hello"}) as reply,
    ):
        assert json.loads(await reply.content.readline()) == {"text": "first"}
        agent.send_signal(signal.SIGTERM)
        assert await stops_listening(url)
        stand_in.gate.set()
        assert "finish" in json.loads(await reply.content.readline())
        assert await asyncio.wait_for(agent.wait(), 5) == 0
        assert (await agent.stderr.read()) == b""
    bearer = stand_in.metadata["Chat"][0]["authorization"]
    claims = claims_of(bearer.removeprefix("Bearer "))
    assert (claims["aud"], claims["email"]) == (AUDIENCE, AGENT)


async def test_sigint_ends_it_quietly(tmp_path):
    async with (
        LocalGoogle(GoogleConfig(identities={"agent": AGENT})) as google,
        standing() as gateway,
        process(tmp_path, gateway, google) as (agent, _),
    ):
        agent.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(agent.wait(), 5) == 0
        assert (await agent.stderr.read()) == b""


async def test_it_imports_nothing_of_the_gateway_or_the_local_cloud():
    code = "import sys, agent.__main__; print(*sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    modules = out.decode().split()
    assert "agent.client.gateway" in modules
    strange = ("gateway", "localcloud", "google.auth", "google.protobuf", "google.rpc", "cedarpy", "cryptography")
    assert [name for name in modules if name.startswith(strange)] == []
