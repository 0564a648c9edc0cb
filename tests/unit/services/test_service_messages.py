"""What the services make of operations and events: every value has its place in a message, and none is lost."""

import hashlib
from dataclasses import replace

import msgspec
import pytest
from whole import agent, refusal, world

from gateway.services.decision import decision, receipt
from gateway.services.models import ModelService, _event
from gateway.services.tools import ToolService, operation
from gateway.terms.asks import Effect as ToolEffect
from gateway.terms.conversation import Finish as Finished
from gateway.terms.conversation import FunctionCall, Text, Thought
from gateway.terms.operations import Failure, Operation, OperationKey, State
from gateway.terms.operations import Receipt as StoredReceipt
from gateway.terms.verdict import Kind
from generated.agentic.gateway.v1 import (
    ChatRequest,
    Content,
    CountTokensRequest,
    Effect,
    ExecuteToolRequest,
    FinishReason,
    GetOperationRequest,
    ListModelsRequest,
    ListToolsRequest,
    OperationState,
    Part,
    Role,
    Verdict,
)
from generated.agentic.gateway.v1.codec import CODECS

INTENT = StoredReceipt(instance="gateway", boot="boot-1", sequence=1, leaf_hash=b"i" * 32)
OUTCOME = msgspec.structs.replace(INTENT, sequence=2, leaf_hash=b"o" * 32)
STORED = Operation(
    id="op-1",
    key=OperationKey(tenant="acme", principal="1", tool="place_order", key="k"),
    version="1",
    fingerprint=b"f",
    state=State.SUCCEEDED,
    result='{"status":"filled é"}'.encode(),
    failure=None,
    rules=("base.trade", "z.last"),
    policy_hash="ab" * 32,
    intent=INTENT,
    outcome=OUTCOME,
    created_unix_us=1_795_953_600_000_000,
    lease_until_unix_us=1_795_953_640_000_000,
)
LOST = Failure(reason="upstream.reply_lost", message="Nobody knows.")
ORDER = '{"symbol":"AAPL","side":"buy","type":"limit","limit_price":"185","quantity":"2","time_in_force":"day"}'


@pytest.fixture
async def whole(tmp_path):
    async with world() as around, around.gateway(tmp_path, [agent(), agent("reader", role="reader")]) as running:
        yield running


def asked(text="hello", **fields):
    return ChatRequest(model="flash", contents=[Content(role=Role.USER, parts=[Part(text=text)])], **fields)


def test_an_operation_is_told_whole():
    told = operation(STORED, replayed=False)
    assert (told.id, told.tool, told.version) == ("op-1", "place_order", "1")
    assert (told.state, told.result_json, told.error) == (OperationState.SUCCEEDED, '{"status":"filled é"}', None)
    assert told.created_unix_us == 1_795_953_600_000_000
    assert (told.decision.verdict, told.decision.reason) == (Verdict.PERMITTED, "policy.permitted")
    assert (told.decision.rule_ids, told.decision.policy_hash) == (["base.trade", "z.last"], "ab" * 32)
    for said, stored in ((told.intent, INTENT), (told.outcome, OUTCOME)):
        assert (said.instance_id, said.boot_id, said.sequence, said.leaf_hash) == (
            stored.instance,
            stored.boot,
            stored.sequence,
            stored.leaf_hash,
        )
    assert told.replayed is False
    assert operation(STORED, replayed=True).replayed is True


@pytest.mark.parametrize("state", sorted(State))
def test_every_state_has_its_name_and_shows_only_what_belongs_to_it(state):
    failure = LOST if state in (State.FAILED, State.UNKNOWN, State.RECONCILING) else None
    outcome = None if state in (State.CLAIMED, State.DISPATCHED) else OUTCOME
    told = operation(msgspec.structs.replace(STORED, state=state, failure=failure, outcome=outcome), replayed=False)
    assert told.state.name.lower() == state.value
    assert bool(told.result_json) is (state is State.SUCCEEDED)
    assert (told.error is None) is (failure is None)
    assert (told.outcome is None) is (outcome is None)
    codec = CODECS[type(told)]
    assert codec.decode(codec.encode(told)) == told


def test_a_failure_is_told_with_its_code_and_sentence():
    told = operation(msgspec.structs.replace(STORED, state=State.UNKNOWN, failure=LOST), replayed=False)
    assert (told.error.reason, told.error.message) == ("upstream.reply_lost", "Nobody knows.")


def test_no_receipt_is_no_receipt():
    assert receipt(None) is None
    assert decision(msgspec.structs.replace(STORED, rules=())).rule_ids == []


def test_every_part_of_an_answer_becomes_its_event():
    text = _event(Text(text="a", signature=b"s"), 1)
    thought = _event(Thought(text="b", signature=b"t"), 2)
    call = _event(FunctionCall(id="call-1", name="f", arguments_json='{"a":1}', signature=b"c"), 3)
    assert (text.sequence, text.text.text, text.text.signature) == (1, "a", b"s")
    assert (thought.sequence, thought.thought.text, thought.thought.signature) == (2, "b", b"t")
    assert (call.tool_call.call.id, call.tool_call.call.name) == ("call-1", "f")
    assert (call.tool_call.call.arguments_json, call.tool_call.signature) == ('{"a":1}', b"c")


