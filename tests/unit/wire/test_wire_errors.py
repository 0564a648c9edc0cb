"""The translation of refusals: every kind, and nothing that breaks a header."""

from base64 import b64decode
from dataclasses import replace
from urllib.parse import unquote

import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpclib.const import Status
from hypothesis import given
from hypothesis import strategies as st

from gateway.terms.ids import RequestId, RuleId
from gateway.terms.verdict import Kind, Refusal, Violation
from gateway.wire import errors
from gateway.wire.errors import OUTCOMES, ending, internal, percent_encoded, plain, status_details, status_trailers
from gateway.wire.web.connect_error import error_object
from generated.agentic.wire.v1 import Detail

REQUEST = RequestId("req-x")

# https://connectrpc.com/docs/protocol/#error-codes
CONNECT_HTTP = {
    "invalid_argument": 400,
    "unauthenticated": 401,
    "permission_denied": 403,
    "not_found": 404,
    "already_exists": 409,
    "aborted": 409,
    "resource_exhausted": 429,
    "failed_precondition": 400,
    "unavailable": 503,
    "deadline_exceeded": 504,
    "internal": 500,
    "unimplemented": 501,
    "canceled": 499,
}


@pytest.mark.parametrize("outcome", [*OUTCOMES.values(), errors.UNIMPLEMENTED, errors.CANCELLED])
def test_the_three_columns_say_the_same(outcome):
    spelled = {Status.CANCELLED: "canceled"}.get(outcome.grpc, outcome.grpc.name.lower())
    assert outcome.connect == spelled
    assert outcome.http == CONNECT_HTTP[outcome.connect]
    assert code_pb2.Code.Name(outcome.grpc.value) == outcome.grpc.name


def test_every_kind_has_an_outcome_of_its_own():
    assert set(OUTCOMES) == set(Kind)
    assert len({outcome.grpc for outcome in OUTCOMES.values()}) == len(Kind)


def test_a_bare_refusal_says_only_what_it_knows():
    details = status_pb2.Status.FromString(
        status_details(ending(Refusal(kind=Kind.LATE, reason="wire.deadline", sentence="More time.")), REQUEST)
    )
    assert len(details.details) == 1
    info = error_details_pb2.ErrorInfo()
    details.details[0].Unpack(info)
    assert dict(info.metadata) == {"request": "req-x"}


def test_internal_says_how_to_ask_and_nothing_else():
    assert internal(REQUEST).refusal.sentence == (
        "internal error; quote request id req-x to the operator of this gateway"
    )


@pytest.mark.parametrize(
    "text, safe",
    [
        ("a\r\nb", "a\ufffd\ufffdb"),
        ("\x1b[31m", "\ufffd[31m"),
        ("a\u202eb", "a\ufffdb"),
        ("a\ud800b", "a\ufffdb"),
        ("\x00\x7f\x85", "\ufffd\ufffd\ufffd"),
        ("\u00e4 \u4e2d \U0001f600", "\u00e4 \u4e2d \U0001f600"),
    ],
)
def test_what_could_hurt_a_terminal_or_a_log_is_replaced(text, safe):
    assert plain(text, 100) == safe


def test_long_text_is_cut():
    assert plain("x" * 200, 10) == "x" * 7 + "\u2026"
    assert plain("x" * 10, 10) == "x" * 10
    assert plain("\u00e4" * 6, 10) == "\u00e4" * 3 + "\u2026"


def test_percent_encoding_is_grpcs():
    assert percent_encoded("100 % of 5\u20ac ~") == "100 %25 of 5%E2%82%AC ~"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=3_000))
def test_any_text_is_a_header_value_and_reads_back(text):
    encoded = percent_encoded(text)
    assert len(encoded) <= errors.MESSAGE_BYTES_MAX
    assert encoded.isascii()
    assert encoded.isprintable()
    kept = unquote(encoded, errors="strict")
    assert kept == text or text.startswith(kept.removesuffix("\u2026"))


def test_a_surrogate_breaks_no_header():
    assert percent_encoded("a\ud800b") == "a?b"


@given(st.text(st.characters(), max_size=3_000))
def test_our_own_sentence_is_plain_in_every_place(text):
    end = ending(Refusal(kind=Kind.LATE, reason="a.b", sentence=text))
    trailers = dict(status_trailers(end, REQUEST))
    told = unquote(trailers["grpc-message"], errors="strict")
    assert plain(text, 3_000).startswith(told.removesuffix("\u2026"))
    assert status_pb2.Status.FromString(status_details(end, REQUEST)).message == plain(text, errors.SENTENCE_BYTES_MAX)


EXACT = "\t\ntest with whitespace\r\nand Unicode \u263a and \U0001f608\t\n"


@pytest.mark.parametrize("details", [(), (Detail(type_url="type.example/a.B", value=b"\x00\xff"),)])
def test_a_service_of_another_table_says_exactly_its_own(details):
    refusal = Refusal(kind=Kind.LATE, reason="a.b", sentence=EXACT, retry_after_ms=5)
    end = replace(ending(refusal), details=details)
    trailers = dict(status_trailers(end, REQUEST))
    status = status_pb2.Status.FromString(b64decode(trailers["grpc-status-details-bin"] + "=="))
    assert unquote(trailers["grpc-message"]) == status.message == EXACT
    assert [(each.type_url, each.value) for each in status.details] == [(each.type_url, each.value) for each in details]
    error = error_object(end, REQUEST)
    assert error["message"] == EXACT
    assert len(error.get("details", [])) == len(details)


def test_the_largest_refusal_fits_the_trailers_that_clients_take():
    refusal = Refusal(
        kind=Kind.MALFORMED,
        reason="request.malformed",
        sentence="\U0001f600" * 5_000,
        rules=tuple(RuleId(f"rule-{number}-{'r' * 30}") for number in range(300)),
        policy_hash="f" * 64,
        violations=tuple(Violation(field="f" * 500, description="d" * 5_000) for _ in range(200)),
        retry_after_ms=86_400_000,
        operation_id="op-" + "o" * 26,
    )
    trailers = status_trailers(ending(refusal), REQUEST)
    assert sum(len(name) + len(value) + 32 for name, value in trailers) < errors.TRAILERS_BYTES_MAX - 300


@pytest.mark.parametrize("milliseconds", [0, 1, 999, 1_000, 86_400_123])
def test_the_retry_hint_is_exact(milliseconds):
    refusal = Refusal(kind=Kind.UNAVAILABLE, reason="a.b", sentence="c", retry_after_ms=milliseconds)
    details = status_pb2.Status.FromString(status_details(ending(refusal), REQUEST))
    retry = error_details_pb2.RetryInfo()
    assert details.details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == milliseconds


def test_surrogates_and_controls_in_any_field_are_carried_safely():
    refusal = Refusal(
        kind=Kind.MALFORMED,
        reason="a.b",
        sentence="\ud800",
        rules=(RuleId("r\n"),),
        violations=(Violation(field="\udfff", description="\x1b"),),
    )
    details = status_pb2.Status.FromString(status_details(ending(refusal), REQUEST))
    assert details.message == "\ufffd"
