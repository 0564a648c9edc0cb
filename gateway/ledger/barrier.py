"""The control barrier: a step of time takes at most a part of what was left of a limit at its beginning.

With h = limit - what is held and spent, an order is admitted only if h afterwards is at least (1 - gamma) x h at the
beginning of the step: the way to the limit is geometric, however many orders come (governance study, section 5.3). What
adds nothing always passes, or the barrier would trap a losing position.
"""

from typing import Final

from gateway.ledger.book import Book
from gateway.ledger.tables import BARRIERS, Row
from gateway.terms.operations import Claim

WHOLE_BPS: Final = 10_000


def baseline(book: Book, claim: Claim, taken: int, now_unix_us: int) -> tuple[int, int]:
    """When the present step began, and what was taken of the limit then: `taken`, if nothing came in it yet.

    A clock that is behind another gateway's goes on with the step that the other one began.
    """
    if claim.barrier is None:
        raise ValueError("a claim without a barrier has no steps")
    began = now_unix_us - now_unix_us % (claim.barrier.window_ms * 1_000)
    row = book.get(BARRIERS, place(claim))
    if row is not None and isinstance(row[0], int) and isinstance(row[1], int) and row[0] >= began:
        return row[0], row[1]
    return began, taken


def most(book: Book, claim: Claim, taken: int, now_unix_us: int) -> int | None:
    """What this claim may take in the present step, with `taken` of its limit now; None if no barrier is before it."""
    if claim.barrier is None or claim.amount == 0:
        return None
    _, taken_then = baseline(book, claim, taken, now_unix_us)
    # h_next x 10,000 >= (10,000 - gamma) x h_then, solved for the amount and rounded down.
    floor = -(-(WHOLE_BPS - claim.barrier.gamma_bps) * (claim.limit - taken_then) // WHOLE_BPS)
    return max(0, claim.limit - taken - max(0, floor))


def place(claim: Claim) -> Row:
    """The key of the claim's balance, and of its barrier."""
    return claim.scope, claim.unit.value, claim.window
