import pytest
from agent_parts import bad_request, details_header, error_info, retry_info
from grpclib.const import Status

from agent.client.ending import ending, foreign, metadata, read_fields

GRPC = {":status": "200", "content-type": "application/grpc"}
OWN = {"gateway-request": "req-1"}


def test_ok_is_no_error():
    assert ending(GRPC, {"grpc-status": "0"}) is None
    assert ending({**GRPC, "grpc-status": "0"}, {}) is None
    assert foreign(GRPC) is None
    assert foreign({":status": "503", "grpc-status": "14"}) is None
    assert ending({**GRPC, "content-type": "application/grpc+proto"}, {"grpc-status": "0"}) is None


@pytest.mark.parametrize(
    ("http", "status", "said", "passing", "unknown"),
    [
        ("400", Status.INTERNAL, "could not read the request", False, False),
        ("401", Status.UNAUTHENTICATED, "its audience must be the gateway's own URL", False, False),
        ("403", Status.PERMISSION_DENIED, "grant roles/run.invoker", False, False),
        ("404", Status.UNIMPLEMENTED, "check the URL, and the gateway's ingress setting", False, False),
        ("429", Status.UNAVAILABLE, "no free instance", True, False),
        ("500", Status.UNKNOWN, "could be started", True, True),
        ("502", Status.UNAVAILABLE, "could not be reached", True, True),
        ("503", Status.UNAVAILABLE, "could not be reached", True, True),
        ("504", Status.UNAVAILABLE, "request timeout", False, True),
        ("302", Status.UNKNOWN, "no gRPC service", False, True),
        ("abc", Status.UNKNOWN, "no gRPC service", False, True),
    ],
)
def test_what_an_edge_answers_is_explained(http, status, said, passing, unknown):
    error = foreign({":status": http, "content-type": "text/html"})
    assert error.from_edge
    assert error.status is status
    assert error.reason == f"edge.{status.name.lower()}"
    assert said in error.sentence
    assert f"(HTTP {http})" in error.sentence
    assert (error.passing, error.effect_unknown) == (passing, unknown)


def test_a_page_where_grpc_should_be():
    error = foreign({":status": "200", "content-type": "text/html"})
    assert "no gRPC service; check the URL" in error.sentence
    assert error.from_edge
    assert foreign({}).sentence.endswith("(HTTP without status)")


def test_what_the_gateway_answers_in_plain_http_is_not_the_edges():
    error = foreign({":status": "415", **OWN})
    assert not error.from_edge
    assert error.request_id == "req-1"


@pytest.mark.parametrize("value", ["", "99", "-1", "1.0", "\u0663", "123456", "00x"])
def test_a_status_that_is_none_is_unknown(value):
    error = ending(GRPC | OWN, {"grpc-status": value})
    assert error.status is Status.UNKNOWN
    assert error.effect_unknown


def test_no_status_at_all_is_an_error():
    error = ending(GRPC | OWN, {})
    assert error.status is Status.UNKNOWN
    assert "without a status" in error.sentence


def test_a_status_of_somebody_else_is_said_to_be():
    error = ending(GRPC, {"grpc-status": "12", "grpc-message": "no such service"})
    assert error.from_edge
    assert error.reason == "edge.unimplemented"
    assert error.sentence == "What answered is not the gateway; check the URL. It said: no such service"


def test_all_details_are_read():
    value = details_header(
        error_info("a.b", rules="r1,r2", operation="op-1"), retry_info(1, 5), bad_request(("f", "p"))
    )
    error = ending(GRPC, {"grpc-status": "14", "grpc-message": "50%25 full", "grpc-status-details-bin": value})
    assert (error.reason, error.sentence) == ("a.b", "50% full")
    assert (error.rules, error.operation_id) == (("r1", "r2"), "op-1")
    assert error.retry_after_s == 1.000000005
    assert error.violations == (("f", "p"),)
    assert error.passing
    assert not error.from_edge


def test_details_with_padding_are_read_too():
    value = details_header(error_info("a.b"))
    padded = value + "=" * (-len(value) % 4)
    assert ending(GRPC, {"grpc-status": "7", "grpc-status-details-bin": padded}).reason == "a.b"


def test_a_pause_into_the_past_is_none():
    error = ending(GRPC | OWN, {"grpc-status": "14", "grpc-status-details-bin": details_header(retry_info(-5))})
    assert error.retry_after_s == 0


def test_details_of_unknown_kinds_are_passed_over():
    unknown = error_info("x")
    unknown.type_url = "type.googleapis.com/google.rpc.Help"
    value = details_header(unknown)
    assert (
        ending(GRPC | OWN, {"grpc-status": "7", "grpc-status-details-bin": value}).reason == "status.permission_denied"
    )


def test_bytes_beyond_ascii_in_headers_are_no_crash():
    fields = read_fields([(b":status", b"200"), (b"x-odd", b"\xff\xfe"), (b"grpc-message", b"\xc3\xa4")])
    assert metadata(fields) == {"x-odd": "\xff\xfe"}
