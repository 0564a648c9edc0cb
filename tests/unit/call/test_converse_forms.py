"""What a governed stream does with the form of its answer and with files: held, charged, recorded, or refused free."""

import json
from dataclasses import replace

import pytest
from whole import FLASH, agent, budget, prompt, refusal, world

from gateway.call.converse import Closed, Spent, converse
from gateway.services.models import ModelService
from gateway.terms.conversation import Conversation, Finish, JsonSchemaConstraint, RegexConstraint, Speaker, Text, Turn
from gateway.terms.inputs import CachedContent, InlineData, Inputs
from gateway.terms.verdict import Kind
from generated.agentic.gateway.v1 import (
    ChatRequest,
    Content,
    FinishReason,
    ListModelsRequest,
    Part,
    ResponseConstraint,
    Role,
)
from generated.agentic.gateway.v1 import InlineData as InlineMessage

PNG = b"\x89PNG\r\n\x1a\n\0\0"
SEEING = replace(
    FLASH,
    verified=frozenset({"regex"}),
    inputs=Inputs(media={"image/png": 1_120}, cached={"handbook": CachedContent(upstream_id="1", tokens_max=9)}),
)


@pytest.fixture
async def whole(tmp_path):
    async with world() as around, around.gateway(tmp_path, [agent(budgets=BUDGETS)], models=(SEEING,)) as running:
        yield running


BUDGETS = (budget("calls", 1_000), budget("tokens", 10_000_000), budget("cost_micro_usd", 10**12))


@pytest.mark.parametrize("said, finish", [("ABC-12", Finish.STOP), ("ABC-1", Finish.CONSTRAINT_UNMET)])
async def test_an_answer_without_its_form_is_charged_and_recorded_as_what_it_is(whole, said, finish):
    form = RegexConstraint(pattern=r"[A-Z]{3}-\d{2}")
    *_, spent, closed = await whole.converse(f"@echo\n{said}", constraint=form)
    assert isinstance(spent, Spent)
    assert isinstance(closed, Closed)
    assert closed.ending.finish is finish
    (outcome,) = whole.told("outcome")
    result = json.loads(outcome["result"])
    assert (outcome["state"], result["finish"], result["usage_estimated"]) == ("succeeded", finish.value, False)
    assert whole.spent("tokens") == spent.usage.input_tokens + spent.usage.output_tokens > 0


@pytest.mark.parametrize(
    "constraint, kind",
    [
        (RegexConstraint(pattern="(?=a)"), Kind.MALFORMED),
        (JsonSchemaConstraint(schema_json='{"$ref":"#"}'), Kind.MALFORMED),
    ],
)
async def test_a_form_that_nobody_can_verify_is_refused_before_anything_is_spent(whole, constraint, kind):
    refused = await refusal(whole.converse(constraint=constraint))
    assert refused.kind is kind
    assert (whole.operations(), whole.held(), whole.world.vertex.journal.requests) == ({}, {}, 0)


async def test_a_picture_holds_what_the_operator_says_it_takes_at_most(whole):
    def with_picture():
        plain = prompt("what is it?").read()
        parts = (*plain.conversation.turns[0].parts, InlineData(mime_type="image/png", data=PNG))
        turn = Turn(speaker=Speaker.USER, parts=parts)
        return replace(plain, conversation=Conversation(system_instruction="", turns=(turn,)))

    held = {}
    for name, request in (("plain", prompt("what is it?")), ("seeing", replace(prompt(), read=with_picture))):
        told = [event async for event in converse(whole.stations, whole.passage(), request)]
        assert any(isinstance(event, Text) for event in told)
        (held[name],) = (claims(whole.told("intent")[-1])["tokens"],)
    assert held["seeing"] - held["plain"] >= 1_120


def claims(intent):
    return {claim["unit"]: claim["amount"] for claim in intent["claims"]}


async def test_over_the_wires_own_messages(whole):
    """A picture and a form in, the typed reason out; and the model tells what it takes."""
    service = ModelService(whole.stations)
    request = ChatRequest(
        model="flash",
        contents=[
            Content(
                role=Role.USER,
                parts=[Part(text="@echo\nnothing"), Part(inline_data=InlineMessage(mime_type="image/png", data=PNG))],
            )
        ],
        constraint=ResponseConstraint(regex="yes|no"),
    )
    *_, usage, finish = [event async for event in service.chat(request, whole.passage())]
    assert finish.finish.reason is FinishReason.CONSTRAINT_UNMET
    assert usage.usage.estimated is False
    (model,) = (await service.list_models(ListModelsRequest(), whole.passage())).models
    assert model.verified_constraints == ["regex"]
    assert [(media.mime_type, media.tokens_max) for media in model.media] == [("image/png", 1_120)]
    assert model.cached_contents == ["handbook"]
