"""The strict reader of HTTP/1.1: one form of everything, however the bytes are cut."""

import time

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.http1 import BadRequestError, HeadBounds, RequestReader

BOUNDS = HeadBounds(bytes_max=4_096, fields_max=20)


def get(*lines, target=b"/", version=b"1.1"):
    return b"\r\n".join((b"GET " + target + b" HTTP/" + version, b"Host: a", *lines, b"", b""))


def post(*lines, body=b""):
    return b"\r\n".join((b"POST / HTTP/1.1", b"Host: a", *lines, b"", b"")) + body


def chunked(body, *lines):
    return post(b"Transfer-Encoding: chunked", *lines, body=body)


def read(pieces):
    """Every request in the pieces: (head, body), and what is left over."""
    reader = RequestReader(BOUNDS)
    found, head, body = [], None, b""
    for piece in pieces:
        reader.feed(piece)
        while True:
            if head is None:
                head, body = reader.head(), b""
                if head is None:
                    break
            data, complete = reader.body()
            body += data
            if not complete:
                break
            found.append((head, body))
            head = None
    return found, reader.held


def refused(data):
    with pytest.raises(BadRequestError) as caught:
        read([data])
    return caught.value.status


def test_a_request_as_curl_sends_it():
    ((head, body),), held = read([post(b"User-Agent: curl/8", b"Content-Length: 5 ", body=b"hello")])
    assert (head.method, head.path, head.query, head.minor) == (b"POST", b"/", b"", 1)
    assert head.headers == [(b"host", b"a"), (b"user-agent", b"curl/8"), (b"content-length", b"5")]
    assert head.keeps_alive
    assert not head.expects_continue
    assert (body, held) == (b"hello", 0)


@pytest.mark.parametrize(
    "data, bodies",
    [
        (get(), [b""]),
        (get() + get(), [b"", b""]),
        (b"\r\n" + get(), [b""]),
        (post(b"Content-Length: 0"), [b""]),
        (post(b"Content-Length: 3", body=b"abc") + get(), [b"abc", b""]),
        (chunked(b"0\r\n\r\n"), [b""]),
        (chunked(b"3\r\nabc\r\n00A\r\n0123456789\r\n0\r\n\r\n") + get(), [b"abc0123456789", b""]),
        (chunked(b"1\r\n\r\r\n2\r\n\r\n\r\n0\r\n\r\n"), [b"\r\r\n"]),
        (chunked(b"1\r\nx\r\n0\r\nSum: 1\r\nMore: 2\r\n\r\n") + get(), [b"x", b""]),
    ],
)
def test_bodies_are_read_however_they_are_cut(data, bodies):
    for size in (1, 2, 3, 7, len(data)):
        found, held = read([data[at : at + size] for at in range(0, len(data), size)])
        assert [body for _, body in found] == bodies
        assert held == 0


