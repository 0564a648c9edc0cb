"""OpenAPI 3.1 documents become tools, or are refused with a sentence that says what to change."""

import json
from dataclasses import replace

import pytest
from servicecases import CANCEL, CREATE, DOCUMENT, GET, LIST, LOOKED_UP, NOTE, ONCE, TEXT, document, offered, service

from gateway.terms.asks import Effect, Idempotency
from gateway.terms.clock import SystemClock
from gateway.tools.declarations import ONCE as SENT_ONCE
from gateway.tools.http import HttpTools
from gateway.tools.http_config import Credential, HttpService
from gateway.tools.tightening import Bounds, tightened

LISTING = ("paths", "/v1/refunds", "get")
REFUND = ("components", "schemas", "Refund")
STATES = ("components", "parameters", "States")


def refused(*tools, **changed):
    with pytest.raises(ValueError, match=r"cannot be used|document") as caught:
        HttpTools(service(tools=tools, **changed), SystemClock())
    return str(caught.value)


def test_an_operation_becomes_a_closed_and_bounded_tool():
    tool = offered()["create_refund"]
    assert (tool.effect, tool.idempotency) == (Effect.IRREVERSIBLE, Idempotency.NATIVE_KEY)
    assert tool.description == "Gives money back for an order."
    schema = json.loads(tool.arguments_schema)
    body = schema["properties"]["body"]
    assert (schema["required"], schema["additionalProperties"], set(schema["properties"])) == (
        ["body"],
        False,
        {"body"},
    )
    assert body["additionalProperties"] is False
    assert body["properties"]["order"] == {"type": "string", "maxLength": 36, "description": "Which order."}
    assert body["properties"]["cents"] == {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}
    assert body["properties"]["note"] == {"type": "string", "maxLength": 40}


def test_parameters_become_arguments_and_those_of_the_gateway_do_not():
    listing = json.loads(offered()["list_refunds"].arguments_schema)
    assert set(listing["properties"]) == {"page_size_", "state", "tags", "all", "X_Trace"}
    assert "required" not in listing
    cancel = json.loads(offered()["cancel_refund"].arguments_schema)
    assert cancel["required"] == ["refund_id"]


def test_the_member_that_takes_our_key_is_no_argument():
    schema = json.loads(offered()["refund_by_reference"].arguments_schema)
    assert "reference" not in schema["properties"]["body"]["properties"]
    assert schema["properties"]["body"]["required"] == ["amount", "order"]
    assert schema["required"] == ["body"]


def test_a_tool_that_nobody_can_clear_up_says_so():
    described = {name: tool.description for name, tool in offered().items()}
    assert described["refund_once"].endswith(SENT_ONCE)
    assert described["note_refund"].endswith(SENT_ONCE)
    assert [name for name, text in described.items() if SENT_ONCE in text] == ["refund_once", "note_refund"]


def test_every_detail_counts_in_the_hash():
    plain = offered()["create_refund"].hash
    longer = (*REFUND, "properties", "note", "maxLength"), 41
    assert offered(document=document(longer))["create_refund"].hash != plain
    other = replace(CREATE, description="Pays.")
    assert offered(tools=(other,))["create_refund"].hash != plain


