"""The agent's client against the gateway's own wire: what one says, the other understands."""

import asyncio
import contextlib

import pytest
from grpclib.const import Status

from agent.client import CallReport, GatewayClient, GatewayError, Patience
from agent.client.contract import ChatRequest, Content, CountTokensRequest, OperationState, Part, Role
from gateway.terms.clock import SystemClock, SystemIds
from gateway.terms.verdict import Kind, Refusal, RefusedError, Violation
from gateway.wire.config import WireConfig
from gateway.wire.server import GatewayServer
from gateway.wire.table import bind
from generated.agentic.gateway.v1 import (
    ChatEvent,
    CountTokensResponse,
    DryRun,
    Finish,
    FinishReason,
    ListModelsResponse,
    ListToolsResponse,
    Operation,
    TextDelta,
)
from generated.agentic.gateway.v1.services import METHODS

QUESTION = ChatRequest(model="flash", contents=[Content(role=Role.USER, parts=[Part(text="hello")])])


class Quiet:
    """A witness that forgets."""

    def tell(self, event, fields):
        pass


class ModelService:
    """Says what `words` holds, then waits for the gate."""

    def __init__(self):
        self.words = ["hello"]
        self.gate = asyncio.Event()
        self.gate.set()
        self.closed = 0

    async def chat(self, request, passage):
        try:
            for number, word in enumerate(self.words, 1):
                yield ChatEvent(sequence=number, text=TextDelta(text=word))
            await self.gate.wait()
            yield ChatEvent(sequence=len(self.words) + 1, finish=Finish(reason=FinishReason.STOP))
        finally:
            self.closed += 1

    async def resume_chat(self, request, passage):
        yield ChatEvent(sequence=request.after_sequence + 1, finish=Finish(reason=FinishReason.STOP))

    async def count_tokens(self, request, passage):
        return CountTokensResponse(input_tokens=3)

    async def list_models(self, request, passage):
        return ListModelsResponse()


class ToolService:
    """Answers, or refuses with what it was given."""

    def __init__(self):
        self.refusals = []
        self.keys = []

    async def list_tools(self, request, passage):
        return ListToolsResponse()

    async def execute_tool(self, request, passage):
        self.keys.append(request.idempotency_key)
        passage.reply_headers["gateway-operation"] = "op-1"
        if self.refusals:
            raise RefusedError(self.refusals.pop(0))
        return Operation(id="op-1", state=OperationState.SUCCEEDED, result_json=request.arguments_json)

    async def dry_run_tool(self, request, passage):
        return DryRun(message=request.arguments_json)

    async def get_operation(self, request, passage):
        return Operation(id=request.operation_id)

    async def watch_operation(self, request, passage):
        for state in (OperationState.DISPATCHED, OperationState.UNKNOWN, OperationState.SUCCEEDED):
            yield Operation(id=request.operation_id, state=state)
            if self.refusals:
                raise RefusedError(self.refusals.pop(0))


class Wired:
    def __init__(self, server, models, tools, url):
        self.server = server
        self.models = models
        self.tools = tools
        self.url = url


@contextlib.asynccontextmanager
async def wired(**bounds):
    models, tools = ModelService(), ToolService()
    table = bind(METHODS, models).joined(bind(METHODS, tools))
    config = WireConfig(**({"linger_s": 0.05} | bounds))
    server = GatewayServer(table, config, SystemClock(), SystemIds(), Quiet())
    port = await server.start("127.0.0.1", 0)
    server.readiness.set_serving(True)
    try:
        yield Wired(server, models, tools, f"http://127.0.0.1:{port}")
    finally:
        await server.drain(0.05)


def client_of(gateway, **changes):
    patience = Patience(**({"attempts": 3, "first_pause_s": 0.001, "timeout_s": 5.0} | changes))
    return GatewayClient(gateway.url, connections=1, patience=patience)


async def texts(client):
    return [event.text.text async for event in client.chat(QUESTION) if event.text]


async def test_answers_and_what_comes_beside_them():
    async with wired() as gateway, client_of(gateway) as client:
        report = CallReport()
        operation = await client.execute_tool("place_order", '{"a":1}', report=report)
        assert operation.result_json == '{"a":1}'
        assert report.metadata["gateway-request"].startswith("req-")
        assert report.metadata["gateway-operation"] == "op-1"
        assert "wire;dur=" in report.metadata["gateway-timing"]
        assert await texts(client) == ["hello"]
        assert await client.count_tokens(CountTokensRequest(model="flash")) == 3


