"""The governed call from an agent's wire to the exchange and the model: both ends real, and the record as witness."""

import asyncio
import json
from dataclasses import replace

import msgspec
import pytest
from failing import gated
from served import served
from stepping import stepped
from whole import LIMITS, MARKET_BUY, RESTING_BUY, agent, budget, eventually, world

from gateway.audit.verify import verify
from gateway.terms.operations import Receipt
from generated.agentic.gateway.v1 import (
    ChatRequest,
    Choice,
    Content,
    CountTokensRequest,
    FinishReason,
    GenerationSettings,
    ListModelsRequest,
    ListToolsRequest,
    OperationState,
    Part,
    ResponseConstraint,
    Role,
)

BUDGETS = (
    budget("calls", 1_000),
    budget("tokens", 10_000_000),
    budget("cost_micro_usd", 10**12),
    budget("notional_micro_usd", 10**12),
)
BUY = json.dumps(MARKET_BUY)
REST = json.dumps(RESTING_BUY)
SLOW = "@pace deltas=40 interval_ms=5 size=2\nTell me."


@pytest.fixture
async def around():
    async with world() as outside:
        yield outside


@pytest.fixture
async def whole(around, tmp_path):
    async with around.gateway(tmp_path, [agent(budgets=BUDGETS), agent("other")]) as running:
        yield running


@pytest.fixture
async def client(whole):
    async with served(whole) as speaking:
        yield speaking


def chat(text="hello", **fields):
    return ChatRequest(model="flash", contents=[Content(role=Role.USER, parts=[Part(text=text)])], **fields)


def stages(heard):
    return [stage.partition(";")[0] for stage in heard.metadata["gateway-timing"].split(", ")]


def kept(receipt):
    """A receipt as the caller keeps it."""
    return Receipt(
        instance=receipt.instance_id,
        boot=receipt.boot_id,
        sequence=receipt.sequence,
        leaf_hash=receipt.leaf_hash,
    )


async def test_an_order_is_placed_answered_and_proven_by_its_receipts(whole, client):
    heard = await client.execute(BUY, run_id="run-1")
    operation = heard.reply
    assert operation.state is OperationState.SUCCEEDED
    assert json.loads(operation.result_json)["status"] == "filled"
    assert heard.metadata["gateway-operation"] == operation.id
    assert stages(heard) == [
        "wire", "identity", "form", "find", "facts", "policy", "intent", "admit", "stopped", "upstream", "settle",
    ]  # fmt: skip
    assert heard.metadata["gateway-request"] == whole.told("intent")[0]["request"]
    (order,) = whole.world.orders()
    assert json.loads(operation.result_json)["order_id"] == order.id
    await whole.agree()
    report = verify(whole.path, receipts=[kept(operation.intent), kept(operation.outcome)])
    assert report.ok
    assert not verify(whole.path, receipts=[msgspec.structs.replace(kept(operation.intent), leaf_hash=bytes(32))]).ok


async def test_a_stream_is_heard_as_it_comes_and_ends_with_its_cost_and_receipts(whole, client):
    heard = await client.call("Chat", chat(SLOW, run_id="run-1"))
    assert heard.error is None
    *texts, usage, finish = heard.replies
    assert [event.sequence for event in heard.replies] == list(range(1, 43))
    assert len(texts) == 40
    assert usage.usage.output_tokens == 80
    assert finish.finish.reason is FinishReason.STOP
    assert heard.metadata["gateway-operation"] == finish.finish.operation_id
    assert stages(heard) == [
        "wire", "identity", "form", "policy", "intent", "admit", "stopped", "first_chunk", "settle",
    ]  # fmt: skip
    assert verify(whole.path, receipts=[kept(finish.finish.intent), kept(finish.finish.outcome)]).ok
    await whole.agree()


async def test_counts_and_lists_are_answered(client):
    assert (await client.call("CountTokens", CountTokensRequest(model="flash", contents=chat().contents))).reply
    tools = (await client.call("ListTools", ListToolsRequest())).reply.tools
    assert "place_order" in [tool.name for tool in tools]
    assert [model.name for model in (await client.call("ListModels", ListModelsRequest())).reply.models] == ["flash"]


