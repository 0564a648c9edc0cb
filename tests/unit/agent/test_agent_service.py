import asyncio
import contextlib
import json
import logging

import aiohttp
import pytest
from agent_parts import StandIn, eventually, finish, refusal, succeeded, talking, text, tool_call
from aiohttp import web
from grpclib.const import Status

from agent.client.contract import FinishReason, Operation, OperationState
from agent.loop import Agent
from agent.runs import Runs
from agent.service import BODY_BYTES_MAX, Bounds, Service
from agent.tokens import TokenError
from generated.agentic.gateway.v1 import Decision, Receipt, Tool


class Asking:
    """A user of the agent."""

    def __init__(self, session, url, runner, service):
        self.session = session
        self.url = url
        self.runner = runner
        self.service = service

    def post(self, body):
        data = body if isinstance(body, bytes) else json.dumps(body)
        return self.session.post(f"{self.url}/ask", data=data)

    async def lines(self, prompt="hello", **more):
        async with self.post({"prompt": prompt, **more}) as reply:
            assert reply.status == 200
            assert reply.content_type == "application/x-ndjson"
            return [json.loads(line) async for line in reply.content]


@contextlib.asynccontextmanager
async def serving(stand_in=None, *, bounds=None, runs_max=100, turns_max=8, **changes):
    async with talking(stand_in, **changes) as (gateway, client):
        agent = Agent(client, model="flash", turns_max=turns_max)
        service = Service(agent=agent, bounds=bounds or Bounds(), runs=Runs(runs_max))
        runner = service.runner()
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            async with aiohttp.ClientSession() as session:
                asking = Asking(session, url, runner, service)
                asking.stand_in = gateway.service
                yield asking
        finally:
            await runner.cleanup()


async def test_an_answer_is_lines_and_ends_with_its_finish():
    async with serving() as user:
        lines = await user.lines()
    assert lines[:2] == [{"text": "hello "}, {"text": "world"}]
    assert lines[2]["finish"]["reason"] == "stop"
    assert lines[2]["finish"]["operation"] == "op-chat"
    assert lines[2]["finish"]["timing"] == "policy;dur=0.1"


async def test_tool_calls_and_their_results_are_lines():
    stand_in = StandIn()

    async def order(stream):
        await stream.send_message(tool_call(1, "place_order", '{"quantity": "5"}'))
        await stream.send_message(finish(2, FinishReason.TOOL_CALLS))

    async def done(stream):
        await stream.send_message(finish(1))

    stand_in.chat = [order, done]
    stand_in.execute = succeeded(
        decision=Decision(rule_ids=["permit.orders"]),
        outcome=Receipt(instance_id="gateway", boot_id="b1", sequence=4, leaf_hash=b"\x01\xff"),
    )
    async with serving(stand_in) as user:
        lines = await user.lines("buy", run_id="run-9")
    assert lines[0] == {"tool_call": {"name": "place_order", "arguments": '{"quantity": "5"}'}}
    assert lines[2] == {
        "tool_result": {
            "name": "place_order",
            "operation": "op-1",
            "state": "succeeded",
            "replayed": False,
            "rules": ["permit.orders"],
            "receipt": {"instance": "gateway", "boot": "b1", "sequence": 4, "leaf_hash": "01ff"},
            "timing": "policy;dur=0.1",
            "result": {"filled": "5"},
        }
    }
    assert stand_in.requests["ExecuteTool"][0].idempotency_key == "run-9:1:1"


@pytest.mark.parametrize(
    ("execute", "told"),
    [
        (refusal(Status.PERMISSION_DENIED, "limit.notional", "over", rules="limit.notional"), "refused"),
        (refusal(Status.INTERNAL, "internal", "internal error"), "unknown"),
        (Operation(id="op-1", state=OperationState.UNKNOWN), "unknown"),
        (Operation(id="op-1", state=OperationState.SUCCEEDED, result_json="no json"), "text"),
    ],
)
async def test_what_became_of_a_tool_call_is_told_truly(execute, told):
    stand_in = StandIn()

    async def order(stream):
        await stream.send_message(tool_call(1, "place_order"))
        await stream.send_message(finish(2, FinishReason.TOOL_CALLS))

    async def done(stream):
        await stream.send_message(finish(1))

    stand_in.chat = [order, done]
    stand_in.execute = execute
    async with serving(stand_in) as user:
        [result] = [line["tool_result"] for line in await user.lines() if "tool_result" in line]
    if told == "refused":
        assert result["refused"]["status"] == "PERMISSION_DENIED"
        assert result["refused"]["rules"] == ["limit.notional"]
    elif told == "unknown":
        assert result["state"] == "unknown"
        assert "refused" not in result
    else:
        assert result["result_text"] == "no json"


