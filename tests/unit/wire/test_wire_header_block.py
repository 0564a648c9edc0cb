"""Header blocks, read back by hpack's decoder."""

from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.header_block import EMPTY_TABLE, header_block

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,200}", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=400)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_what_is_written_is_read_back(fields):
    fields = [(":status", "200"), *fields]
    decoder = Decoder()
    assert decoder.decode(EMPTY_TABLE + header_block(fields)) == fields
    # The first block left nothing behind on which a second one could depend.
    assert decoder.header_table_size == 0
    assert decoder.decode(header_block(fields)) == fields


def test_lengths_around_the_prefix():
    for length in (0, 1, 126, 127, 128, 254, 255, 16_000, 20_000):
        fields = [("x", "v" * length)]
        assert Decoder().decode(header_block(fields)) == fields


def test_a_peer_that_allows_no_table_is_obeyed():
    decoder = Decoder()
    decoder.max_allowed_table_size = 0
    assert decoder.decode(EMPTY_TABLE + header_block([(":status", "415")])) == [(":status", "415")]
