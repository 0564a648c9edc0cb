"""The models of a caller, what they are refused, and which results a history may hold."""

import json

import pytest
from made_streams import (
    MODEL,
    STOP,
    StandingClock,
    ask,
    conversation,
    count_ask,
    ending,
    model,
    saying,
    upstream,
    user,
    vertex_at,
)

from gateway.llm.catalogue import ModelCatalogue
from gateway.llm.constraint import constraint_refusal
from gateway.llm.route import sole
from gateway.terms.asks import ReadAsk
from gateway.terms.caller import Caller
from gateway.terms.conversation import (
    Asking,
    Attempt,
    ChoiceConstraint,
    Finish,
    FunctionCall,
    FunctionResult,
    RegexConstraint,
    Text,
    TokenCount,
)
from gateway.terms.ids import (
    AgentName,
    BootId,
    IdempotencyKey,
    InstanceId,
    ModelName,
    OperationId,
    Principal,
    TeamName,
    TenantName,
)
from gateway.terms.operations import OperationKey, Receipt, Reservation
from gateway.terms.verdict import Kind, Permit, Refusal

CALLER = Caller(
    principal=Principal("1"),
    email="a@p",
    agent=AgentName("a"),
    team=TeamName("t"),
    tenant=TenantName("x"),
    role="reader",
    models=frozenset({MODEL.name, ModelName("gone")}),
    tools=frozenset(),
    budgets=(),
    limits=None,
)


class Checking:
    """An upstream of which nothing is wanted but its check."""

    name = "checking"

    def check(self, model, conversation):
        return constraint_refusal(model, conversation.constraint)


UPSTREAM = Checking()
CLOCK = StandingClock()
ROUTE = sole(MODEL, UPSTREAM, CLOCK)
CATALOGUE = ModelCatalogue({MODEL.name: ROUTE, ModelName("other"): ROUTE}, CLOCK)


def reserved(asked):
    return Reservation(
        operation=OperationId("op-abcdefghijklmnop"),
        permit=Permit(caller=CALLER, ask=asked, rules=(), policy_hash=""),
        key=OperationKey(tenant=CALLER.tenant, principal=CALLER.principal, tool="x", key=IdempotencyKey("k")),
        claims=(),
        fence=1,
        intent=Receipt(instance=InstanceId("i"), boot=BootId("b"), sequence=1, leaf_hash=b""),
    )


def test_a_caller_finds_its_own_models_and_no_others():
    found = CATALOGUE.find(CALLER, MODEL.name)
    assert (found.name, found.price, found.max_output_tokens) == (MODEL.name, MODEL.price, MODEL.max_output_tokens)
    answers = [CATALOGUE.find(CALLER, ModelName(name)) for name in ("other", "gone", "unknown", "")]
    assert all(isinstance(answer, Refusal) and answer.kind is Kind.NOT_FOUND for answer in answers)
    assert len(set(answers)) == 1  # not granted and not there are told in the same words
    assert CATALOGUE.offered(CALLER) == (found,)


def test_constraints_that_the_upstream_cannot_enforce():
    regex = CATALOGUE.check(MODEL, conversation("hi", constraint=RegexConstraint(pattern="a+")))
    assert (regex.kind, regex.reason) == (Kind.UNSUPPORTED, "model.constraint_unsupported")
    assert "it can to: choice, json_schema" in regex.sentence
    assert CATALOGUE.check(MODEL, conversation("hi", constraint=ChoiceConstraint(texts=("a",)))) is None
    assert CATALOGUE.check(MODEL, conversation("hi")) is None


def call(id_, name="f"):
    return FunctionCall(id=id_, name=name, arguments_json="{}")


def result(id_, name="f"):
    return FunctionResult(call_id=id_, name=name, result_json="{}")


@pytest.mark.parametrize(
    "calls, results",
    [
        (["a"], ["a"]),
        (["a", "b"], ["b", "a"]),
        (["", ""], ["", ""]),
        (["0", ""], ["0", ""]),
    ],
)
def test_results_that_belong_to_calls(calls, results):
    history = conversation("go", model(*map(call, calls)), user(*map(result, results)))
    assert CATALOGUE.check(MODEL, history) is None


@pytest.mark.parametrize(
    "calls, results",
    [
        (["a"], ["b"]),
        (["a", "b"], ["a"]),
        (["a"], ["a", "b"]),
        (["a", "b"], ["a", "a"]),
        (["a", "a"], ["a", "a"]),
        (["a"], []),
        ([], ["a"]),
        (["a"], [""]),
        (["1", ""], ["", "1"]),
    ],
)
def test_results_that_belong_to_none(calls, results):
    history = conversation("go", model(Text(text="x"), *map(call, calls)), user(Text(text="y"), *map(result, results)))
    refusal = CATALOGUE.check(MODEL, history)
    assert refusal.kind is Kind.MALFORMED
    assert refusal.violations[0].field == "contents[2].parts"


def test_a_result_under_another_functions_name():
    refusal = CATALOGUE.check(MODEL, conversation("go", model(call("a", "f")), user(result("a", "g"))))
    assert "another name" in refusal.sentence


def test_results_before_any_call():
    assert CATALOGUE.check(MODEL, conversation(user(result("a")))).violations[0].field == "contents[0].parts"


async def test_a_reservation_becomes_a_stream_and_a_count():
    async def play(exchange):
        if b"countTokens" in exchange.head:
            await exchange.answer(200, {"totalTokens": 3})
            return
        await exchange.start()
        function_call = {"functionCall": {"name": "f", "args": {}}}
        await exchange.say(saying("hi"), {"candidates": [{"content": {"parts": [function_call]}}]}, STOP)
        await exchange.end()

    async with upstream(play) as seen, vertex_at(seen.url) as vertex:
        catalogue = ModelCatalogue({MODEL.name: sole(MODEL, vertex, CLOCK)}, CLOCK)
        chunks = [chunk async for chunk in catalogue.stream(reserved(ask("hi")), None)]
        assert await catalogue.count(reserved(count_ask("hi")), None) == TokenCount(tokens=3)
        assert await catalogue.count(reserved(count_ask("hi")), None) == TokenCount(tokens=3, cached=True)
    assert ending(chunks).finish is Finish.TOOL_CALLS
    assert [type(chunk) for chunk in chunks[:3]] == [Asking, Attempt, Text]
    assert chunks[3].id == "call-ijklmnop-1"
    path = "/v1/projects/p/locations/us-central1/publishers/google/models/gemini-3.5-flash"
    assert seen.exchanges[0].head.startswith(f"POST {path}:streamGenerateContent?alt=sse HTTP/1.1".encode())
    assert json.loads(seen.exchanges[0].body)["generationConfig"]["maxOutputTokens"] == 8192


async def test_another_kind_of_reservation_opens_no_upstream():
    with pytest.raises(TypeError):
        CATALOGUE.stream(reserved(count_ask("hi")), None)
    with pytest.raises(TypeError):
        await CATALOGUE.count(reserved(ReadAsk(what="list_models", operation=OperationId(""))), None)
