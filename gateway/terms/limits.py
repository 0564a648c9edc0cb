"""The bounds of the system, each with its reason, and the limits an operator gives an agent for orders."""

from dataclasses import dataclass
from typing import Final

from gateway.terms.money import MicroUsd, NanoUnits

MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024
"""One received message; gRPC's own usual default. grpclib has no limit (256 MiB were accepted, measured)."""

ARGUMENTS_BYTES_MAX: Final = 64 * 1024
"""The arguments of one tool call: far above any real one, far below what costs."""

SCHEMA_BYTES_MAX: Final = 64 * 1024
CONTENTS_MAX: Final = 2_000
FUNCTIONS_MAX: Final = 128
FILES_MAX: Final = 64
"""Images and documents of one prompt; providers take between 50 and 3,000."""


TOKEN_BYTES_MAX: Final = 8 * 1024
"""An ID token; Google's are about 1 kB."""

CALLS_RUNNING_MAX: Final = 1_000
"""Calls that a gateway runs at once; Cloud Run's own maximum for one instance."""

RESULT_BYTES_MAX: Final = 1024 * 1024
"""What a tool's service may answer."""

COMMIT_RESERVE_S: Final = 0.02
"""What the two durable commits of a call may take; a call with less time left is refused before it spends."""

UPSTREAM_RESERVE_S: Final = 0.03
"""Less than this no remote service can be expected to need."""

LEASE_MARGIN_MS: Final = 30_000
"""How much longer than its tool's timeout an operation may run before it counts as lost."""

CHAT_LEASE_MS: Final = 3_600_000
"""Cloud Run ends every request after an hour at the latest."""

STREAM_S_MAX: Final = 3_300
"""A model stream must end, and be settled, before its operation counts as lost (`CHAT_LEASE_MS`)."""

STREAM_IDLE_S: Final = 120
"""No event for so long ends a model stream, unless its operator says otherwise: thinking models may be silent for a
minute."""

DRAIN_S: Final = 8.0
"""Cloud Run gives 10 s from SIGTERM to SIGKILL; the rest is for the last records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scopes:
    """A limit in three scopes; None where a scope has none."""

    agent: int | None = None
    """Of the agent alone."""
    account: int | None = None
    """Of the account at the venue, over all agents."""
    firm: int | None = None
    """Of the tenant, over all accounts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRate:
    """How fast an agent may send messages to one venue: new orders, changes and cancels (RTS 6 Art. 15(1)(d))."""

    per_minute: int
    burst: int
    """How many may come at once after a quiet time."""
    cancel_reserve: int
    """So many more only cancels may take: whatever else was sent, an open order can be taken back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatLimit:
    """After so many executions of the same strategy the agent's tool is latched (RTS 6 Art. 15(3))."""

    executions: int
    window_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BarrierLimit:
    """One window may take at most this part of what was left of an exposure at its beginning."""

    gamma_bps: int
    """In hundredths of a per cent, 1 to 10,000."""
    window_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedWindows:
    """What the profiles of a gateway must know of each other, because their agents may share accounts."""

    duplicates_ms: int = 0
    """The longest duplicate window of any profile: so long an order must be seen by others."""
    barriers_ms: tuple[int, ...] = ()
    """The windows of all barriers: what anyone takes counts in their steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitProfile:
    """What one agent may order (SEC 15c3-5 (c)(1), RTS 6 Art. 15; governance study, table 5.3).

    What has a default is not limited without a value; `[limits.NAME]` of the configuration gives each one.
    """

    name: str
    quantity_max: NanoUnits
    """Of one order."""
    notional_max: MicroUsd
    """Of one order, at its limit price or the reference price, whichever is higher."""
    collar_bps: int
    """How far from the reference price a limit price may be, in hundredths of a per cent."""
    reference_age_ms_max: int
    """An older reference price is no reference."""
    exposure_max: MicroUsd
    """Of the account: what its open positions cost, and every open or unknown order."""
    agent_exposure_max: MicroUsd | None = None
    """Of this agent's own orders; None: as the account's."""
    firm_exposure_max: MicroUsd | None = None
    """Of the tenant, over all its accounts; None: as the account's."""
    position_max: Scopes = Scopes()
    """Of one symbol, in `NanoUnits`, long or short, with every open or unknown order: the worse of the two ways."""
    duplicate_window_ms: int = 0
    """For so long the account takes no second order with the same symbol, side, price and quantity."""
    messages: MessageRate | None = None
    repeats: RepeatLimit | None = None
    barrier: BarrierLimit | None = None
    short_sales: bool = False
    """Whether this agent may sell what its account does not hold. What it sells short is exposure like a purchase."""
    restricted: frozenset[str] = frozenset()
    """Symbols that are never traded, in either direction, by this agent or by anyone of its tenant."""
    shared: SharedWindows = SharedWindows()
