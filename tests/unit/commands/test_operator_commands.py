"""`gateway operations` and `gateway halt`, as processes, against a real gateway over HTTP."""

import asyncio
import json
import os
import sys
from dataclasses import replace

import pytest
from whole import LIMITS, RESTING_BUY, agent, budget, token, world

from gateway.services.models import ModelService
from gateway.services.operators import OperatorService
from gateway.services.tools import ToolService
from gateway.terms.limits import RepeatLimit
from gateway.terms.operations import State
from gateway.wire.config import WireConfig
from gateway.wire.contract import contract
from gateway.wire.server import GatewayServer
from gateway.wire.web.application import WebApplication
from gateway.wire.web.options import WebOptions

AGENTS = [
    agent(budgets=(budget("calls", 99),)),
    agent("looping", limits=replace(LIMITS, repeats=RepeatLimit(executions=1, window_ms=60_000))),
]


@pytest.fixture
async def whole(tmp_path):
    async with world() as around, around.gateway(tmp_path, AGENTS) as running:
        yield running


@pytest.fixture
async def run(whole):
    """Runs a command to its end against the gateway: exit code, standard output, standard error."""
    stations = whole.stations
    table = contract(ModelService(stations, whole.lasting), ToolService(stations), OperatorService(stations))
    server = GatewayServer(table, WireConfig(), stations.clock, stations.ids, whole.log)
    web = WebApplication(server.table, server.surroundings, server.readiness, WebOptions())
    port = await server.start("127.0.0.1", 0, web)
    server.readiness.set_serving(True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}

    async def command(*words, caller="oncall", **variables):
        given = {"GATEWAY_URL": f"http://127.0.0.1:{port}", "GATEWAY_TOKEN": token(whole.world.clock, caller)}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", *words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**kept, "COLUMNS": "200", **given, **variables},
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode, out.decode(), err.decode()

    yield command
    await server.drain(0.05)


async def lost(whole):
    whole.world.lose_replies()
    operation = (await whole.act(RESTING_BUY)).operation
    assert operation.state is State.UNKNOWN
    return operation.id


async def test_an_unknown_operation_is_found_shown_and_decided(whole, run):
    operation = await lost(whole)
    code, out, _ = await run("operations", "list", "--state", "unknown")
    assert code == 0
    assert operation in out
    assert "place_order" in out
    code, out, _ = await run("operations", "show", operation)
    assert (code, "upstream.reply_lost" in out, "symbol:AAPL" in out) == (0, True, True)
    assert "  intent" in out
    assert "  outcome" in out
    words = ("operations", "resolve", operation, "failed", "--reason", "the statement has none", "--charge", "calls=1")
    code, out, _ = await run(*words)
    assert (code, out) == (0, f"{operation} is failed\n")
    code, out, err = await run(*words)
    assert (code, out) == (1, "")
    assert "failed_precondition: The operation is failed" in err
    assert "request req-" in err
    code, out, _ = await run("operations", "list", "--json")
    (seen,) = json.loads(out)["operations"]
    assert seen["operation"]["error"]["message"] == "the statement has none"


async def test_a_halt_is_set_waited_for_listed_and_lifted(whole, run):
    await whole.act(RESTING_BUY)
    setting = asyncio.ensure_future(run("halt", "set", "symbol:AAPL", "--reason", "news", "--wait", "30"))
    await whole.stations.bell.wait()
    await whole.swept()
    code, out, _ = await setting
    assert code == 0
    assert out.splitlines()[0] == "symbol:AAPL is halted"
    assert out.splitlines()[-1] == "open 0, running 0"
    code, out, _ = await run("halt", "list")
    assert (code, "symbol:AAPL" in out, "oncall" in out, "news" in out) == (0, True, True, True)
    code, out, _ = await run("halt", "lift", "symbol:AAPL", "--reason", "over")
    assert (code, out) == (0, "symbol:AAPL goes on\n")
    assert (await whole.act(RESTING_BUY, key="k-2")).operation.state is State.SUCCEEDED


