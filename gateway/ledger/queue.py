"""A bounded queue of orders that one task takes in batches: everything that waits at the moment, together."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from gateway.terms.faults import LedgerUnavailableError

Ordered = TypeVar("Ordered")

BATCH_MAX: Final = 128
"""Orders in one batch: enough to share a commit widely, few enough that none waits long for the others."""

WAITING_MAX: Final = 4_096
"""Orders that wait at once; more than the calls that a gateway runs."""

PATIENCE_S: Final = 5.0
"""How long an order waits for its answer."""


@dataclass(eq=False, slots=True)
class Order(Generic[Ordered]):
    """What was ordered, and who waits for it."""

    ordered: Ordered
    future: asyncio.Future[object]
    given_up: bool = False
    """Its patience ended before it was begun, and its caller was told so: it must not happen any more."""

    def answer(self, value: object) -> None:
        """Give it to who waits, if anybody still does."""
        if not self.future.done():
            self.future.set_result(value)

    def fail(self, error: Exception) -> None:
        """Raise it where somebody waits."""
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(slots=True)
class Queue(Generic[Ordered]):
    """`ask` is for callers, `batch` for the one task that answers."""

    late: Callable[[], str]
    """Says why an order got no answer in time."""
    patience_s: float = PATIENCE_S
    _waiting: deque[Order[Ordered]] = field(default_factory=deque)
    _asked: asyncio.Event = field(default_factory=asyncio.Event)
    _count: int = 0
    _closed: bool = False

    async def ask(self, ordered: Ordered) -> object:
        """Wait for the answer. Raises `LedgerUnavailableError` when too many wait, or none comes in time."""
        if self._closed:
            raise LedgerUnavailableError("the ledger is not open: it is closing")
        if self._count >= WAITING_MAX:
            raise LedgerUnavailableError(f"{WAITING_MAX} orders wait for the ledger already: send calls more slowly")
        order = Order(ordered, asyncio.get_running_loop().create_future())
        self._waiting.append(order)
        self._asked.set()
        self._count += 1
        try:
            async with asyncio.timeout(self.patience_s):
                return await order.future
        except TimeoutError:
            order.given_up = True
            raise LedgerUnavailableError(self.late()) from None
        finally:
            self._count -= 1

    async def batch(self) -> list[Order[Ordered]]:
        """Wait for orders and take those that are there; none once it is closed and empty."""
        while True:
            taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_MAX))]
            asked = [order for order in taken if not order.given_up]
            if asked or self._closed:
                return asked
            if not taken:
                self._asked.clear()
                await self._asked.wait()

    def close(self) -> None:
        """Take no more; what waits is still answered."""
        self._closed = True
        self._asked.set()
