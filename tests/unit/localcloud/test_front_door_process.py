"""The issuer and the door as processes of their own: ready files, signals, exit codes, sentences for bad options."""

import asyncio
import json
import signal
import sys

import aiohttp
import pytest
from front_door_parts import AGENT, AUDIENCE, Client, container, eventually
from grpclib.exceptions import GRPCError, StreamTerminatedError

IDENTITY = "/computeMetadata/v1/instance/service-accounts/default/identity"


async def run(module, *options):
    """Run a module to its end; returns exit code and all that it wrote."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *options, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(20):
        out, _ = await process.communicate()
    return process.returncode, out.decode()


class Running:
    """A module as a process that writes a ready file; killed if the test did not end it."""

    def __init__(self, folder, module, *options):
        self._file = folder / f"{module}.json"
        self._command = (sys.executable, "-m", module, *options, "--ready-file", str(self._file))

    async def __aenter__(self):
        self._process = await asyncio.create_subprocess_exec(*self._command)
        async with asyncio.timeout(20):
            await eventually(lambda: self._file.exists() or self._process.returncode is not None)
        self.facts = json.loads(self._file.read_text())
        assert self.facts["pid"] == self._process.pid
        return self

    async def __aexit__(self, *error):
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def end(self, number):
        """Send a signal; returns the exit code."""
        self._process.send_signal(number)
        async with asyncio.timeout(10):
            return await self._process.wait()


async def test_both_processes_serve_a_call_and_end_cleanly(tmp_path):
    log = tmp_path / "access.log"
    other = "sa-gateway@local-project.iam.gserviceaccount.com"
    identities = ("--identity", f"agent={AGENT}", "--identity", f"gateway={other}")
    async with Running(tmp_path, "localcloud.google", *identities) as google, container() as (echo, port):
        options = ("--container", f"127.0.0.1:{port}", "--audience", AUDIENCE, "--invoker", AGENT)
        options += ("--certs-url", google.facts["certs_url"], "--log", str(log))
        async with Running(tmp_path, "localcloud.front_door", *options) as door:
            tokens = {}
            async with aiohttp.ClientSession(headers={"Metadata-Flavor": "Google"}) as session:
                for name in ("agent", "gateway"):
                    url = f"http://{google.facts['metadata'][name]}{IDENTITY}"
                    async with session.get(url, params={"audience": AUDIENCE}) as reply:
                        tokens[name] = await reply.text()
            address = type("Address", (), {"host": door.facts["host"], "port": door.facts["port"]})
            client = Client(address)
            try:
                assert await client.unary(b"through", authorization=f"Bearer {tokens['agent']}") == b"through"
                with pytest.raises(GRPCError, match="403"):
                    await client.unary(b"", authorization=f"Bearer {tokens['gateway']}")
            finally:
                client.channel.close()
            assert await door.end(signal.SIGTERM) == 0
        assert await google.end(signal.SIGINT) == 0
    assert len(echo.metadata) == 1
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["caller"], line["status"], line["reason"]) for line in lines] == [
        (AGENT, 200, ""),
        (other, 403, "not-invoker"),
    ]


DOOR = ("--certs-url", "http://127.0.0.1:1/")


@pytest.mark.parametrize(
    ("module", "options", "sentence"),
    [
        ("localcloud.google", (), "--identity"),
        ("localcloud.google", ("--identity", "agent"), "NAME=EMAIL"),
        ("localcloud.google", ("--identity", "agent=nobody"), "e-mail"),
        ("localcloud.google", ("--identity", "a=x@y", "--identity", "a=x@y"), "twice"),
        ("localcloud.front_door", (*DOOR, "--audience", "x", "--container", "8080"), "HOST:PORT"),
        ("localcloud.front_door", (*DOOR, "--container", "h:1"), "--audience"),
        ("localcloud.front_door", (*DOOR, "--audience", "x", "--container", "h:1", "--timeout", "0"), "timeout"),
    ],
)
async def test_a_wrong_option_is_a_sentence_and_exit_code_2(module, options, sentence):
    code, out = await run(module, *options)
    assert code == 2
    assert sentence in out
    assert "Traceback" not in out


@pytest.mark.parametrize("module", ["localcloud.google", "localcloud.front_door"])
async def test_help_names_every_option(module):
    code, out = await run(module, "--help")
    assert code == 0
    assert "--ready-file" in out


async def test_a_taken_port_or_a_missing_folder_is_a_sentence_and_exit_code_1(tmp_path):
    async with container() as (_, port):
        code, out = await run("localcloud.google", "--identity", f"agent={AGENT}", "--port", str(port))
        assert (code, "Traceback" in out) == (1, False)
        door = ("--container", "127.0.0.1:1", "--audience", "x", *DOOR, "--port", str(port))
        code, out = await run("localcloud.front_door", *door)
        assert (code, "Traceback" in out) == (1, False)
    missing = ("--identity", f"agent={AGENT}", "--ready-file", str(tmp_path / "no" / "file"))
    code, out = await run("localcloud.google", *missing)
    assert (code, "Traceback" in out) == (1, False)


async def test_a_door_that_cannot_write_its_log_stops(tmp_path):
    async with container() as (_, port):
        options = (
            "--container",
            f"127.0.0.1:{port}",
            "--audience",
            AUDIENCE,
            *DOOR,
            "--log",
            "/dev/full",
            "--port",
            "0",
        )
        async with Running(tmp_path, "localcloud.front_door", *options) as door:
            client = Client(type("Address", (), {"host": "127.0.0.1", "port": door.facts["port"]}))
            with pytest.raises((GRPCError, StreamTerminatedError)):
                await client.unary()
            client.channel.close()
            async with asyncio.timeout(10):
                assert await door._process.wait() == 1