def test_every_ending_and_effect_has_a_name_of_its_own():
    from gateway.services.models import _FINISHES  # noqa: PLC0415 - only this test looks at the tables
    from gateway.services.tools import _EFFECTS  # noqa: PLC0415

    assert set(_FINISHES) == set(Finished)
    assert {one.name.lower() for one in _FINISHES.values()} == {one.value for one in Finished}
    assert len(set(_FINISHES.values())) == len(FinishReason) - 1
    assert {effect: told.name for effect, told in _EFFECTS.items()} == {
        ToolEffect.READ: "READ",
        ToolEffect.REVERSIBLE: "REVERSIBLE",
        ToolEffect.IRREVERSIBLE: "IRREVERSIBLE",
    }


async def test_the_events_of_a_stream_are_numbered_without_gaps_and_end_with_usage_and_finish(whole):
    service = ModelService(whole.stations)
    events = [event async for event in service.chat(asked("@pace deltas=5\nhi", run_id="run-1"), whole.passage())]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    *texts, usage, finish = events
    assert len(texts) == 5
    assert all(event.text is not None for event in texts)
    assert usage.usage.cost_micro_usd > 0
    assert (usage.usage.output_tokens, usage.usage.input_tokens > 0) == (25, True)
    ended = finish.finish
    assert (ended.reason, ended.upstream_reason) == (FinishReason.STOP, "STOP")
    assert ended.model_version == "gemini-3.5-flash"
    assert ended.operation_id in whole.operations()
    assert ended.decision.rule_ids == ["base.converse"]
    assert (ended.intent.sequence, ended.outcome.sequence) == (1, 2)
    assert whole.told("intent")[0]["run"] == "run-1"


async def test_closing_the_answer_closes_everything_below_it_before_it_returns(whole):
    chat = ModelService(whole.stations).chat(asked("@pace deltas=50 interval_ms=1\nhi"), whole.passage())
    await anext(chat)
    await chat.aclose()
    assert list(whole.operations().values()) == ["failed"]


async def test_the_record_names_the_digest_of_the_message_as_our_codec_writes_it(whole):
    message = asked()
    async for _ in ModelService(whole.stations).chat(message, whole.passage()):
        pass
    written = hashlib.sha256(CODECS[ChatRequest].encode(message)).hexdigest()
    assert [record["digest"] for record in whole.told("intent")] == [written]


async def test_a_malformed_prompt_of_a_known_caller_is_on_record(whole):
    chat = ModelService(whole.stations).chat(ChatRequest(model="flash"), whole.passage())
    assert (await refusal(anext(chat))).violations[0].field == "contents"
    count = ModelService(whole.stations).count_tokens(CountTokensRequest(model="flash"), whole.passage())
    assert (await refusal(count)).violations[0].field == "contents"
    assert [(record["ask"], record["about"]) for record in whole.told("refusal")] == [
        ("chat", "flash"),
        ("count_tokens", "flash"),
    ]


async def test_who_is_not_known_learns_nothing_about_forms(whole):
    """The token comes first, whatever else is wrong."""
    models, tools = ModelService(whole.stations), ToolService(whole.stations)
    stranger = whole.passage("stranger")
    for call in (
        anext(models.chat(ChatRequest(), stranger)),
        models.count_tokens(CountTokensRequest(), stranger),
        tools.execute_tool(ExecuteToolRequest(), stranger),
        tools.get_operation(GetOperationRequest(), stranger),
        tools.list_tools(ListToolsRequest(), stranger),
        models.list_models(ListModelsRequest(), stranger),
    ):
        assert (await refusal(call)).reason == "identity.unregistered"
    assert whole.told() == []


async def test_a_tool_call_goes_in_and_out_byte_for_byte(whole):
    tools = ToolService(whole.stations)
    request = ExecuteToolRequest(tool="place_order", arguments_json=ORDER, idempotency_key="k", run_id="run-1")
    told = await tools.execute_tool(request, whole.passage())
    assert told.state is OperationState.SUCCEEDED
    intent = whole.told("intent")[0]
    assert (intent["arguments"], intent["key"], intent["run"]) == (ORDER, "k", "run-1")
    again = await tools.get_operation(GetOperationRequest(operation_id=told.id), whole.passage())
    assert again == told
    replayed = await tools.execute_tool(request, whole.passage())
    assert replayed == replace(told, replayed=True)


async def test_tools_and_models_are_told_as_they_were_declared(whole):
    tools = (await ToolService(whole.stations).list_tools(ListToolsRequest(), whole.passage())).tools
    declared = {tool.name: tool for tool in whole.stations.tools.declarations}
    order = next(tool for tool in tools if tool.name == "place_order")
    assert order.effect is Effect.IRREVERSIBLE
    assert order.arguments_json_schema == declared["place_order"].arguments_schema
    assert (order.declaration_hash, order.version) == (declared["place_order"].hash, declared["place_order"].version)
    (model,) = (await ModelService(whole.stations).list_models(ListModelsRequest(), whole.passage())).models
    assert (model.name, model.max_output_tokens, model.constraints) == ("flash", 2_048, ["choice", "json_schema"])
    assert (model.input_price_micro_usd_per_million, model.output_price_micro_usd_per_million) == (300_000, 2_500_000)


async def test_an_id_that_is_none_does_not_come_back(whole):
    evil = "op-1\x1b[31m\nGRANTED"
    refused = await refusal(
        ToolService(whole.stations).get_operation(GetOperationRequest(operation_id=evil), whole.passage())
    )
    assert refused.kind is Kind.MALFORMED
    assert "GRANTED" not in repr(refused)
    (record,) = whole.told("refusal")
    assert record["about"] == evil  # as data: in the file it is escaped
    assert b"\x1b[31m" not in b"".join(file.read_bytes() for file in whole.path.parent.glob("ledger.db*"))
