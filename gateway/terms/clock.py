"""Time, names and chance as arguments, and their real implementations: the only place that touches the machine's."""

import asyncio
import secrets
import time
from typing import Final, Protocol

CLOCKS_APART_US: Final = 5_000_000
"""How far the clocks of two instances, or of one before and after a correction, may be apart. What is written further
ahead of now was written by a clock that was wrong, and binds nobody."""


class Clock(Protocol):
    """What time it is."""

    def unix_us(self) -> int:
        """Microseconds since 1970-01-01T00:00:00Z; may jump."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds on a scale that never goes back; for deadlines and durations."""
        ...


class ProcessorClock(Protocol):
    """How much processor time was used. Read where a gateway is measured, and nowhere else."""

    def thread_ns(self) -> int:
        """Nanoseconds of processor time, in user and system mode, that the calling thread has used."""
        ...

    def process_ns(self) -> int:
        """Nanoseconds that all threads of this process have used."""
        ...


class IdSource(Protocol):
    """Gives names that nobody can guess and nobody gave before."""

    def new(self, prefix: str) -> str:
        """A name such as `op-3f9k...`: the prefix, a dash, 26 characters of lower-case base32."""
        ...


class Chance(Protocol):
    """Draws numbers."""

    def below(self, bound: int) -> int:
        """A whole number from 0 to `bound` - 1, each as likely; `bound` is at least 1."""
        ...


class Sleep(Protocol):
    """Waits."""

    async def __call__(self, seconds: float, /) -> None:
        """Return after about so many seconds."""
        ...


class SystemClock:
    """The machine's clock."""

    def unix_us(self) -> int:
        """See `Clock`."""
        return time.time_ns() // 1000  # noqa: TID251 - the one reader of the machine's clock

    def monotonic_ns(self) -> int:
        """See `Clock`."""
        return time.monotonic_ns()


class SystemProcessorClock:
    """The system's count of this process."""

    def thread_ns(self) -> int:
        """See `ProcessorClock`."""
        return time.thread_time_ns()

    def process_ns(self) -> int:
        """See `ProcessorClock`."""
        return time.process_time_ns()


_LETTERS = b"abcdefghijklmnopqrstuvwxyz234567" * 8
"""A letter for each value of a byte, each letter for as many: of a random byte, five bits are taken."""


class SystemIds:
    """Names from the machine's randomness: 130 bits each."""

    def new(self, prefix: str) -> str:
        """See `IdSource`."""
        return prefix + "-" + secrets.token_bytes(26).translate(_LETTERS).decode("ascii")


class SystemChance:
    """Numbers from the machine's randomness."""

    def below(self, bound: int) -> int:
        """See `Chance`."""
        return secrets.randbelow(bound)


async def system_sleep(seconds: float, /) -> None:
    """See `Sleep`."""
    await asyncio.sleep(seconds)
