"""How one life of the gateway ends, and what else goes wrong in it: drawn from a seed."""

import random
from dataclasses import dataclass
from typing import Final

from relay import Moment, Strike

ORDER: Final = b"POST /v2/orders "
LOOKUP: Final = b"GET /v2/orders:by_client_order_id"
QUOTE: Final = b"GET /v2/stocks/"

COMMITS: Final = ("before", "after")
WIRE: Final = (*(f"order.{moment}" for moment in Moment), "lookup.sent", "lookup.accepted", "quote.sent")
DATABASE: Final = {
    "commit.asked": Moment.FIRST,
    "commit.done": Moment.ACCEPTED,
    "commit.told": Moment.REPLIED,
}
"""PostgreSQL's commits: not passed on, durable and not told, told."""

COMMIT: Final = b"Q\x00\x00\x00\x0bCOMMIT\x00"
"""The simple query, as PostgreSQL's protocol has it."""

OTHER: Final = ("any", "idle")

VENUE_FAULTS: Final[tuple[tuple[dict[str, object], ...], ...]] = (
    (),
    (),
    ({"kind": "reset_after_accept", "match": {"method": "POST", "path_prefix": "/v2/orders"}, "count": 2},),
    (
        {
            "kind": "status_after",
            "match": {"method": "POST", "path_prefix": "/v2/orders"},
            "count": 2,
            "status": 504,
        },
    ),
    (
        {
            "kind": "status_before",
            "match": {"method": "POST", "path_prefix": "/v2/orders"},
            "count": 1,
            "status": 503,
        },
    ),
    ({"kind": "latency", "match": {"path_prefix": "/v2/orders"}, "count": 3, "delay_ms": 40},),
    ({"kind": "duplicate_fill", "match": {"path_prefix": "/v2/orders"}, "count": 4},),
    (
        {"kind": "reset_after_accept", "match": {"method": "POST", "path_prefix": "/v2/orders"}, "count": 1},
        {
            "kind": "status_before",
            "match": {"method": "GET", "path_prefix": "/v2/orders:by"},
            "count": 2,
            "status": 503,
        },
    ),
)
"""Replies that are lost before or after the order was accepted, late answers, fills told twice, look-ups that fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One life."""

    number: int
    end: str
    """One of the classes above."""
    commit: str
    """`before:N` or `after:N`, for the ends of SQLite's class."""
    nth: int
    share: float
    after_s: float
    """For `any`: so long after the load began."""
    orders: int
    """New orders of this life, all at once."""
    venue: tuple[dict[str, object], ...]

    def database_strike(self) -> Strike | None:
        """What the relay before PostgreSQL waits for."""
        if self.end not in DATABASE:
            return None
        return Strike(prefix=COMMIT, moment=DATABASE[self.end], nth=self.nth - 1, share=0.0)

    def venue_strike(self) -> Strike | None:
        """What the relay before the venue waits for."""
        what, _, moment = self.end.partition(".")
        prefix = {"order": ORDER, "lookup": LOOKUP, "quote": QUOTE}.get(what)
        if prefix is None:
            return None
        return Strike(prefix=prefix, moment=Moment(moment), nth=self.nth, share=self.share)


def lives(seed: int, ledger: str, first: int, count: int) -> list[Life]:
    """The lives `first` to `first + count` of a campaign with this seed on this kind of ledger."""
    return [_life(random.Random(f"{seed}/{ledger}/{number}"), ledger, number) for number in range(first, first + count)]


def _life(chance: random.Random, ledger: str, number: int) -> Life:
    commits = COMMITS if ledger == "sqlite" else tuple(DATABASE)
    end = chance.choice((*commits, *commits, *commits, *WIRE, *OTHER))
    orders = chance.randrange(1, 6)
    # Commits are counted from the start of the process: its boot record is one, and each order has at most two.
    nth = chance.randrange(1, 2 + 2 * orders) if end in commits else chance.randrange(orders)
    return Life(
        number=number,
        end=end,
        commit=f"{end}:{nth}" if end in COMMITS else "",
        nth=nth,
        share=chance.random(),
        after_s=chance.random() * 0.06,
        orders=orders,
        venue=chance.choice(VENUE_FAULTS),
    )
