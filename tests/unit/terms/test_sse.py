"""Server-sent events, however they are framed and wherever the network cuts them."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.terms.sse import EventReader, EventTooLargeError


def naive(stream):
    """The specification read line by line over the whole text (WHATWG HTML, 9.2.6), complete events only."""
    stream = stream.removeprefix(b"\xef\xbb\xbf")
    events, data = [], None
    for line in re.split(rb"\r\n|\n|\r", stream)[:-1]:
        if line == b"":
            if data is not None:
                events.append(data[:-1])
            data = None
            continue
        field, _, value = line.partition(b":")
        if field == b"data":
            data = (data or b"") + value.removeprefix(b" ") + b"\n"
    return events


def read(pieces, size_max=1 << 20):
    reader = EventReader(size_max)
    return [event for piece in pieces for event in reader.feed(piece)]


def pieces_of(stream, cuts):
    places = sorted({cut % (len(stream) + 1) for cut in cuts})
    return [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)]


LINES = st.sampled_from(
    [
        *(b"", b"", b"data: {}", b"data:x", b"data:  y", b"data", b"data:", b": ping", b"event: e", b"id: 1"),
        *(b"retry: 9", "data: π☃🙂".encode(), b"data: [DONE]", b"data\xc3: n", b" data: n", b"datas: n"),
        b"\xef\xbb\xbfdata: b",
    ]
)
ENDS = st.sampled_from([b"\r\n", b"\n", b"\r"])


@given(
    st.lists(st.tuples(LINES, ENDS), max_size=12),
    st.booleans(),
    LINES,
    st.lists(st.integers(0, 10_000), max_size=12),
)
def test_like_a_naive_reading_of_the_specification(lines, mark, rest, cuts):
    stream = (b"\xef\xbb\xbf" if mark else b"") + b"".join(line + end for line, end in lines) + rest
    assert read(pieces_of(stream, cuts)) == naive(stream)


@given(st.lists(st.tuples(LINES, ENDS), max_size=8))
def test_cut_at_every_byte(lines):
    stream = b"".join(line + end for line, end in lines)
    assert read([bytes([byte]) for byte in stream]) == naive(stream)


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r"])
def test_an_event_comes_with_the_byte_that_completes_it(end):
    reader = EventReader()
    stream = b"data: 1" + end + end
    # The second half of the last CRLF carries no news: the carriage return before it has ended the line.
    complete = len(stream) - (1 if end == b"\r\n" else 0)
    assert [reader.feed(stream[place : place + 1]) for place in range(complete)][-1] == [b"1"]


def test_a_split_crlf_is_one_line_end():
    reader = EventReader()
    assert reader.feed(b"data: a\r") == []
    assert reader.feed(b"") == []
    assert reader.feed(b"\ndata: b\r") == []
    assert reader.feed(b"\n\r") == [b"a\nb"]
    assert reader.feed(b"\ndata: c\r\n\r\n") == [b"c"]


def test_a_line_may_come_in_any_number_of_pieces():
    whole = 'data: {"text": "π☃🙂"}\r\n\r\n'.encode()
    assert read([whole[:-1], whole[-1:]]) == read([bytes([byte]) for byte in whole]) == [whole[6:-4]]


def test_what_is_pending():
    reader = EventReader()
    assert not reader.pending
    reader.feed(b"data: x")
    assert reader.pending
    reader.feed(b"\n")
    assert reader.pending
    reader.feed(b"\n")
    assert not reader.pending


@pytest.mark.parametrize(
    "stream",
    [b"data: " + b"x" * 95 + b"\n\n", b"data: " + b"x" * 200, b": " + b"x" * 200, b"data: " + b"x" * 40 + b"\n"],
)
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_an_event_has_a_bound(stream, step):
    reader = EventReader(100)
    stream *= 3 if stream.endswith(b"x\n") else 1
    with pytest.raises(EventTooLargeError):  # noqa: PT012 - whichever piece it is
        for place in range(0, len(stream), step):
            reader.feed(stream[place : place + step])


def test_the_bound_is_of_one_event():
    assert read([b"data: " + b"x" * 90 + b"\n\n"] * 5, 100) == [b"x" * 90] * 5


def test_bytes_that_drip_cost_no_more_than_bytes_that_flow():
    line = b"data: " + b"x" * 1_000_000
    started = time.process_time()
    reader = EventReader()
    for place in range(0, len(line), 8):
        reader.feed(line[place : place + 8])
    # Copying the unfinished line for each of the 125,000 pieces would take minutes.
    assert time.process_time() - started < 2
    assert reader.feed(b"\n\n") == [line[6:]]