async def test_the_first_line_is_there_long_before_the_last():
    stand_in = StandIn()

    async def slow(stream):
        await stream.send_message(text(1, "first"))
        await stand_in.gate.wait()
        await stream.send_message(finish(2))

    stand_in.chat = slow
    async with serving(stand_in) as user, user.post({"prompt": "hello"}) as reply:
        line = await asyncio.wait_for(reply.content.readline(), 2)
        assert json.loads(line) == {"text": "first"}
        stand_in.gate.set()
        assert "finish" in json.loads(await reply.content.readline())
        assert await reply.content.read() == b""


async def test_a_user_who_leaves_ends_the_run_and_the_stream_at_the_gateway():
    stand_in = StandIn()

    async def silent(stream):
        await stream.send_message(text(1, "word"))
        await stand_in.hang(stream)

    stand_in.chat = silent
    async with serving(stand_in) as user:
        async with user.post({"prompt": "hello"}) as reply:
            await reply.content.readline()
            assert reply.connection is not None
            reply.connection.transport.abort()
            await asyncio.wait_for(stand_in.left.wait(), 2)
        await eventually(lambda: not user.service.runs._running)


async def test_a_user_who_reads_nothing_is_left():
    stand_in = StandIn()

    async def endless(stream):
        for number in range(1, 1_000_000):
            await stream.send_message(text(number, "w" * 10_000))

    stand_in.chat = endless
    async with serving(stand_in, bounds=Bounds(write_s=0.05)) as user:
        reader, writer = await asyncio.open_connection("127.0.0.1", user.runner.addresses[0][1], limit=1024)
        writer.write(b'POST /ask HTTP/1.1\r\nhost: a\r\ncontent-length: 15\r\n\r\n{"prompt": "a"}')
        await asyncio.wait_for(stand_in.left.wait(), 5)
        await eventually(lambda: not user.service.runs._running)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        del reader


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "this is not JSON"),
        (b"hello", 400, "this is not JSON"),
        (b"\xff\xfe\xfa", 400, "this is not UTF-8"),
        (b'["prompt"]', 400, "no object"),
        (b'{"prompt": "a", "prompt": "b"}', 400, "stands here twice"),
        (b'{"prompt": NaN}', 400, "NaN is no JSON"),
        (b'{"prompt": ' + b"[" * 100_000, 400, "nested too deeply"),
        (b"{}", 400, 'send {"prompt": "..."}'),
        (b'{"prompt": 7}', 400, 'send {"prompt": "..."}'),
        (b'{"prompt": " \\n"}', 400, 'send {"prompt": "..."}'),
        (b'{"prompt": "\\ud800"}', 400, "surrogate"),
        (b'{"prompt": "a", "run_id": 7}', 400, "run_id: use 1 to 64 characters"),
        (b'{"prompt": "a", "run_id": ""}', 400, "run_id: use 1 to 64 characters"),
        (b'{"prompt": "a", "run_id": "a b"}', 400, "run_id: use 1 to 64 characters"),
        (b'{"prompt": "a", "run_id": "' + b"x" * 65 + b'"}', 400, "run_id: use 1 to 64 characters"),
        (b'{"prompt": "a", "model": "other"}', 400, "there is no field 'model'"),
        (b'{"prompt": "' + b"x" * BODY_BYTES_MAX + b'"}', 413, f"at most {BODY_BYTES_MAX} bytes"),
    ],
)
async def test_a_bad_question_is_refused_with_a_sentence(body, status, said):
    async with serving() as user, user.post(body) as reply:
        assert reply.status == status
        assert reply.content_type == "application/json"
        assert said in (await reply.json())["error"]
        assert user.stand_in.requests["Chat"] == []


async def test_a_charset_that_nobody_knows_is_no_crash():
    async with serving() as user:
        headers = {"content-type": "application/json; charset=klingon"}
        async with user.session.post(f"{user.url}/ask", data=b'{"prompt": "a"}', headers=headers) as reply:
            assert reply.status == 200
            await reply.read()


async def test_a_question_that_does_not_arrive_is_not_waited_for():
    async with serving(bounds=Bounds(body_s=0.03)) as user:
        reader, writer = await asyncio.open_connection("127.0.0.1", user.runner.addresses[0][1])
        writer.write(b'POST /ask HTTP/1.1\r\nhost: a\r\ncontent-length: 15\r\n\r\n{"pro')
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 2)
        assert head.startswith(b"HTTP/1.1 408")
        writer.close()
        await writer.wait_closed()


