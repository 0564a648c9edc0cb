"""The form of an answer on every wire: enforced where the upstream can, verified here always, and never dropped."""

import json
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "llm"))

from made_streams import CLAUDE, LLAMA, MODEL, ask, claude_at, compatible_at, conversation, ending, heard, vertex_at

from gateway.terms.conversation import ChoiceConstraint, Finish, JsonSchemaConstraint, RegexConstraint
from localcloud.compatible import CompatibleConfig, CompatibleDouble
from localcloud.vertex import VertexConfig, VertexDouble

SCHEMA = {"type": "object", "properties": {"side": {"enum": ["buy", "sell"]}}, "required": ["side"]}
JSON = JsonSchemaConstraint(schema_json=json.dumps(SCHEMA))
ID = RegexConstraint(pattern=r"[A-Z]{3}-\d{2}")
SIDE = ChoiceConstraint(texts=("buy", "sell"))
EVERY = frozenset({"json_schema", "regex", "choice"})
WIRES = {"gemini": MODEL, "claude": CLAUDE, "compatible": LLAMA}


@pytest.fixture(params=WIRES)
async def wire(request):
    """An adapter and a model that is held to every form: what its upstream does not enforce is only verified."""
    async with AsyncExitStack() as stack:
        if request.param == "compatible":
            double = await stack.enter_async_context(CompatibleDouble(CompatibleConfig()))
            adapter = await stack.enter_async_context(compatible_at(double.url))
        else:
            double = await stack.enter_async_context(VertexDouble(VertexConfig(allow_any_token=True)))
            at = claude_at if request.param == "claude" else vertex_at
            adapter = await stack.enter_async_context(at(double.url))
        model = WIRES[request.param]
        yield adapter, replace(model, verified=EVERY - model.constraints)


def enforced(model, constraint):
    kinds = {JsonSchemaConstraint: "json_schema", RegexConstraint: "regex", ChoiceConstraint: "choice"}
    return kinds[type(constraint)] in model.constraints


@pytest.mark.parametrize("constraint", [JSON, ID, SIDE])
async def test_an_upstream_that_enforces_a_form_is_told_of_it_and_prose_has_no_other(wire, constraint):
    adapter, model = wire
    assert adapter.check(model, conversation("hi", constraint=constraint)) is None
    end = ending(await heard(adapter, ask("Say it.", constraint=constraint), of=model))
    assert end.finish is (Finish.STOP if enforced(model, constraint) else Finish.CONSTRAINT_UNMET)


@pytest.mark.parametrize(
    "constraint, fits, misses",
    [
        (JSON, '{"side": "buy"}', ['{"side": "hold"}', '{"side": "buy"', "buy", '{"side":"buy","side":"sell"}']),
        (ID, "ABC-12", ["ABC-123", " ABC-12", "ABC-12\n"]),
        (SIDE, "sell", ["sel", "sell ", "Sell"]),
    ],
)
async def test_whatever_the_upstream_says_is_verified(wire, constraint, fits, misses):
    """`@echo` makes the double say what no constraint would have let it say."""
    adapter, model = wire
    model = replace(model, constraints=frozenset(), verified=EVERY)
    assert adapter.check(model, conversation("hi", constraint=constraint)) is None
    assert ending(await heard(adapter, ask(f"@echo\n{fits}", constraint=constraint), of=model)).finish is Finish.STOP
    for missed in misses:
        chunks = await heard(adapter, ask(f"@echo\n{missed}", constraint=constraint), of=model)
        assert ending(chunks).finish is Finish.CONSTRAINT_UNMET
        assert ending(chunks).upstream_reason.lower() in ("stop", "end_turn")


async def test_an_answer_that_is_cut_says_so_instead(wire):
    adapter, model = wire
    cut = ask("Say it.", constraint=JSON, max_output_tokens=2)
    assert ending(await heard(adapter, cut, of=model)).finish is Finish.MAX_TOKENS


@pytest.mark.parametrize("constraint", [JSON, ID, SIDE])
async def test_what_nothing_holds_the_model_to_is_refused(wire, constraint):
    adapter, model = wire
    refusal = adapter.check(
        replace(model, constraints=frozenset(), verified=frozenset()), conversation("hi", constraint=constraint)
    )
    assert refusal.reason == "model.constraint_unsupported"


@pytest.mark.parametrize(
    "constraint, field",
    [
        (RegexConstraint(pattern="(?=a)"), "constraint.regex"),
        (RegexConstraint(pattern="(a"), "constraint.regex"),
        (JsonSchemaConstraint(schema_json='{"$ref":"https://evil/x"}'), "constraint.json_schema"),
        (JsonSchemaConstraint(schema_json='{"type":"integre"}'), "constraint.json_schema"),
    ],
)
async def test_what_nobody_can_verify_is_refused(wire, constraint, field):
    adapter, model = wire
    refusal = adapter.check(model, conversation("hi", constraint=constraint))
    assert [violation.field for violation in refusal.violations] == [field]
