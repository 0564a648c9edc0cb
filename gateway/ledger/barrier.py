"""The control barrier: a step of time takes at most a part of what was left of a limit at its beginning.

With h = limit - what is held and spent, an order is admitted only if h afterwards is at least (1 - gamma) x h at the
beginning of the step: the way to the limit is geometric, however many orders come (governance study, section 5.3). What
adds nothing always passes, or the barrier would trap a losing position.

Agents who share a balance may have steps of different lengths. Each length has a row of its own, and whoever takes
something notes the beginning of every step that it is the first to come in: also of those that only others are bound
by.
"""

from typing import Final, NamedTuple

from gateway.ledger.book import Book
from gateway.ledger.tables import BARRIERS, Row
from gateway.terms.clock import CLOCKS_APART_US
from gateway.terms.money import Unit
from gateway.terms.operations import Claim

WHOLE_BPS: Final = 10_000

_NAMES: Final = {unit: unit.value for unit in Unit}
"""`value` is a property in Python, and an order asks for it thirty times."""


class Step(NamedTuple):
    """One length of steps that a claim comes in."""

    window_ms: int
    key: Row
    """Of the row that has the step's beginning."""


def steps(claim: Claim) -> tuple[Step, ...]:
    """All steps that the claim comes in; none for what adds nothing: it neither needs nor makes room."""
    if claim.amount == 0 or (claim.barrier is None and not claim.steps_ms):
        return ()
    own = () if claim.barrier is None else (claim.barrier.window_ms,)
    return tuple(Step(window_ms, _key(claim, window_ms)) for window_ms in sorted({*own, *claim.steps_ms}))


def begin(book: Book, steps: tuple[Step, ...], taken: int, now_unix_us: int) -> None:
    """Note what was `taken` of the limit before the claim of these steps, for each that nothing came in yet."""
    for step in steps:
        if _baseline(book, step, now_unix_us) is None:
            book.put(BARRIERS, step.key, (_began(step.window_ms, now_unix_us), taken))


def most(book: Book, claim: Claim, taken: int, now_unix_us: int) -> int | None:
    """What this claim may take in the present step, with `taken` of its limit now; None if no barrier is before it."""
    if claim.barrier is None or claim.amount == 0:
        return None
    window_ms = claim.barrier.window_ms
    begun = _baseline(book, Step(window_ms, _key(claim, window_ms)), now_unix_us)
    taken_then = taken if begun is None else begun
    # h_next x 10,000 >= (10,000 - gamma) x h_then, solved for the amount and rounded down.
    floor = -(-(WHOLE_BPS - claim.barrier.gamma_bps) * (claim.limit - taken_then) // WHOLE_BPS)
    return max(0, claim.limit - taken - max(0, floor))


def place(claim: Claim) -> Row:
    """The key of the claim's balance."""
    return claim.scope, _NAMES[claim.unit], claim.window


def _key(claim: Claim, window_ms: int) -> Row:
    """The first version had no length in its key; its rows are not read, for nothing tells whose steps they were."""
    return claim.scope, _NAMES[claim.unit], f"{claim.window}/{window_ms}ms"


def _began(window_ms: int, now_unix_us: int) -> int:
    return now_unix_us - now_unix_us % (window_ms * 1_000)


def _baseline(book: Book, step: Step, now_unix_us: int) -> int | None:
    """What was taken when the present step began; None if nothing came in it yet.

    A clock that is behind another gateway's goes on with the step that the other one began. One that lies further
    ahead than a step and what clocks are apart was begun by a clock that was wrong, and would last until then.
    """
    row = book.get(BARRIERS, step.key)
    if row is None or not isinstance(row[0], int) or not isinstance(row[1], int):
        return None
    latest = now_unix_us + step.window_ms * 1_000 + CLOCKS_APART_US
    return row[1] if _began(step.window_ms, now_unix_us) <= row[0] <= latest else None
