"""The amounts of the file as the gateway counts them."""

from dataclasses import replace
from zoneinfo import ZoneInfo

import msgspec
import pytest
from example_file import TEXT

from gateway.settings.amounts import budget, limit_profile, limit_profiles
from gateway.settings.file import BudgetTable, File
from gateway.settings.limit_tables import FirmTable, LimitTable
from gateway.terms.limits import BarrierLimit, LimitProfile, MessageRate, RepeatLimit, Scopes, SharedWindows
from gateway.terms.money import MICRO, NANO

LEAST = LimitTable(
    quantity_max="1", notional_usd_max="10", collar_bps=100, reference_age_ms_max=1_000, exposure_usd_max="20"
)


def test_the_example_is_read_whole():
    file = msgspec.toml.decode(TEXT, type=File)
    assert limit_profile("desk", file.limits["desk"], file.firm) == LimitProfile(
        name="desk",
        quantity_max=100 * NANO,
        notional_max=10_000 * MICRO,
        collar_bps=500,
        reference_age_ms_max=5_000,
        exposure_max=50_000 * MICRO,
        agent_exposure_max=20_000 * MICRO,
        firm_exposure_max=80_000 * MICRO,
        position_max=Scopes(agent=200 * NANO, account=500 * NANO, firm=1_000 * NANO),
        duplicate_window_ms=1_000,
        messages=MessageRate(per_minute=120, burst=30, cancel_reserve=30),
        repeats=RepeatLimit(executions=100, window_ms=60_000),
        barrier=BarrierLimit(gamma_bps=5_000, window_ms=60_000),
        restricted=frozenset({"GME", "GOOG", "GOOGL"}),
    )


def test_the_example_says_what_is_in_force_without_it():
    """Whoever leaves the guards out has them all the same."""
    example = msgspec.toml.decode(TEXT, type=File).limits["desk"]
    guards = (
        "short_sales",
        "duplicate_window_ms",
        "messages_per_minute",
        "message_burst",
        "cancel_reserve",
        "repeats_max",
    )
    for field in (*guards, "repeats_window_ms", "barrier_gamma_bps", "barrier_window_ms"):
        assert getattr(example, field) == getattr(LEAST, field)


def test_only_a_written_word_turns_a_guard_off():
    profile = limit_profile("p", LEAST, FirmTable())
    assert profile.messages is not None
    assert profile.repeats is not None
    assert profile.barrier is not None
    assert profile.duplicate_window_ms > 0
    assert not profile.short_sales
    assert limit_profile("p", msgspec.structs.replace(LEAST, short_sales=True), FirmTable()).short_sales
    off = msgspec.structs.replace(LEAST, repeats_max=0, barrier_gamma_bps=10_000, duplicate_window_ms=0)
    profile = limit_profile("p", off, FirmTable())
    assert (profile.repeats, profile.barrier, profile.duplicate_window_ms) == (None, None, 0)


def test_profiles_know_the_windows_of_each_other():
    """Their agents may share an account: each is seen for as long as the other looks back, and in the other's steps."""
    quick = msgspec.structs.replace(LEAST, duplicate_window_ms=0, barrier_window_ms=5_000)
    free = msgspec.structs.replace(LEAST, barrier_gamma_bps=10_000, barrier_window_ms=7_000)
    profiles = limit_profiles({"least": LEAST, "quick": quick, "free": free}, FirmTable())
    assert [replace(one, shared=SharedWindows()) for one in profiles.values()] == [
        limit_profile(name, table, FirmTable()) for name, table in (("least", LEAST), ("quick", quick), ("free", free))
    ]
    assert {one.shared for one in profiles.values()} == {
        SharedWindows(duplicates_ms=1_000, barriers_ms=(5_000, 60_000))
    }
    assert limit_profiles({}, FirmTable()) == {}


def test_the_restricted_lists_of_firm_and_profile_are_added():
    listed = msgspec.structs.replace(LEAST, restricted=["A"])
    assert limit_profile("p", listed, FirmTable(restricted=["B"])).restricted == {"A", "B"}


@pytest.mark.parametrize("name, zone", [("UTC", "UTC"), ("Europe/Berlin", str(ZoneInfo("Europe/Berlin")))])
def test_a_budget_has_its_time_zone(name, zone):
    table = BudgetTable(scope="run", unit="calls", window="day", amount="1", time_zone=name)
    assert str(budget(table).zone) == zone
