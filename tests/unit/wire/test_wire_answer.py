"""The blocks of headers that an answer over gRPC is made of."""

import pytest

from gateway.terms.clock import SystemClock
from gateway.terms.ids import RequestId
from gateway.terms.passage import Stages
from gateway.terms.verdict import Kind
from gateway.wire.answer import GrpcAnswer
from gateway.wire.errors import refused

LATE = refused(Kind.LATE, "a.b", "More time.")


class Stream:
    """Keeps the blocks that it is given, as a stream with room for all of them."""

    request_complete = True

    def __init__(self):
        self.blocks = []

    def put_headers(self, fields, *, end_stream):
        self.blocks.append((dict(fields), end_stream))

    async def writable(self):
        pass

    async def send_data(self, data):
        self.blocks.append(data)


@pytest.fixture
def stream():
    return Stream()


@pytest.fixture
def answer(stream):
    return GrpcAnswer(stream, RequestId("req-x"), Stages(SystemClock()))


def test_a_stream_that_ends_well_without_a_message_has_headers_and_trailers(stream, answer):
    answer.reply_headers["gateway-operation"] = "op-1"
    answer.end(None)
    (head, first_is_last), (trailers, second_is_last) = stream.blocks
    assert (first_is_last, second_is_last) == (False, True)
    assert head[":status"] == "200"
    assert head["gateway-operation"] == "op-1"
    assert trailers["grpc-status"] == "0"
    assert not trailers.keys() & head.keys()


def test_an_error_at_once_is_one_block(stream, answer):
    answer.end(LATE)
    ((only, is_last),) = stream.blocks
    assert is_last
    assert only[":status"] == "200"
    assert only["grpc-status"] == "4"


def test_an_error_with_headers_to_tell_says_them_in_both_blocks(stream, answer):
    answer.reply_headers["gateway-operation"] = "op-1"
    answer.end(LATE)
    (head, _), (trailers, is_last) = stream.blocks
    assert is_last
    assert head["gateway-operation"] == trailers["gateway-operation"] == "op-1"
    assert "grpc-status" not in head
    assert ":status" not in trailers


def test_headers_that_cannot_be_said_do_not_hide_an_error(stream, answer):
    answer.reply_headers["Bad Name"] = "x"
    answer.end(LATE)
    ((only, _),) = stream.blocks
    assert only["grpc-status"] == "4"


async def test_headers_are_said_once(stream, answer):
    answer.reply_headers["gateway-operation"] = "op-1"
    await answer.send(b"message")
    answer.end(LATE)
    (head, _), _, (trailers, _) = stream.blocks
    assert head["gateway-operation"] == "op-1"
    assert "gateway-operation" not in trailers


@pytest.mark.parametrize("ending", [None, LATE])
def test_trailers_of_the_call_stand_behind_its_status(stream, answer, ending):
    answer.reply_trailers["x-sum"] = "3"
    answer.end(ending)
    trailers, is_last = stream.blocks[-1]
    assert is_last
    assert trailers["x-sum"] == "3"
    assert "grpc-status" in trailers