SMUGGLED = {
    "length-and-chunked": chunked(b"0\r\n\r\n", b"Content-Length: 5"),
    "chunked-in-1.0": chunked(b"0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "two-lengths": post(b"Content-Length: 1", b"Content-Length: 1", body=b"x"),
    "list-of-lengths": post(b"Content-Length: 1, 1", body=b"x"),
    "length-with-sign": post(b"Content-Length: +1", body=b"x"),
    "length-in-hex": post(b"Content-Length: 0x1", body=b"x"),
    "length-empty": post(b"Content-Length:", body=b"x"),
    "length-too-long": post(b"Content-Length: 1000000000000000"),
    "bare-lf": get().replace(b"\r\n", b"\n"),
    "bare-lf-after-the-first-line": get(b"A: b\nC: d"),
    "bare-cr": get(b"A: b\rC: d"),
    "lf-first": b"\n" + get(),
    "nul": get(b"A: b\0c"),
    "folded": get(b"A: b", b" c"),
    "folded-by-tab": get(b"A: b", b"\tc"),
    "folded-first": get().replace(b"Host", b" Host"),
    "blank-before-colon": get(b"A : b"),
    "no-colon": get(b"A"),
    "empty-name": get(b": b"),
    "chunk-extension": chunked(b"1;a=b\r\nx\r\n0\r\n\r\n"),
    "chunk-with-blank": chunked(b"1 \r\nx\r\n0\r\n\r\n"),
    "chunk-with-lf": chunked(b"1\nx\r\n0\r\n\r\n"),
    "chunk-size-in-words": chunked(b"one\r\nx\r\n0\r\n\r\n"),
    "chunk-size-with-sign": chunked(b"+1\r\nx\r\n0\r\n\r\n"),
    "chunk-size-with-0x": chunked(b"0x1\r\nx\r\n0\r\n\r\n"),
    "chunk-size-too-long": chunked(b"000000001\r\nx\r\n0\r\n\r\n"),
    "chunk-size-empty": chunked(b"\r\nx\r\n0\r\n\r\n"),
    "chunk-too-long": chunked(b"1\r\nxy\r\n0\r\n\r\n"),
    "chunk-without-its-end": chunked(b"1\r\nx0\r\n\r\n"),
    "last-chunk-extension": chunked(b"0;a=b\r\n\r\n"),
    "folded-trailer": chunked(b"0\r\nA: b\r\n c\r\n\r\n"),
    "no-host": b"GET / HTTP/1.1\r\n\r\n",
    "two-hosts": get(b"Host: a"),
    "blank-in-target": get(target=b"/a b"),
    "fragment": get(target=b"/#a"),
    "asterisk": get(target=b"*"),
    "authority": get(target=b"a:80"),
    "other-scheme": get(target=b"ftp://a/"),
    "two-blanks": get(target=b" /"),
    "high-byte-in-target": get(target=b"/\xc3\xbc"),
    "lower-case-version": get().replace(b"HTTP", b"http"),
    "http-0.9": b"GET /\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
}


@pytest.mark.parametrize("data", SMUGGLED.values(), ids=SMUGGLED.keys())
def test_what_two_readers_could_understand_differently_is_refused(data):
    assert refused(data) == 400
    with pytest.raises(BadRequestError):
        read([data[at : at + 1] for at in range(len(data))])


@pytest.mark.parametrize(
    "data, status",
    [
        (chunked(b"", b"Transfer-Encoding: chunked"), 501),
        (post(b"Transfer-Encoding: gzip, chunked"), 501),
        (post(b"Transfer-Encoding: identity"), 501),
        (post(b"Expect: 200-ok"), 417),
        (get(version=b"1.2"), 505),
        (get(version=b"2.0"), 505),
        (get(version=b"0.9"), 505),
        (get(b"A: " + b"x" * 5_000), 431),
        (get(b"A: " + b"x" * 5_000)[:4_200], 431),
        (get(*[b"A: b"] * 20), 431),
        (chunked(b"0\r\n" + b"A: b\r\n" + b"A: " + b"x" * 5_000), 431),
    ],
    ids=["twice", "gzip", "identity", "expect", "1.2", "2.0", "0.9", "bytes", "unfinished", "fields", "trailers"],
)
def test_other_refusals_say_what_they_are(data, status):
    assert refused(data) == status


def test_absolute_targets_name_the_host():
    ((head, _),), _ = read([get(b"A: b", target=b"http://other:80/x?y")])
    assert (head.path, head.query) == (b"/x", b"y")
    assert head.headers == [(b"host", b"other:80"), (b"a", b"b")]
    ((head, _),), _ = read([get(target=b"http://other")])
    assert head.path == b"/"


def test_versions_and_connection_options():
    def first(data):
        return read([data])[0][0][0]

    assert not first(get(b"Connection: Keep-Alive, Close")).keeps_alive
    assert not first(get(version=b"1.0")).keeps_alive
    assert first(post(b"Expect: 100-Continue")).expects_continue
    assert not first(post(b"Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0")).expects_continue
    assert first(b"GET / HTTP/1.0\r\n\r\n").headers == []


@pytest.mark.parametrize("blanks", [b" ", b"\t", b" x"])
def test_reading_takes_time_in_proportion_to_the_bytes(blanks):
    reader = RequestReader(HeadBounds(bytes_max=200_000, fields_max=10))
    reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\nA:" + blanks * (150_000 // len(blanks)) + b"\0\r\n\r\n")
    start = time.process_time()
    with pytest.raises(BadRequestError):
        reader.head()
    assert time.process_time() - start < 0.2


def test_a_head_in_crumbs_is_not_searched_from_its_beginning_again():
    reader = RequestReader(HeadBounds(bytes_max=60_000, fields_max=10))
    data = get(b"A: " + b"x" * 50_000)
    start = time.process_time()
    for at in range(len(data)):
        reader.feed(data[at : at + 1])
        reader.head()
    assert time.process_time() - start < 2


@given(st.lists(st.sampled_from([*SMUGGLED.values(), get(), chunked(b"1\r\nx\r\n0\r\n\r\n")]), max_size=3), st.data())
def test_what_is_accepted_h11_understands_in_the_same_way(parts, data):
    """Mutated requests: whatever this reader takes, h11 takes too, with the same method, target and body."""
    raw = bytearray(b"".join(parts))
    for _ in range(data.draw(st.integers(0, 3))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.sampled_from(b"\r\n\0 \t;:0a1"))
    try:
        found, _ = read([bytes(raw)])
    except BadRequestError:
        return
    judge = h11.Connection(h11.SERVER, max_incomplete_event_size=100_000)
    judge.receive_data(bytes(raw))
    for head, body in found:
        request = judge.next_event()
        assert isinstance(request, h11.Request)
        assert request.method == head.method
        assert request.target.partition(b"?")[0] == head.path
        seen = b""
        while isinstance(event := judge.next_event(), h11.Data):
            seen += bytes(event.data)
        assert isinstance(event, h11.EndOfMessage)
        assert seen == body
        if not head.keeps_alive:
            return
        judge.send(h11.Response(status_code=204, headers=[]))
        judge.send(h11.EndOfMessage())
        judge.start_next_cycle()
