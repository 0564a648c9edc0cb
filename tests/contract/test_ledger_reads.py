"""What calls read of a ledger at the same moment, whatever keeps its tables."""

import asyncio

import msgspec
import pytest
from made_calls import CALLER, claim

from gateway.terms.money import Unit
from gateway.terms.operations import Replay
from gateway.terms.verdict import Kind


async def test_who_asks_at_the_same_moment_gets_his_own_answer(desk):
    """A backend may ask its tables all of it at once."""
    spent = [(f"agent:{number}", number + 1) for number in range(4)]
    done = [await desk.do(claims=[claim(scope, window="total", amount=amount)]) for scope, amount in spent]
    open_ones = [await desk.reserve() for _ in range(3)]
    ledger, nobody = desk.ledger, msgspec.structs.replace(done[0].key, key="never-used")
    missing = msgspec.structs.replace(open_ones[0], operation="op-none")

    def asked():
        return (
            *(ledger.find(one.key, one.fingerprint) for one in done),
            ledger.find(nobody, b""),
            *(ledger.get(one.id, CALLER) for one in done),
            ledger.get("op-none", CALLER),
            *(ledger.stopped(one, ("all",)) for one in (*open_ones, missing)),
            *(ledger.tally(((scope, Unit.CALLS), ("nowhere", Unit.CALLS))) for scope, _ in spent),
            ledger.tally(()),
        )

    together = await asyncio.gather(*asked())
    assert together == [await one for one in asked()]
    found, got, stopped, sums = together[:5], together[5:10], together[10:14], together[14:]
    assert [*found, *got] == [*(Replay(operation=one) for one in done), None, *done, None]
    assert [None if one is None else one.kind for one in stopped] == [None, None, None, Kind.UNAVAILABLE]
    assert [[one.spent for one in told] for told in sums] == [[1, 0], [2, 0], [3, 0], [4, 0], []]


@pytest.mark.parametrize("awkward", ["a\x00b", "\x00", "'; --", "\\", '{"}', "x" * 100_000])
async def test_who_asks_for_what_cannot_be_there_harms_nobody(desk, awkward):
    reservation = await desk.reserve(claims=[claim(window="total")])
    strange = msgspec.structs.replace(reservation.key, key=awkward)
    told = await asyncio.gather(
        desk.ledger.stopped(reservation, ("all",)),
        desk.ledger.get(awkward, CALLER),
        desk.ledger.find(strange, b""),
        desk.ledger.tally((("agent:trader", Unit.CALLS),)),
    )
    assert told[:3] == [None, None, None]
    assert [one.held for one in told[3]] == [1]