async def test_a_constraint_and_settings_reach_the_model(whole, client):
    constraint = ResponseConstraint(choice=Choice(texts=["up", "down"]))
    heard = await client.call("Chat", chat("which way?", constraint=constraint))
    assert "".join(event.text.text for event in heard.replies if event.text is not None) in {"up", "down"}
    heard = await client.call("Chat", chat(SLOW, settings=GenerationSettings(max_output_tokens=6)))
    assert heard.replies[-1].finish.reason is FinishReason.MAX_TOKENS
    assert heard.replies[-2].usage.output_tokens == 6


REFUSED = [
    (BUY.replace("AAPL", "GOOG"), "PERMISSION_DENIED", "policy.denied", ("orders.restricted",)),
    (BUY.replace('"2"', '"80"'), "PERMISSION_DENIED", "limit.notional", ("limit.notional",)),
    (REST.replace("day", "gtc"), "PERMISSION_DENIED", "approval.required", ("orders.standing",)),
    (BUY.replace('"2"', '"-2"'), "INVALID_ARGUMENT", "arguments.schema", ()),
]


@pytest.mark.parametrize("arguments, status, reason, rules", REFUSED, ids=[case[2] for case in REFUSED])
async def test_a_refusal_tells_status_reason_rules_and_times_and_is_on_record(
    whole, client, arguments, status, reason, rules
):
    heard = await client.execute(arguments)
    assert heard.refused == (status, reason, rules)
    assert heard.error.message
    assert "gateway-operation" not in heard.metadata
    assert stages(heard)[:3] == ["wire", "identity", "form"]
    (record,) = whole.told("refusal")
    assert record["refusal"]["reason"] == reason
    assert record["request"] == heard.metadata["gateway-request"]
    assert whole.world.posts() == 0


async def test_the_violations_of_a_form_are_told_field_by_field(client):
    heard = await client.call("Chat", chat(settings=GenerationSettings(temperature=3.0)))
    assert heard.refused == ("INVALID_ARGUMENT", "request.malformed", ())
    (violation,) = heard.error.details["BadRequest"].field_violations
    assert (violation.field, violation.description) == ("settings.temperature", "must be between 0 and 2")


async def test_a_budget_that_is_used_up_says_so_on_the_wire(around, tmp_path):
    async with around.gateway(tmp_path, [agent(budgets=(budget("calls", 1),))]) as whole, served(whole) as client:
        await client.execute(BUY, key="k-1")
        assert (await client.execute(BUY, key="k-2")).refused == ("RESOURCE_EXHAUSTED", "budget.calls", ())
        assert (await client.call("Chat", chat())).refused == ("RESOURCE_EXHAUSTED", "budget.calls", ())


async def test_without_a_ledger_the_caller_is_told_to_come_again_and_nothing_is_sent(whole, client):
    await whole.fill_disk()
    for name, request in (
        ("Chat", chat()),
        ("CountTokens", CountTokensRequest(model="flash", contents=chat().contents)),
    ):
        heard = await client.call(name, request)
        assert heard.refused[:2] == ("UNAVAILABLE", "ledger.unavailable")
        assert heard.error.details["RetryInfo"]
    assert (await client.execute(BUY)).refused[:2] == ("UNAVAILABLE", "ledger.unavailable")
    assert (whole.world.posts(), whole.world.vertex.journal.requests) == (0, 0)


async def test_an_outcome_that_is_not_on_record_is_never_told_as_nothing_happened(around, tmp_path):
    gate = asyncio.Event()
    async with around.gateway(tmp_path, wrapped=gated(gate)) as whole, served(whole) as client:
        placing = asyncio.get_running_loop().create_task(client.execute(BUY))
        await eventually(lambda: list(whole.operations().values()) == ["dispatched"])
        await whole.fill_disk()
        gate.set()
        heard = await placing
        assert heard.refused[:2] == ("UNAVAILABLE", "ledger.outcome_unrecorded")
        (operation,) = whole.operations()
        assert heard.error.details["ErrorInfo"].metadata["operation"] == operation
        assert heard.metadata["gateway-operation"] == operation
        whole.free_disk()
        again = await client.execute(BUY)
        assert again.refused[:2] == ("ABORTED", "operation.in_progress")
        assert (await client.operation(operation)).reply.state is OperationState.DISPATCHED
        assert around.posts() == 1


# Deadlines