async def test_a_refusal_arrives_with_everything_in_it():
    refusal = Refusal(
        kind=Kind.FORBIDDEN,
        reason="limit.notional",
        sentence="Über 10 000 USD: 100 % zu viel.",
        rules=("limit.notional", "limit.quantity"),
        policy_hash="abc",
        violations=(Violation(field="quantity", description="too large"),),
        operation_id="op-9",
    )
    async with wired() as gateway, client_of(gateway) as client:
        gateway.tools.refusals = [refusal]
        with pytest.raises(GatewayError) as caught:
            await client.execute_tool("place_order", {})
    error = caught.value
    assert (error.status, error.reason) == (Status.PERMISSION_DENIED, "limit.notional")
    assert error.sentence == "Über 10 000 USD: 100 % zu viel."
    assert error.rules == ("limit.notional", "limit.quantity")
    assert (error.policy_hash, error.operation_id) == ("abc", "op-9")
    assert error.violations == (("quantity", "too large"),)
    assert error.request_id.startswith("req-")
    assert "wire;dur=" in error.timing
    assert not error.from_edge


async def test_in_progress_is_asked_again_with_the_same_key():
    async with wired() as gateway, client_of(gateway) as client:
        gateway.tools.refusals = [
            Refusal(kind=Kind.IN_PROGRESS, reason="ledger.in_progress", sentence="running", retry_after_ms=5),
            Refusal(kind=Kind.UNAVAILABLE, reason="ledger.busy", sentence="busy", retry_after_ms=5),
        ]
        await client.execute_tool("place_order", {})
        assert len(gateway.tools.keys) == 3
        assert len(set(gateway.tools.keys)) == 1


async def test_a_drain_lets_a_running_answer_end_and_is_no_error_for_it():
    async with wired() as gateway, client_of(gateway, attempts=1) as client:
        gateway.models.gate.clear()
        events = client.chat(QUESTION)
        assert (await anext(events)).text.text == "hello"
        async with asyncio.TaskGroup() as group:
            drained = group.create_task(gateway.server.drain(3.0))
            await asyncio.sleep(0.02)
            gateway.models.gate.set()
            assert [event.sequence async for event in events] == [2]
        assert drained.result().cut == 0


async def test_leaving_two_hundred_flooding_streams_does_not_cost_the_connection():
    async with wired() as gateway, client_of(gateway) as client:
        gateway.models.words = ["w" * 100] * 3_000
        for _ in range(150):
            async with contextlib.aclosing(client.chat(QUESTION)) as events:
                await anext(events)
        assert gateway.server.connections == 1
        gateway.models.words = ["still here"]
        assert await texts(client) == ["still here"]
        assert gateway.server.connections == 1  # no flood of resets, so the gateway had no reason to end it
        async with asyncio.timeout(5):
            while gateway.server.running:  # noqa: ASYNC110  # nobody announces it
                await asyncio.sleep(0.005)
        assert gateway.models.closed == 151


async def test_a_request_over_the_gateways_bound_is_refused_with_its_reason():
    async with wired(message_bytes_max=100_000) as gateway, client_of(gateway) as client:
        with pytest.raises(GatewayError) as caught:
            await client.execute_tool("place_order", {"text": "x" * 200_000})
    assert caught.value.status is Status.RESOURCE_EXHAUSTED
    assert caught.value.reason.startswith("wire.")
    assert not caught.value.from_edge


async def test_a_slow_reader_slows_the_gateway():
    async with wired() as gateway, client_of(gateway) as client:
        gateway.models.words = ["w" * 1000] * 5_000
        async with contextlib.aclosing(client.chat(QUESTION)) as events:
            await anext(events)
            await asyncio.sleep(0.05)
            assert gateway.server.running == 1  # 5 MB are not on their way into a reader that does not read
            assert [event.sequence async for event in events] == list(range(2, 5_002))


async def test_an_operation_is_watched_to_its_end_also_over_a_broken_attempt():
    async with wired() as gateway, client_of(gateway) as client:
        gateway.tools.refusals = [
            Refusal(kind=Kind.UNAVAILABLE, reason="ledger.unavailable", sentence="later", retry_after_ms=5)
        ]
        states = [operation.state async for operation in client.watch_operation("op-1")]
    assert states == [
        OperationState.DISPATCHED,
        *(OperationState.DISPATCHED, OperationState.UNKNOWN, OperationState.SUCCEEDED),
    ]
