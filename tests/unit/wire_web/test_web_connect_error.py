"""Errors in Connect's JSON say what google.rpc says, to machines and to people."""

from base64 import b64decode

import msgspec
import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2

from gateway.terms.ids import RequestId, RuleId
from gateway.terms.verdict import Kind, Refusal, Violation
from gateway.wire.errors import OUTCOMES, ending, unimplemented
from gateway.wire.web.connect_error import error_body, error_object, hints

REQUEST = RequestId("req-1")
FULL = Refusal(
    kind=Kind.EXHAUSTED,
    reason="limit.notional",
    sentence="too much \u2028 \x00 at once",
    rules=(RuleId("a"), RuleId("b")),
    policy_hash="0f",
    violations=(Violation(field="price", description="not \u00fcber 9"), Violation(field="", description="all of it")),
    retry_after_ms=61_007,
    operation_id="op-3",
)


@pytest.mark.parametrize("refusal", [FULL, Refusal(kind=Kind.NOT_FOUND, reason="r", sentence="s")])
def test_what_people_read_is_what_machines_read(refusal):
    error = msgspec.json.decode(error_body(ending(refusal), REQUEST))
    for detail in error["details"]:
        assert "=" not in detail["value"]
        value = b64decode(detail["value"] + "=" * (-len(detail["value"]) % 4))
        message = getattr(error_details_pb2, detail["type"].removeprefix("google.rpc."))
        assert json_format.ParseDict(detail["debug"], message()) == message.FromString(value)


def test_a_sentence_is_safe_to_show():
    message = error_object(ending(FULL), REQUEST)["message"]
    assert message.isprintable()
    assert (
        len(error_object(ending(Refusal(kind=Kind.LATE, reason="r", sentence="\u20ac" * 5_000)), REQUEST)["message"])
        < 300
    )


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_its_code(kind):
    error = error_object(ending(Refusal(kind=kind, reason="r", sentence="s")), REQUEST)
    assert error["code"] == OUTCOMES[kind].connect


@pytest.mark.parametrize("wait_ms,seconds", [(0, b"1"), (1, b"1"), (1_000, b"1"), (1_001, b"2"), (61_007, b"62")])
def test_http_is_told_when_to_come_back(wait_ms, seconds):
    refusal = Refusal(kind=Kind.UNAVAILABLE, reason="r", sentence="s", retry_after_ms=wait_ms)
    assert hints(ending(refusal)) == [(b"retry-after", seconds)]


def test_http_is_told_nothing_where_there_is_nothing_to_say():
    assert hints(unimplemented("r", "s")) == []
