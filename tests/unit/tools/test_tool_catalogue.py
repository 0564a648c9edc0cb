"""The catalogue offers what is granted, and reads requests strictly."""

from dataclasses import replace
from types import MappingProxyType

import pytest
from toolcases import CALLER, LIMIT_BUY, request

from gateway.terms.asks import ToolAsk, tool_digest
from gateway.terms.clock import SystemIds
from gateway.terms.ids import ToolName
from gateway.terms.verdict import Kind, Refusal
from gateway.tools.alpaca_tools import declarations
from gateway.tools.catalogue import Catalogue
from gateway.tools.declarations import Draft, declared

NESTED = (
    '{"type":"object","additionalProperties":false,"properties":{"list":{"type":"array","maxItems":9,"items":'
    '{"type":"object","additionalProperties":false,"properties":{"n":{"type":"integer","minimum":-9,"maximum":999}}}}}}'
)


def tool(name="nested", version="1", **more):
    return declared(Draft(name=name, version=version, description="", arguments_schema=NESTED, **more))


@pytest.fixture
def catalogue():
    return Catalogue([*declarations(1000), tool()], SystemIds())


def granted(*names):
    return replace(CALLER, tools=frozenset(map(ToolName, names)))


def test_only_granted_tools_are_offered_in_the_order_of_their_names(catalogue):
    caller = granted("place_order", "get_account", "no_such_tool")
    assert [tool.name for tool in catalogue.offered(caller)] == ["get_account", "place_order"]


@pytest.mark.parametrize("name", ["place_order", "no_such_tool", "", "place_order\n", "PLACE_ORDER", "x" * 10_000])
def test_a_tool_that_is_not_granted_and_one_that_is_not_there_are_the_same(catalogue, name):
    verdict = catalogue.ask(granted("get_account"), request(name, LIMIT_BUY))
    assert isinstance(verdict, Refusal)
    assert (verdict.kind, verdict.reason) == (Kind.NOT_FOUND, "tool.unknown")
    assert verdict == catalogue.ask(granted("get_account"), request("other", "not even json", key="\n"))


def test_a_granted_name_that_is_not_declared_is_unknown(catalogue):
    assert catalogue.ask(granted("ghost"), request("ghost", "{}")).reason == "tool.unknown"


def test_a_good_ask(catalogue):
    ask = catalogue.ask(CALLER, request("place_order", LIMIT_BUY))
    assert isinstance(ask, ToolAsk)
    data = request("place_order", LIMIT_BUY).arguments_json.encode()
    assert ask.arguments_bytes == data
    assert dict(ask.arguments) == LIMIT_BUY
    assert ask.digest == tool_digest(ToolName("place_order"), "1", data)
    assert (ask.key, ask.run, ask.name) == ("key-1", "run-1", "place_order")


def test_arguments_are_frozen_at_every_depth(catalogue):
    ask = catalogue.ask(granted("nested"), request("nested", {"list": [{"n": 1}]}))
    assert isinstance(ask.arguments, MappingProxyType)
    assert isinstance(ask.arguments["list"], tuple)
    assert isinstance(ask.arguments["list"][0], MappingProxyType)


def test_a_read_without_a_key_gets_one_that_nobody_can_choose(catalogue):
    first, second = (catalogue.ask(CALLER, request("get_account", {}, key="")) for _ in range(2))
    assert first.key.startswith("read-")
    assert first.key != second.key
    assert catalogue.ask(CALLER, request("get_account", {}, key="mine")).key == "mine"


@pytest.mark.parametrize(
    "tool, key, reason",
    [
        ("place_order", "", "idempotency_key.missing"),
        ("cancel_order", "", "idempotency_key.missing"),
        ("place_order", "read-1", "idempotency_key.reserved"),
        ("get_account", "read-1", "idempotency_key.reserved"),
        ("place_order", "key\n", "idempotency_key.malformed"),
        ("place_order", "a key", "idempotency_key.malformed"),
        ("place_order", "schlüssel", "idempotency_key.malformed"),
        ("place_order", "k" * 256, "idempotency_key.malformed"),
    ],
)
def test_bad_keys(catalogue, tool, key, reason):
    verdict = catalogue.ask(CALLER, request(tool, {}, key=key))
    assert (verdict.kind, verdict.reason) == (Kind.MALFORMED, reason)
    assert verdict.violations[0].field == "idempotency_key"


@pytest.mark.parametrize("run_id", ["run\n", "a b", "x" * 65, "läuft"])
def test_bad_run_ids(catalogue, run_id):
    assert catalogue.ask(CALLER, request("get_account", {}, run_id=run_id)).reason == "run_id.malformed"


def test_an_empty_run_id_is_fine(catalogue):
    assert isinstance(catalogue.ask(CALLER, request("get_account", {}, run_id="")), ToolAsk)


def test_versions():
    catalogue = Catalogue([tool(version="1"), tool(version="2")], SystemIds())
    caller = granted("nested")
    assert [one.version for one in catalogue.offered(caller)] == ["1", "2"]
    assert catalogue.ask(caller, request("nested", {}, version="2")).tool.version == "2"
    assert catalogue.ask(caller, request("nested", {})).reason == "tool.version_missing"
    assert catalogue.ask(caller, request("nested", {}, version="3")).reason == "tool.unknown"


def test_a_tool_is_declared_once():
    with pytest.raises(ValueError, match="declared twice"):
        Catalogue([tool(), tool()], SystemIds())


def test_a_tool_whose_declaration_is_not_the_approved_one_is_withdrawn():
    approved, changed = tool(), tool(timeout_ms=1)
    caller = granted("nested")
    pins = {ToolName("nested"): approved.hash}
    assert Catalogue([approved], SystemIds(), pins).offered(caller) == (approved,)
    catalogue = Catalogue([changed], SystemIds(), pins)
    assert catalogue.offered(caller) == ()
    assert not catalogue.holds(changed)
    verdict = catalogue.ask(caller, request("nested", {}))
    assert (verdict.kind, verdict.reason) == (Kind.UNAVAILABLE, "tool.changed")
    assert catalogue.ask(granted(), request("nested", {})).reason == "tool.unknown"


def test_violations_are_told_with_their_fields(catalogue):
    verdict = catalogue.ask(CALLER, request("place_order", LIMIT_BUY | {"side": "hold", "type": "stop"}))
    assert (verdict.kind, verdict.reason) == (Kind.MALFORMED, "arguments.schema")
    assert {violation.field for violation in verdict.violations} == {"/side", "/type", "/limit_price"}
    assert "(and 2 more)" in verdict.sentence


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ('{"list":[{"n":1.0}]}', "arguments.schema"),
        ('{"list":[{"n":1e2}]}', "arguments.schema"),
        ('{"list":[{"n":-0}]}', "arguments.malformed"),
        ('{"list":[{"n":-1}]}', None),
        ('{"list":[{"n":0}]}', None),
    ],
)
def test_integers_are_written_as_integers(catalogue, arguments, reason):
    verdict = catalogue.ask(granted("nested"), request("nested", arguments))
    assert isinstance(verdict, ToolAsk) if reason is None else verdict.reason == reason


def test_a_minus_zero_inside_a_string_is_no_number():
    schema = '{"type":"object","additionalProperties":false,"properties":{"t":{"type":"string","maxLength":20}}}'
    text = declared(Draft(name="text", version="1", description="", arguments_schema=schema))
    catalogue = Catalogue([text], SystemIds())
    assert isinstance(catalogue.ask(granted("text"), request("text", '{"t":"\\"-0 2026-0"}')), ToolAsk)
