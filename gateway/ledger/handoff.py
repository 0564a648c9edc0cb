"""How the event loop lets the writer's thread run: it lends it the interpreter while it waits for a commit.

Two threads of one interpreter share one lock. A loop that is always busy gives the lock up only for the microsecond of
an empty poll, and a thread that waits for it wakes too late every time: measured on CPython 3.11, commits beside a loop
with a callback of 100 us always ready took 3 s and more, and smaller values of `sys.setswitchinterval` only made it a
lottery. So the loop blocks for moments in which only the writer can run: from the order until the writer is at its
commit (the statements need the lock about twenty times, the sync to disk does not), and then, should the answer not
come by itself as it does to an idle loop, briefly and ever more rarely until it has come. With this the same commits
took 0.8 ms.
"""

import asyncio
from queue import Empty, SimpleQueue
from typing import Final

LEND_S: Final = 0.001
"""The longest that the loop blocks before it looks at its other work again."""

ANSWER_LEND_S: Final = 0.0001
"""Enough for a thread to wake up and to say that it is done."""

FIRST_PAUSE_S: Final = 0.0002
LAST_PAUSE_S: Final = 0.05
"""Between two such moments during a sync: from a good disk's time to a hundredth of a slow answer's."""


class Handoff:
    """Counts batches. In each, the thread reaches two milestones: its statements are done; its commit is done."""

    __slots__ = ("_answered", "_batch", "_loop", "_milestones", "_pause_s", "_reached", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._milestones: SimpleQueue[int] = SimpleQueue()
        self._batch = 0
        self._answered = 0
        self._reached = 0
        self._pause_s = FIRST_PAUSE_S
        self._timer: asyncio.Handle | None = None

    def statements_done(self) -> None:
        """Told by the thread before its commit."""
        self._batch += 1
        self._milestones.put(2 * self._batch - 1)

    def commit_done(self) -> None:
        """Told by the thread after its commit, before it sends the answers."""
        self._milestones.put(2 * self._batch)

    def begin(self) -> None:
        """Told by the loop when orders were handed over: lend, unless it does already."""
        if self._timer is None:
            self._lend_for_statements()

    def answered(self, *, more: bool) -> None:
        """Told by the loop when a batch's answers have come, and whether other orders wait."""
        self._answered += 1
        self.rest()
        if more:
            self._timer = self._loop.call_soon(self._lend_for_statements)

    def rest(self) -> None:
        """Lend no more until the next `begin`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _lend_for_statements(self) -> None:
        if self._reaches(2 * self._answered + 1, LEND_S):
            self._pause_s = FIRST_PAUSE_S
            self._timer = self._loop.call_later(self._pause_s, self._lend_for_answer)
        else:
            self._timer = self._loop.call_soon(self._lend_for_statements)

    def _lend_for_answer(self) -> None:
        if self._reaches(2 * self._answered + 2, ANSWER_LEND_S):
            self._timer = self._loop.call_later(LAST_PAUSE_S, self._lend_for_answer)  # its answers are under way
        else:
            self._pause_s = min(2 * self._pause_s, LAST_PAUSE_S)
            self._timer = self._loop.call_later(self._pause_s, self._lend_for_answer)

    def _reaches(self, milestone: int, patience_s: float) -> bool:
        """Block until the thread is there, at most so many seconds. Milestones of answered batches are skipped."""
        try:
            while self._reached < milestone:
                self._reached = self._milestones.get(timeout=patience_s)
        except Empty:
            return False
        return True
