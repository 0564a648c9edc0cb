"""Reading the head of a request: the strict form, and no crash for any other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.terms.caller import Credentials
from gateway.wire.config import WireConfig
from gateway.wire.errors import EndedError
from gateway.wire.request import Head, HttpStatusError, MalformedRequestError, read_head

CONFIG = WireConfig()
REQUEST = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/a.B/C"),
    (b"content-type", b"application/grpc"),
]


def head(*extra):
    return read_head([*REQUEST, *extra], CONFIG)


def test_the_least_request():
    assert head() == Head(path="/a.B/C", gzip=False, timeout_ns=None, credentials=Credentials())


@pytest.mark.parametrize(
    "written, ns",
    [
        (b"0n", 0),
        (b"1n", 1),
        (b"1u", 1_000),
        (b"1m", 1_000_000),
        (b"1S", 10**9),
        (b"1M", 60 * 10**9),
        (b"1H", 3_600 * 10**9),
        (b"99999999H", 99_999_999 * 3_600 * 10**9),
        (b"00000007S", 7 * 10**9),
    ],
)
def test_every_unit_of_time(written, ns):
    assert head((b"grpc-timeout", written)).timeout_ns == ns


def test_credentials_are_kept_byte_for_byte_and_in_order():
    got = head((b"authorization", b"Bearer \xff"), (b"authorization", b""), (b"x-serverless-authorization", b" b "))
    assert got.credentials == Credentials(authorization=("Bearer \u00ff", ""), serverless_authorization=(" b ",))


def test_agents_cannot_name_themselves():
    assert head((b"x-agent-id", b"root"), (b"x-forwarded-user", b"root"), (b"principal", b"root")) == head()


def test_the_size_counts_as_http2_counts():
    room = CONFIG.metadata_bytes_max - sum(len(name) + len(value) + 32 for name, value in REQUEST)
    name = b"x-filler"
    assert head((name, bytes(room - 32 - len(name)).replace(b"\0", b"x")))
    with pytest.raises(EndedError):
        head((name, b"x" * (room - 31 - len(name))))


NAMES = b":method :path :scheme :authority content-type te grpc-timeout grpc-encoding authorization x-a connection : X"
VALUES = b"POST GET http /a.B/C application/grpc 1S gzip"
FIELD = st.sampled_from([*NAMES.split(), b""]) | st.binary(max_size=8)
VALUE = st.sampled_from(VALUES.split()) | st.binary(max_size=20)


@given(st.lists(st.tuples(FIELD, VALUE), max_size=12), st.booleans())
def test_any_headers_are_a_head_or_a_refusal(fields, whole):
    try:
        got = read_head([*REQUEST, *fields] if whole else fields, CONFIG)
    except (EndedError, HttpStatusError, MalformedRequestError):
        return
    assert got.path
    assert [name for name, _ in fields if name == b"connection"] == []
