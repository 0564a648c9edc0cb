"""Headers are read strictly and counted."""

import pytest

from gateway.wire.config import WireConfig
from gateway.wire.errors import EndedError
from gateway.wire.web.fields import WebFields


def fields(**values):
    return WebFields([(name.replace("_", "-").encode(), value) for name, value in values.items()])


@pytest.mark.parametrize(
    "value,nanoseconds",
    [
        (b"1n", 1),
        (b"2u", 2_000),
        (b"3m", 3_000_000),
        (b"4S", 4_000_000_000),
        (b"5M", 300_000_000_000),
        (b"99999999H", 99_999_999 * 3_600_000_000_000),
    ],
)
def test_grpc_timeouts(value, nanoseconds):
    assert fields(grpc_timeout=value).grpc_timeout_ns() == nanoseconds


@pytest.mark.parametrize("value", [b"", b"1", b"S", b"1s", b"123456789S", b"1.5S", b" 1S", b"1S\n", b"-1S"])
def test_what_is_no_grpc_timeout(value):
    with pytest.raises(EndedError):
        fields(grpc_timeout=value).grpc_timeout_ns()


def test_connect_timeouts():
    assert fields().connect_timeout_ns() is None
    assert fields(connect_timeout_ms=b"0").connect_timeout_ns() == 0
    assert fields(connect_timeout_ms=b"9999999999").connect_timeout_ns() == 9_999_999_999_000_000


def test_two_timeouts_are_none():
    twice = WebFields([(b"connect-timeout-ms", b"5"), (b"grpc-timeout", b"5S")] * 2)
    with pytest.raises(EndedError):
        twice.connect_timeout_ns()
    with pytest.raises(EndedError):
        twice.grpc_timeout_ns()


def test_one_is_one():
    twice = WebFields([(b"a", b"1"), (b"b", b"2"), (b"a", b"3")])
    assert (twice.one(b"a"), twice.one(b"b"), twice.one(b"c")) == (b"", b"2", b"")
    assert twice.all(b"a") == [b"1", b"3"]


def test_credentials_keep_every_byte():
    found = WebFields([(b"authorization", bytes(range(256)))]).credentials()
    assert found.authorization[0].encode("latin-1") == bytes(range(256))


def test_headers_are_counted_as_http2_counts_them():
    config = WireConfig(metadata_bytes_max=1_000)
    WebFields([(b"a", b"x" * (1_000 - 33))]).check(config)
    with pytest.raises(EndedError):
        WebFields([(b"a", b"x" * (1_000 - 32))]).check(config)
    WebFields([(b"a", b"")] * 128).check(WireConfig())
    with pytest.raises(EndedError):
        WebFields([(b"a", b"")] * 129).check(WireConfig())


@pytest.mark.parametrize("value,expected", [(b"GZIP", True), (b"*", False), (b"x-gzip", False), (b"", False)])
def test_accepted_encodings(value, expected):
    assert fields(accept_encoding=value).gzip_accepted(b"accept-encoding", otherwise=True) is expected