async def test_an_error_of_the_gateway_is_the_last_line():
    stand_in = StandIn()

    async def broken(stream):
        await stream.send_message(text(1, "half"))
        raise refusal(Status.RESOURCE_EXHAUSTED, "budget.spent", "spent", rules="team", request="req-2")

    stand_in.chat = broken
    async with serving(stand_in) as user:
        lines = await user.lines()
    assert lines[0] == {"text": "half"}
    assert lines[1]["error"] == {
        "status": "RESOURCE_EXHAUSTED",
        "reason": "budget.spent",
        "message": "spent",
        "rules": ["team"],
        "request": "req-2",
        "timing": "",
    }


async def test_no_token_is_told():
    class Without:
        async def id_token(self, audience):
            raise TokenError("no ID token from the metadata server: there is no service account here")

    async with serving(tokens=Without()) as user:
        [line] = await user.lines()
    assert line["error"]["reason"] == "agent.no_token"
    assert "no service account" in line["error"]["message"]


async def test_turns_exceeded_is_told():
    stand_in = StandIn()

    async def again(stream):
        await stream.send_message(tool_call(1, "get_quote"))
        await stream.send_message(finish(2, FinishReason.TOOL_CALLS))

    stand_in.chat = again
    async with serving(stand_in, turns_max=2) as user:
        lines = await user.lines()
    assert lines[-1]["error"]["reason"] == "agent.turns_exceeded"


async def test_an_unexpected_error_is_logged_whole_and_not_shown(caplog):
    async with serving() as user:
        user.stand_in.tools.tools.append(Tool(name="x"))
        object.__setattr__(user.service, "agent", BrokenAgent())
        with caplog.at_level(logging.ERROR, "agent.service"):
            [line] = await user.lines(run_id="run-7")
    assert line["error"]["reason"] == "agent.internal"
    assert "run-7" in line["error"]["message"]
    assert "secret detail" not in json.dumps(line)
    assert "secret detail" in caplog.text


class BrokenAgent:
    async def run(self, prompt, run_id):
        raise KeyError("secret detail")
        yield


async def test_the_health_of_the_service():
    async with serving() as user, user.session.get(f"{user.url}/healthz") as reply:
        assert (reply.status, await reply.json()) == (200, {"status": "ok"})


async def test_more_runs_than_places_are_refused():
    stand_in = StandIn()

    async def held(stream):
        await stream.send_message(text(1, "word"))
        await stand_in.gate.wait()
        await stream.send_message(finish(2))

    stand_in.chat = held
    async with serving(stand_in, runs_max=1) as user, user.post({"prompt": "a"}) as first:
        await first.content.readline()
        async with user.post({"prompt": "b"}) as second:
            assert second.status == 503
            assert "works on 1 questions already" in (await second.json())["error"]
        stand_in.gate.set()
        assert "finish" in json.loads(await first.content.readline())
        await eventually(lambda: not user.service.runs._running)
        assert len(await user.lines()) == 2


async def test_runs_may_end_when_the_process_ends():
    stand_in = StandIn()

    async def held(stream):
        await stream.send_message(text(1, "word"))
        await stand_in.gate.wait()
        await stream.send_message(finish(2))

    stand_in.chat = held
    async with serving(stand_in) as user, user.post({"prompt": "a"}) as reply:
        await reply.content.readline()
        async with asyncio.TaskGroup() as group:
            group.create_task(user.runner.cleanup())
            await eventually(lambda: user.service.runs.stopping)
            stand_in.gate.set()
            assert "finish" in json.loads(await reply.content.readline())
            assert await reply.content.read() == b""


async def test_runs_that_do_not_end_in_time_are_told_so():
    stand_in = StandIn()

    async def silent(stream):
        await stream.send_message(text(1, "word"))
        await stand_in.hang(stream)

    stand_in.chat = silent
    async with serving(stand_in, bounds=Bounds(grace_s=0.05)) as user, user.post({"prompt": "a"}) as reply:
        await reply.content.readline()
        await user.runner.cleanup()
        last = json.loads(await reply.content.readline())
        assert last["error"]["reason"] == "agent.stopped"
        assert await reply.content.read() == b""  # the answer ends as it should: nothing is cut off
        await asyncio.wait_for(stand_in.left.wait(), 2)
