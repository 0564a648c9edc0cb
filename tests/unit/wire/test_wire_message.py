"""Putting one message together, whatever the pieces."""

import gzip

import pytest
from grpclib.const import Status
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.errors import EndedError
from gateway.wire.message import OneMessage, framed


def put_together(data, cuts, **kind):
    message = OneMessage(100, **kind)
    at = 0
    for cut in sorted({*cuts, len(data)}):
        message.add(data[at:cut])
        at = cut
    return message.finish()


@given(st.binary(max_size=100), st.lists(st.integers(0, 105)), st.booleans())
def test_any_cut_gives_the_same_message(body, cuts, zipped):
    assert put_together(framed(body), [min(cut, len(body) + 5) for cut in cuts], gzip=zipped) == body


@given(st.binary(max_size=60), st.lists(st.integers(0, 60)))
def test_the_same_compressed(body, cuts):
    packed = gzip.compress(body, mtime=0)
    data = b"\1" + len(packed).to_bytes(4, "big") + packed
    assert put_together(data, [min(cut, len(data)) for cut in cuts], gzip=True) == body


@given(st.binary(max_size=120), st.lists(st.integers(0, 120)), st.booleans())
def test_any_bytes_are_a_message_or_a_refusal(data, cuts, zipped):
    try:
        body = put_together(data, [min(cut, len(data)) for cut in cuts], gzip=zipped)
    except EndedError as error:
        status = error.ending.outcome.grpc
        flag = error.ending.refusal.reason == "wire.flag_malformed"
        refusals = {Status.INVALID_ARGUMENT, Status.UNIMPLEMENTED, Status.RESOURCE_EXHAUSTED}
        acceptable = status is Status.INTERNAL if flag else status in refusals
    else:
        acceptable = zipped or framed(body) == data
    assert acceptable


def test_the_announcement_is_enough_to_refuse():
    message = OneMessage(100, gzip=False)
    message.add(b"\0\0\0")
    with pytest.raises(EndedError) as caught:
        message.add(b"\0\x65")
    assert caught.value.ending.outcome.grpc is Status.RESOURCE_EXHAUSTED