@pytest.mark.parametrize(
    "tool, change, sentence",
    [
        (LIST, ((*STATES, "schema"), {"$ref": "https://evil.example.com/x"}), "nothing is ever fetched"),
        (LIST, ((*STATES, "schema"), {"$ref": "other.json#/X"}), "nothing is ever fetched"),
        (LIST, ((*STATES, "schema"), {"$ref": "#/nowhere"}), "leads nowhere"),
        (LIST, ((*STATES, "schema"), {"$ref": "#/components/schemas/OrderId", "maxLength": 3}), "beside a $ref"),
        (CREATE, ((*REFUND, "properties", "order"), {"$ref": "#/components/schemas/Refund"}), "refers to itself"),
        (
            LIST,
            ((*STATES, "schema"), {"type": "object", "properties": {}}),
            "must be a string, an integer or a boolean",
        ),
        (LIST, ((*STATES, "in"), "cookie"), None),
        (LIST, ((*STATES, "name"), "X_Trace"), "two arguments would be called X_Trace"),
        (LIST, ((*STATES, "name"), "1st"), "a name that no argument can have"),
        (LIST, ((*STATES, "style"), "deepObject"), "another style"),
        (LIST, ((*STATES, "allowReserved"), True), "another style"),
        (LIST, ((*LISTING, "parameters", 4, "name"), "Host"), "no agent may set"),
        (LIST, ((*LISTING, "parameters", 4, "name"), "Metadata-Flavor"), "no agent may set"),
        (LIST, ((*LISTING, "parameters", 4, "name"), "X-Forwarded-For"), "no agent may set"),
        (LIST, ((*LISTING, "parameters", 4, "name"), "X-Evil\r\nA"), "no header's name"),
        (LIST, ((*LISTING, "parameters", 6, "required"), True), "stands in a cookie"),
        (GET, (("paths", "/v1/refunds/{refund_id}", "parameters", 0, "name"), "other"), "name different things"),
        (CREATE, ((*REFUND, "properties", "amount"), {"type": "number"}), "must not be number"),
        (CREATE, ((*REFUND, "properties", "order"), {"type": "string"}), "maxLength must be there"),
        (CREATE, ((*REFUND, "properties", "cents"), {"type": "integer"}), "must be a whole number"),
        (CREATE, ((*REFUND, "additionalProperties"), True), "must be false"),
        (CREATE, ((*REFUND, "properties", "dry_run"), {"type": "boolean"}), "decided by the gateway"),
        (CREATE, ((*REFUND, "properties", "amount", "pattern"), "^(a+)+\\1$"), "linear engine"),
        (
            CREATE,
            (("components", "requestBodies", "Refund", "content"), {"text/xml": {}}),
            "cannot be application/json",
        ),
        (CREATE, (("paths", "/v1/refunds", "post", "description"), "Do it\u202e"), "invisible characters"),
    ],
)
def test_what_cannot_be_written_or_bounded_is_refused_with_the_place(tool, change, sentence):
    text = document(change)
    if sentence is None:
        assert offered(tools=(tool,), document=text)
        return
    told = refused(tool, document=text)
    assert sentence in told
    assert tool.name in told


def test_references_that_multiply_are_refused():
    bomb = {f"A{n}": {"type": "array", "items": {"$ref": f"#/components/schemas/A{n + 1}"}} for n in range(20)}
    wide = {f"p{n}": {"$ref": "#/components/schemas/B1"} for n in range(50)}
    schemas = {**DOCUMENT["components"]["schemas"], **bomb, "A20": TEXT}
    for level in range(1, 6):
        below = {"type": "string", "maxLength": 1} if level == 5 else {"$ref": f"#/components/schemas/B{level + 1}"}
        schemas[f"B{level}"] = {"type": "object", "properties": {f"q{n}": below for n in range(50)}}
    schemas["Refund"] = {"type": "object", "properties": wide}
    assert "parts when every $ref is written out" in refused(
        CREATE, document=document((("components", "schemas"), schemas))
    )


@pytest.mark.parametrize(
    "text, sentence",
    [
        (b"openapi: 3.1.0", "convert YAML to JSON"),
        (b'{"openapi": "3.0.3"}', "convert it to OpenAPI 3.1"),
        (b'{"openapi": "3.1.0", "openapi": "3.1.0"}', "stands twice"),
    ],
)
def test_a_document_of_another_kind_is_refused(text, sentence):
    assert sentence in refused(CREATE, document=text)


