"""Columns are handed to PostgreSQL as the texts of arrays, and come to it as they were."""

import asyncio

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ledger.postgres_writes import _array
from gateway.ledger.tables import storable

AWKWARD = (
    *("NULL", "null", "", " ", '"', "\\", "\\n", "a\nb\tc", "{}", "{a,b}", ",", "'", "$1", "\x00", "\x7f"),
    *("\ud800", "é\u202e", "\U0001f600", None),
)


async def come(url, kind, columns):
    connection = await asyncpg.connect(url)
    try:
        return [await connection.fetchval(f"SELECT $1::text::{kind}[]", _array(tuple(one))) for one in columns]
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("text", AWKWARD),
        ("text", ()),
        ("bigint", (0, -1, 2**63 - 1, -(2**63), None)),
        ("boolean", (True, False, None)),
        ("bigint", ()),
    ],
)
async def test_a_column_comes_as_it_was(postgres_url, kind, values):
    columns = [values, *((value,) for value in values)]
    assert await come(postgres_url, kind, columns) == [[storable(value) for value in one] for one in columns]


def test_any_texts_come_as_they_were(postgres_url):
    @settings(max_examples=30, deadline=None)
    @given(columns=st.lists(st.lists(st.none() | st.text(st.characters(codec=None), max_size=12)), max_size=20))
    def compared(columns):
        told = asyncio.run(come(postgres_url, "text", columns))
        assert told == [[storable(value) for value in one] for one in columns]

    compared()
