"""Google's errors: which fault they are, and when to come back."""

import json

import pytest

from gateway.llm.vertex_error import RETRY_MS_MAX, read_error
from gateway.terms.faults import Fault


@pytest.mark.parametrize(
    "status, fault",
    [
        (204, Fault.MALFORMED),
        (302, Fault.MALFORMED),
        (400, Fault.REFUSED),
        (401, Fault.DENIED),
        (403, Fault.DENIED),
        (404, Fault.MISSING),
        (408, Fault.UNREACHABLE),
        (409, Fault.REFUSED),
        (413, Fault.REFUSED),
        (429, Fault.QUOTA),
        (499, Fault.UNREACHABLE),
        (500, Fault.UNREACHABLE),
        (503, Fault.UNREACHABLE),
        (599, Fault.UNREACHABLE),
    ],
)
def test_faults_by_status(status, fault):
    assert read_error(status, b"", "").fault is fault


def body(**error):
    return json.dumps({"error": error}).encode()


def retry(text):
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": text}


@pytest.mark.parametrize(
    "text, expected",
    [
        ("7s", 7000),
        ("0.5s", 500),
        ("0.0001s", 1),
        (".25s", 250),
        ("1.s", 1000),
        ("0s", 0),
        ("3600s", RETRY_MS_MAX),
        ("99999999999999999999s", RETRY_MS_MAX),
        ("0000000000001s", 1000),
        ("7", None),
        ("s", None),
        ("-1s", None),
        ("1e3s", None),
        ("٣s", None),
        ("1.2.3s", None),
        ("0.0000000001s", None),
        ("", None),
    ],
)
def test_retry_info(text, expected):
    assert read_error(429, body(details=[{"@type": "x"}, retry(text)]), "").retry_after_ms == expected


@pytest.mark.parametrize(
    "header, expected",
    [
        ("3", 3000),
        ("0", 0),
        ("", None),
        ("-1", None),
        ("9" * 50, RETRY_MS_MAX),
    ],
)
def test_retry_after(header, expected):
    assert read_error(503, b"", header).retry_after_ms == expected


@pytest.mark.parametrize(
    "header, seconds",
    [
        ("Wed, 21 Oct 2026 07:28:00 GMT", 1_792_567_680),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
        ("Sun Nov  6 08:49:37 1994", 784_111_777),
        ("Wed, 21 Oct 2026 07:28:00 +0200", 1_792_567_680 - 7_200),
        ("Wed, 99 Oct 2026 07:28:00 GMT", None),
        ("Wed, 21 Oct 99999999999999999999 07:28:00 GMT", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT" + " " * 64, None),
        ("soon", None),
        ("-1", None),
        ("3", None),
    ],
)
def test_a_date_is_left_for_who_has_a_clock(header, seconds):
    error = read_error(503, b"", header)
    assert error.retry_at_us == (None if seconds is None else seconds * 1_000_000)


def test_the_longest_wait_counts():
    assert read_error(429, body(details=[retry("2s")]), "9").retry_after_ms == 9000
    assert read_error(429, body(details=[retry("12s")]), "9").retry_after_ms == 12_000


def test_an_error_in_an_array_is_read_like_one_alone():
    single = body(code=429, message="slow down", status="RESOURCE_EXHAUSTED", details=[retry("1s")])
    for told in (single, b"[" + single + b"]"):
        error = read_error(429, told, "")
        assert (error.retry_after_ms, error.detail) == (1000, "429 RESOURCE_EXHAUSTED: slow down")


@pytest.mark.parametrize(
    "told", [b"", b"[]", b"{}", b"[" * 100_000, b"\xff", b"<html>", b'{"error":"x"}', b'{"error":{"details":[1]}}']
)
def test_an_unreadable_body_leaves_the_status(told):
    error = read_error(403, told, "")
    assert error.fault is Fault.DENIED
    assert len(error.detail) < 1000


def test_a_detail_has_a_bound():
    assert len(read_error(400, body(message="m" * 100_000), "").detail) < 600