@pytest.mark.parametrize(
    "tool, sentence",
    [
        (replace(CREATE, operation="nothing"), "write one of"),
        (replace(CREATE, key_header=""), "needs a key_header or a key_member"),
        (replace(CREATE, key_member="reference"), "one of them"),
        (replace(ONCE, key_header="Idempotency-Key"), "only with idempotency"),
        (replace(CREATE, key_header="Cookie"), "no header that a key"),
        (replace(CREATE, key_header="x-api-key"), "takes a credential already"),
        (replace(LOOKED_UP, key_member="nothing"), "has no member"),
        (replace(LOOKED_UP, lookup_operation=""), "the other way round"),
        (replace(LOOKED_UP, lookup_operation="cancelRefund"), "must be a GET"),
        (replace(LOOKED_UP, lookup_argument="other"), "must be a GET"),
        (
            replace(LOOKED_UP, lookup_operation="listRefunds", lookup_argument="X_Trace"),
            "set lookup_found to the",
        ),
        (replace(LOOKED_UP, lookup_operation="refundEvents"), "whose path ends with lookup_argument"),
        (replace(LOOKED_UP, lookup_found="reference"), "no JSON pointer to a member"),
        (replace(LOOKED_UP, lookup_found="/a~2"), "no JSON pointer to a member"),
        (replace(CREATE, lookup_found="/reference"), "says nothing without a lookup_operation"),
        (replace(NOTE, name="Note"), "name must be"),
        (replace(NOTE, redacted=frozenset({"text"})), "is no argument"),
    ],
)
def test_what_an_operator_says_against_the_document_is_refused(tool, sentence):
    assert sentence in refused(tool)


def test_every_wrong_tool_is_named():
    told = refused(replace(CREATE, operation="a"), CANCEL, replace(NOTE, operation="b"))
    assert "the tool create_refund: " in told
    assert "the tool note_refund: " in told
    assert "cancel_refund" not in told


@pytest.mark.parametrize(
    "changed",
    [
        {"origin": "http://refunds.example.com"},
        {"origin": "https://user@refunds.example.com"},
        {"origin": "https://refunds.example.com/../x"},
        {"origin": "https://metadata.google.internal"},
        {"origin": "https://2130706433"},
        {"networks": ("0.0.0.0/0",)},
        {"call_key": b"short"},
        {"name": "Refunds"},
    ],
)
def test_a_service_that_cannot_be_right_is_refused(changed):
    with pytest.raises(ValueError, match=r"origin|server|network|call_key|name|host"):
        service(**changed)


@pytest.mark.parametrize(
    "changed",
    [{"header": "Host"}, {"header": "A:b"}, {"header": "X", "query": "y"}, {}, {"header": "X", "prefix": "a\r\n"}],
)
def test_a_credential_goes_to_one_place_that_is_no_header_of_the_connection(changed):
    with pytest.raises(ValueError, match="credential"):
        Credential(secret="x", **changed)


def test_secrets_do_not_show():
    shown = repr(service())
    assert "s3cret" not in shown
    assert "kkkk" not in shown
    assert isinstance(service(), HttpService)


@pytest.mark.parametrize(
    "schema, bounds, expected",
    [
        ({"type": "string"}, Bounds(string_length_max=9), {"type": "string", "maxLength": 9}),
        ({"type": "string", "maxLength": 3}, Bounds(string_length_max=9), {"type": "string", "maxLength": 3}),
        ({"type": "string", "enum": ["a"]}, Bounds(string_length_max=9), {"type": "string", "enum": ["a"]}),
        ({"type": "integer"}, Bounds(integer_max=7), {"type": "integer", "minimum": -7, "maximum": 7}),
        (
            {"type": "integer", "exclusiveMinimum": 0, "maximum": 5},
            Bounds(),
            {"type": "integer", "minimum": 1, "maximum": 5},
        ),
        (
            {"type": "integer", "minimum": 0, "exclusiveMinimum": 3, "maximum": 5},
            Bounds(),
            {"type": "integer", "minimum": 0, "exclusiveMinimum": 3, "maximum": 5},
        ),
        ({"type": "object", "x-y": 1}, Bounds(), {"type": "object", "additionalProperties": False}),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}], "title": "T"}, Bounds(), {"type": "boolean", "title": "T"}),
        ({"anyOf": [{"type": "boolean"}, {"type": "string"}]}, Bounds(), None),
        (True, Bounds(), True),
    ],
)
def test_tightening_only_takes_away(schema, bounds, expected):
    assert tightened(schema, bounds) == (schema if expected is None else expected)
