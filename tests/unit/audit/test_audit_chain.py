"""The chain's hashes are what its page says, and depend on everything that they should."""

import hashlib

import pytest

from gateway.audit.chain import NOTHING_BEFORE, BootChain, leaf_hash


def framed(text):
    return len(text).to_bytes(8, "big") + text


def test_leaf_and_link_are_what_they_are_said_to_be():
    leaf, link = BootChain("gw", "b1").seal(7, b"\x11" * 32, b"record")
    assert leaf == leaf_hash(b"record") == hashlib.sha256(b"\x00record").digest()
    expected = b"\x02" + framed(b"gw") + framed(b"b1") + (7).to_bytes(8, "big") + b"\x11" * 32 + leaf
    assert link == hashlib.sha256(expected).digest()


def test_everything_changes_the_link():
    links = {
        BootChain(instance, boot).seal(sequence, previous, record)[1]
        for instance, boot, sequence, previous, record in [
            ("gw", "b1", 0, NOTHING_BEFORE, b"r"),
            ("gx", "b1", 0, NOTHING_BEFORE, b"r"),
            ("gw", "b2", 0, NOTHING_BEFORE, b"r"),
            ("gw", "b1", 1, NOTHING_BEFORE, b"r"),
            ("gw", "b1", 0, b"\x01" * 32, b"r"),
            ("gw", "b1", 0, NOTHING_BEFORE, b"s"),
            ("gwb", "1", 0, NOTHING_BEFORE, b"r"),
            ("g", "wb1", 0, NOTHING_BEFORE, b"r"),
        ]
    }
    assert len(links) == 8


def test_sealing_leaves_the_chain_as_it_was():
    chain = BootChain("gw", "b1")
    assert chain.seal(0, NOTHING_BEFORE, b"r") == chain.seal(0, NOTHING_BEFORE, b"r")


def test_a_sequence_has_eight_bytes():
    with pytest.raises(OverflowError):
        BootChain("gw", "b1").seal(2**64, NOTHING_BEFORE, b"r")
