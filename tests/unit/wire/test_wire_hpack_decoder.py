"""The decoder of header blocks: strict by RFC 7541, and judged by the hpack library."""

import pytest
from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError, OversizedHeaderListError
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.hpack_decoder import BlockDecoder

LIST_MAX = 4_000

text = st.binary(max_size=60)
field = st.tuples(st.sampled_from([b":path", b"a", b"authorization", b"x-request-id", b"te"]) | text, text)
fields = st.lists(st.tuples(field, st.booleans()), max_size=12)


def judged():
    return BlockDecoder(LIST_MAX), Decoder(LIST_MAX)


def both(ours, theirs, block):
    """What both make of a block: fields, or None for an error of either kind; they must agree."""
    try:
        expected = [(bytes(name), bytes(value)) for name, value in theirs.decode(block, raw=True)]
    except (HPACKError, IndexError, TypeError):
        expected = None
    try:
        found = ours.decode(block)
    except HPACKError:
        found = None
    assert found == expected
    return found


@settings(max_examples=200)
@given(st.lists(fields, max_size=6), st.booleans(), st.lists(st.integers(0, 4_096), max_size=3))
def test_what_an_encoder_writes_is_read(blocks, huffman, sizes):
    ours, theirs = judged()
    encoder = Encoder()
    for number, block in enumerate(blocks):
        if number < len(sizes):
            encoder.header_table_size = sizes[number]
        written = [(name, value, never) for (name, value), never in block]
        data = encoder.encode(written, huffman=huffman)
        assert both(ours, theirs, data) == [(name, value) for name, value, _ in written]


@settings(max_examples=400)
@given(st.lists(fields, min_size=1, max_size=3), st.data())
def test_what_no_encoder_writes_is_judged_alike(blocks, data):
    ours, theirs = judged()
    encoder = Encoder()
    for block in blocks:
        raw = bytearray(encoder.encode([(name, value, never) for (name, value), never in block]))
        for _ in range(data.draw(st.integers(0, 3))):
            if raw:
                raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        if both(ours, theirs, bytes(raw)) is None:
            return


@settings(max_examples=400)
@given(st.binary(max_size=40))
def test_any_bytes_are_judged_alike(block):
    both(*judged(), block)


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",
        b"\xbe",
        b"\x7e\x01a",
        b"\xff\xff\xff\xff\xff\xff\x0f",
        b"\xff\x80\x80\x80\x80\x00",
        b"\xff",
        b"\x40",
        b"\x40\x01a",
        b"\x40\x01a\x05b",
        b"\x40\x7f\xff\xff\xff\x0fa",
        b"\x82\x20",
        b"\x3f\xe2\x1f",
        b"\x40\x01a\x81\x00",
        b"\x40\x01a\x84\xff\xff\xff\xff",
    ],
    ids=[
        "index-0",
        "index-beyond",
        "name-beyond",
        "long-integer",
        "integer-of-zeros",
        "cut-integer",
        "cut-name",
        "cut-value",
        "value-beyond",
        "name-of-gigabytes",
        "late-resize",
        "resize-beyond",
        "bad-padding",
        "end-of-string-symbol",
    ],
)
def test_what_rfc_7541_forbids_is_refused(block):
    with pytest.raises(HPACKError):
        BlockDecoder(LIST_MAX).decode(block)


def test_the_list_is_bounded_while_unpacking():
    decoder = BlockDecoder(LIST_MAX)
    decoder.decode(b"\x40\x01a" + b"\x7f\xd1\x0e" + b"x" * 2_000)
    with pytest.raises(OversizedHeaderListError):
        decoder.decode(b"\xbe\xbe")


def test_an_entry_larger_than_the_table_empties_it():
    decoder = BlockDecoder(20_000)
    decoder.decode(b"\x40\x01a\x01b")
    decoder.decode(b"\x40\x01a" + b"\x7f\x81\x1f" + b"x" * 4_096)
    with pytest.raises(HPACKError, match="no entry 62"):
        decoder.decode(b"\xbe")


def test_a_smaller_table_forgets_the_oldest():
    decoder = BlockDecoder(LIST_MAX)
    decoder.decode(b"\x40\x01a\x01b\x40\x01c\x01d")
    assert decoder.decode(b"\xbe\xbf") == [(b"c", b"d"), (b"a", b"b")]
    assert decoder.decode(b"\x3f\x03\xbe") == [(b"c", b"d")]
    with pytest.raises(HPACKError, match="no entry 63"):
        decoder.decode(b"\xbf")
