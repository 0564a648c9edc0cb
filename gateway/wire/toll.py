"""What a connection may ask for nothing: budgets for frames that cost the gateway work and carry none.

Rapid reset, PING, SETTINGS and empty-frame floods (attack rows 38 and 44 of the governance study) all spend more than
any honest client; the connection then ends with ENHANCE_YOUR_CALM (RFC 9113, 10.5).
"""

from typing import Final

from h2.exceptions import DenialOfServiceError
from hyperframe.frame import DataFrame, Frame, HeadersFrame

from gateway.terms.clock import Clock
from gateway.wire.config import WireConfig

TINY_DATA_BYTES: Final = 1_024
"""A DATA frame below this that does not end its stream counts as chatter: a body is not sent in crumbs."""

CHATTER_PER_CALL: Final = 8
"""What an answered call earns: window updates, PINGs that measure the line, a prefix sent on its own."""

CHATTER_PER_DATA_SENT: Final = 4
"""What a DATA frame of ours earns: its reader opens two windows for it and may measure the line."""

ECHOES_MAX: Final = 65_536
"""DATA frames of ours that can be under way: as many as the smallest messages in a usual window."""

_SECOND_NS: Final = 1_000_000_000


class Budget:
    """A bucket that starts full, refills with time and can be earned back; it never holds more than its burst."""

    __slots__ = ("_at_ns", "_burst", "_clock", "_left", "_per_s")

    def __init__(self, clock: Clock, burst: int, per_s: int) -> None:
        self._clock = clock
        self._burst = burst
        self._per_s = per_s
        self._left = burst
        self._at_ns = clock.monotonic_ns()

    def spend(self) -> bool:
        """Take one; False when there is none."""
        earned = (self._clock.monotonic_ns() - self._at_ns) * self._per_s // _SECOND_NS
        if earned:
            self._at_ns += earned * _SECOND_NS // self._per_s
            self.earn(earned)
        if not self._left:
            return False
        self._left -= 1
        return True

    def earn(self, amount: int) -> None:
        """Put back what honest work is worth."""
        # Without min: this is done for every frame that is sent.
        left = self._left + amount
        self._left = left if left < self._burst else self._burst  # noqa: FURB136 - as above


class Toll:
    """The budgets of one connection."""

    __slots__ = ("_chatter", "_echoes", "_resets")

    def __init__(self, clock: Clock, config: WireConfig) -> None:
        self._resets = Budget(clock, config.resets_burst, config.resets_per_s)
        self._chatter = Budget(clock, config.chatter_burst, config.chatter_per_s)
        self._echoes = 0

    def charge(self, frame: Frame) -> None:
        """Count a received frame before anything is done for it; raises `DenialOfServiceError`."""
        if isinstance(frame, HeadersFrame):
            return
        if isinstance(frame, DataFrame) and (len(frame.data) >= TINY_DATA_BYTES or "END_STREAM" in frame.flags):
            return
        self.charge_chatter()

    def charge_chatter(self) -> None:
        """Count a frame that carries no work; raises `DenialOfServiceError`."""
        if not self._chatter.spend():
            raise DenialOfServiceError("too many frames without work")

    def charge_reset(self) -> None:
        """Count a stream that was given up before it was answered; raises `DenialOfServiceError`."""
        if not self._resets.spend():
            raise DenialOfServiceError("too many streams given up")

    def charge_echo(self, frame: Frame) -> None:
        """Count the reset of a stream that is over. h2's clients send one for every DATA frame of ours that met it."""
        if self._echoes:
            self._echoes -= 1
        else:
            self.charge(frame)

    def call_answered(self) -> None:
        """A call went its whole way."""
        self._resets.earn(1)
        self._chatter.earn(CHATTER_PER_CALL)

    def data_sent(self) -> None:
        """A DATA frame of ours left."""
        if self._echoes < ECHOES_MAX:
            self._echoes += 1
        self._chatter.earn(CHATTER_PER_DATA_SENT)