async def test_a_bankrupt_deadline_spends_nothing(whole, client):
    await client.execute(REST, key="before")
    heard = await client.execute(REST, timeout_s=0.045)
    assert heard.refused[0] == "DEADLINE_EXCEEDED"
    assert whole.world.posts() == 1
    heard = await client.call("Chat", chat(), timeout_s=0.045)
    assert heard.error.status.name == "DEADLINE_EXCEEDED"
    assert whole.world.vertex.journal.requests == 0
    await whole.agree()


async def test_a_deadline_in_the_middle_of_a_stream_closes_settles_and_records(whole, client):
    whole.world.vertex_fails("endless", ms=2)
    heard = await client.call("Chat", chat(SLOW), timeout_s=0.5)
    assert heard.error.status.name == "DEADLINE_EXCEEDED"
    assert heard.replies
    await eventually(lambda: whole.told("outcome") != [])
    await whole.agree()
    assert [record["failure"]["reason"] for record in whole.told("outcome")] == ["deadline.passed"]
    assert whole.world.vertex.journal.streams_aborted == 1


async def test_a_deadline_in_the_middle_of_an_order_leaves_the_outcome_for_the_retry(around, tmp_path):
    gate = asyncio.Event()
    async with around.gateway(tmp_path, wrapped=gated(gate)) as whole, served(whole) as client:
        heard = await client.execute(BUY, timeout_s=0.5)
        assert heard.error.status.name == "DEADLINE_EXCEEDED"
        (operation,) = whole.operations()
        assert heard.metadata["gateway-operation"] == operation
        gate.set()
        await whole.idle()
        again = (await client.execute(BUY)).reply
        assert (again.id, again.state, again.replayed) == (operation, OperationState.SUCCEEDED, True)
        assert around.posts() == 1
        await whole.agree()


# Callers that leave


async def test_a_caller_that_leaves_a_stream_at_any_event_leaves_nothing_open(whole, client):
    for heard in (1, 2, 10, 39):
        async with client.opened("Chat", chat(SLOW)) as stream:
            for _ in range(heard):
                await stream.recv_message()
            await stream.cancel()
        await eventually(lambda: whole.effects.running == 0 and "dispatched" not in whole.operations().values())
        await whole.agree()
    reasons = [record["failure"]["reason"] for record in whole.told("outcome") if record["state"] == "failed"]
    assert set(reasons) == {"call.cut"}
    assert whole.world.vertex.journal.streams_open == 0


async def test_a_caller_that_leaves_an_order_at_any_moment_finds_its_outcome_by_the_key(whole, client):
    """The client is cut at each of its own await points, and the gateway finds out over the socket."""
    whole.world.exchange_fails("latency", remaining=None, delay_ms=5)
    for step in range(1, 12):
        whole.world.clock.pass_s(1)
        loop = asyncio.get_running_loop()

        def leave(now, _):
            if now == step:  # noqa: B023
                loop.call_later(0.002 * (step % 5), task.cancel)  # noqa: B023

        async def run():
            return await stepped(client.execute(REST, key=f"k-{step}"), leave)  # noqa: B023

        task = loop.create_task(run())
        await asyncio.wait((task,))
        again = await client.execute(REST, key=f"k-{step}")
        while again.error is not None:
            assert again.refused[1] == "operation.in_progress"
            again = await client.execute(REST, key=f"k-{step}")
        assert again.reply.state is OperationState.SUCCEEDED
        assert len(whole.world.orders()) == step
        await whole.agree()
    assert whole.world.posts() == len(whole.world.orders()) == 11


async def test_many_streams_and_orders_at_once_keep_apart_and_agree(around, tmp_path):
    limits = replace(LIMITS, exposure_max=10**12)
    agents = [agent(budgets=BUDGETS, limits=limits), agent("other", limits=limits)]
    async with around.gateway(tmp_path, agents) as whole, served(whole) as client:

        async def talk(number):
            words = f"{number}. " * 20
            heard = await client.call("Chat", chat(f"@pace interval_ms=1\n@echo\n{words}"))
            assert "".join(event.text.text for event in heard.replies if event.text is not None) == words

        async def order(number):
            caller = ("trader", "other")[number % 2]
            heard = await client.execute(REST, key=f"k-{number // 2}", caller=caller)
            assert heard.reply.state is OperationState.SUCCEEDED

        await asyncio.gather(*(one(number) for number in range(20) for one in (talk, order)))
        assert whole.world.posts() == 20
        await whole.agree()