async def test_what_is_still_open_when_the_wait_is_over_is_said(whole, run):
    await whole.act(RESTING_BUY)
    code, out, _ = await run("halt", "set", "all", "--reason", "drill", "--wait", "0")
    assert (code, out.splitlines()[-1]) == (1, "open 1, running 0")
    code, out, _ = await run("halt", "set", "all", "--reason", "drill", "--wait", "0", "--json")
    assert (code, json.loads(out)["open"]) == (1, "1")


async def test_a_misspelled_scope_stops_nothing_unless_it_is_said_to_be_unknown(run):
    words = ("halt", "set", "symbol:aapl", "--reason", "drill", "--wait", "0")
    code, out, err = await run(*words)
    assert (code, out) == (1, "")
    assert "nothing was stopped: did you mean symbol:AAPL?" in " ".join(err.split())
    code, out, _ = await run(*words, "--unknown")
    assert (code, out.splitlines()[0]) == (0, "symbol:aapl is halted")


async def test_an_agent_is_refused_and_told_why(run):
    code, out, err = await run("halt", "set", "all", "--reason", "please", caller="trader")
    assert (code, out) == (1, "")
    assert "permission_denied: Only an operator" in err


@pytest.mark.parametrize(
    "words, variables, told",
    [
        (("operations", "list"), {"GATEWAY_URL": "http://127.0.0.1:9"}, "cannot reach http://127.0.0.1:9"),
        (("operations", "list"), {"GATEWAY_URL": "http://gateway.example"}, "write https://"),
        (("operations", "list"), {"GATEWAY_URL": ""}, "--url"),
        (("operations", "list"), {"GATEWAY_TOKEN": "two words"}, "the token is none"),
        (("operations", "list", "--token-command", "/nowhere/token"), {}, "cannot run '/nowhere/token' for a token"),
        (("operations", "list", "--token-command", "false"), {}, "no token from 'false': it printed nothing"),
        (("halt", "set", "agent", "--reason", "x"), {}, "write all, or one of"),
        (("halt", "set", "all"), {}, "--reason"),
        (("operations", "resolve", "op-1", "unknown", "--reason", "x"), {}, "'unknown' is not one of"),
        (("operations", "resolve", "op-1", "failed", "--reason", "x", "--charge", "calls"), {}, "write UNIT=AMOUNT"),
    ],
)
async def test_what_cannot_be_asked_is_exit_code_2_and_a_sentence(run, words, variables, told):
    code, out, err = await run(*words, **variables)
    assert (code, out) == (2, "")
    assert told in " ".join(err.split())
    assert "Traceback" not in err


async def test_a_token_command_is_used_instead_of_the_environment(whole, run):
    printed = token(whole.world.clock, "oncall")
    words = ("halt", "list", "--json", "--token-command", f"echo {printed}")
    code, out, _ = await run(*words, GATEWAY_TOKEN="")
    assert (code, json.loads(out)) == (0, {})


async def test_a_latch_is_shown_and_reset(whole, run):
    operation = (await whole.act(RESTING_BUY, caller="looping")).operation
    code, out, _ = await run("latch", "list")
    assert (code, "agent:looping/place_order" in out, operation.id in out) == (0, True, True)
    code, out, _ = await run("latch", "list", "--json")
    [latch] = json.loads(out)["latches"]
    assert (latch["scope"], latch["operationId"]) == ("agent:looping/place_order", operation.id)
    words = ("latch", "reset", "agent:looping/place_order", "--reason", "looked at")
    code, _, err = await run(*words, caller="looping")
    assert (code, err.startswith("Error: permission_denied: Only an operator")) == (1, True)
    assert await run(*words) == (0, "agent:looping/place_order goes on\n", "")
    code, out, err = await run(*words)
    assert (code, out, err.startswith("Error: not_found: No latch stands in this scope")) == (1, "", True)
    code, out, _ = await run("latch", "list", "--json")
    assert (code, json.loads(out).get("latches", [])) == (0, [])
    [engaged, reset] = whole.told("latch")
    assert (engaged["engaged"], reset["engaged"], reset["by"]) == (True, False, "oncall")
