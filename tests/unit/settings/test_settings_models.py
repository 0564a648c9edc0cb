"""Models of the file: targets, dated prices, retries and breakers, taken whole or refused by name."""

import pytest
from example_file import TEXT, VARIABLES, changed, faults

from gateway.settings.amounts import prices
from gateway.settings.model_tables import RetryTable, TargetTable
from gateway.settings.reading import read_settings
from gateway.terms.models import dearest, valid_price

DAY_US = 86_400_000_000
SECOND_PRICE = '[[models.prices]]\nvalid_from = "2027-01-01"'


def models(folder, text=TEXT):
    path = folder / "gateway.toml"
    path.write_text(text)
    return {table.name: table for table in read_settings(path, VARIABLES).file.models}


def test_a_model_of_one_place_needs_no_more_than_its_name_its_price_and_its_bound(tmp_path):
    flash = models(tmp_path)["flash"]
    assert (flash.targets, flash.prices, flash.hold, flash.retry.attempts) == ([], [], "bound", None)
    (price,) = prices(TargetTable(name="flash"), flash)
    assert (price.valid_from, price.price.input, price.price.output) == ("", 300_000, 2_500_000)


def test_a_target_has_its_own_prices_or_its_models(tmp_path):
    pro = models(tmp_path)["pro"]
    bought, europe, lite = pro.targets
    assert prices(bought, pro) == prices(europe, pro)
    first, second = prices(bought, pro)
    assert (first.valid_from, first.price.input) == ("2026-01-01", 2_000_000)
    assert second.price.cached == 450_000
    assert second.from_unix_us - first.from_unix_us == 365 * DAY_US
    (own,) = prices(lite, pro)
    assert own.price.output == 2_500_000
    assert valid_price((first, second), first.from_unix_us - 1) is None
    assert valid_price((first, second), second.from_unix_us - 1) is first
    assert valid_price((first, second), second.from_unix_us) is second
    most = dearest(price.price for price in (first, second, own))
    assert (most.input, most.output, most.cached) == (2_000_000, 12_000_000, 2_000_000)


@pytest.mark.parametrize(
    "old, new, told",
    [
        ('valid_from = "2026-01-01"', 'valid_from = "2026-02-30"', "models.pro.prices#1.valid_from: '2026-02-30' will"),
        ('valid_from = "2026-01-01"', 'valid_from = "20260101"', "models.pro.prices#1.valid_from: '20260101' will not"),
        ('valid_from = "2026-01-01"', "valid_from = 2026-01-01", "models.pro.prices#1.valid_from: write a text in quo"),
        ('valid_from = "2026-01-01"', 'valid_from = "2027-01-01"', "models.pro.prices: write each day once, the earli"),
        ('valid_from = "2026-01-01"', 'valid_from = "2028-01-01"', "models.pro.prices: write each day once, the earli"),
        (
            'hold = "bound"',
            'hold = "bound"\ninput_usd_per_million = "1"\noutput_usd_per_million = "1"',
            "models.pro.prices: stand beside a price without a day",
        ),
        ('name = "europe"', 'name = "lite"', "models.pro.targets: the name: 'lite' stands twice"),
        ('name = "europe"', 'name = "Europe"', "models.pro.targets#2.name: 'Europe' will not do"),
        ('location = "europe-west1"', 'location = "../x"', "models.pro.targets.europe.location: '../x' will not do"),
        ("weight = 9", "weight = -1", "models.pro.targets.europe.weight: -1 will not do: write 0 to 1000"),
        ("order = 2", "order = 0", "models.pro.targets.europe.order: 0 will not do: write 1 to 100"),
        ('throughput = "shared"', 'throughput = "mine"', "models.pro.targets.europe.throughput: write one of 'any'"),
        (
            'throughput = "dedicated"',
            'throughput = "dedicated"\ntier = "flex"',
            "models.pro.targets.bought.tier: a dedicated target has none",
        ),
        (
            'input_usd_per_million = "0.30"\noutput_usd_per_million = "2.50"\n# Tok',
            "# Tok",
            "models.flash.input_usd_",
        ),
        ("attempts = 3", "attempts = 0", "models.pro.retry.attempts: 0 will not do: write 1 to 16"),
        ("budget_percent = 20", "budget_percent = 101", "models.pro.retry.budget_percent: 101 will not do: write 0 to"),
        ("wait_ms_max = 5000", "wait_ms_max = 60001", "models.pro.retry.wait_ms_max: 60001 will not do"),
        ("first_delta_ms = 0", "first_delta_ms = -1", "models.pro.retry.first_delta_ms: -1 will not do"),
        ("failures = 5", "failures = 0", "models.pro.breaker.failures: 0 will not do"),
        ("open_ms_max = 120000", "open_ms_max = 4999", "models.pro.breaker.open_ms_max: 4999 will not do: write 5000"),
        ('hold = "bound"', 'hold = "none"', "models.pro.hold: write one of 'bound', 'typical'"),
        (
            "first_delta_ms = 0",
            "hedge_after_ms = -1",
            "models.pro.retry.hedge_after_ms: -1 will not do: write 0 to 600000",
        ),
        (
            "first_delta_ms = 0",
            "first_delta_ms = 500\nhedge_after_ms = 500",
            "models.pro.retry.hedge_after_ms: the target is given up before: write less than first_delta_ms",
        ),
        ("first_delta_ms = 0", 'hedge_to = "any"', "models.pro.retry.hedge_to: write one of 'other', 'same'"),
        (
            "burst = 10",
            "burst = 0\nhedge_after_ms = 500",
            "models.pro.retry.burst: a hedge is paid like a retry: write 1 or more",
        ),
        (
            "first_delta_ms = 0",
            'hedge_to = "same"',
            "models.pro.retry.hedge_to: nothing is hedged: write hedge_after_ms too",
        ),
        (
            "first_delta_ms = 0",
            'hedge_after_ms = 500\nhedge_to = "same"',
            "models.pro.retry.hedge_to: there are other targets",
        ),
    ],
)
def test_a_fault_of_a_model_is_told_with_its_place(tmp_path, old, new, told):
    found = faults(tmp_path, changed(old, new))
    assert [fault for fault in found if fault.startswith(told)] != [], found


def test_a_hedge_of_a_model_of_one_target_must_be_wanted_there(tmp_path):
    hedged = changed(
        "\n# Which files it reads", "\n[models.retry]\nhedge_after_ms = 800\nSAME\n\n# Which files it reads"
    )
    assert [fault.split(": write")[0] for fault in faults(tmp_path, hedged.replace("SAME\n", ""))] == [
        "models.flash.retry.hedge_after_ms: there is no other target"
    ]
    flash = models(tmp_path, hedged.replace("SAME", 'hedge_to = "same"'))["flash"]
    assert (flash.retry.hedge_after_ms, flash.retry.hedge_to) == (800, "same")


def test_nothing_is_hedged_unless_the_file_says_so(tmp_path):
    assert {table.retry.hedge_after_ms for table in models(tmp_path).values()} == {0}
    assert RetryTable().hedge_after_ms == 0


def test_what_neither_the_model_nor_a_target_says_is_missed_of_every_target(tmp_path):
    before, prices_and_more = TEXT.split("# Prices with the days", 1)
    rest = prices_and_more[prices_and_more.index("[[models.targets]]") :]
    text = before.replace('upstream_id = "gemini-3.5-pro"\n', "") + rest
    assert [fault.split(":")[0] for fault in faults(tmp_path, text)] == [
        "models.pro.targets.bought.upstream_id",
        "models.pro.targets.bought.input_usd_per_million",
        "models.pro.targets.europe.upstream_id",
        "models.pro.targets.europe.input_usd_per_million",
    ]


def test_more_targets_than_anybody_needs_are_refused(tmp_path):
    more = "".join(f'[[models.targets]]\nname = "t{number}"\n' for number in range(17))
    text = TEXT.replace('[[models.targets]]\nname = "bought"', more + '[[models.targets]]\nname = "bought"')
    assert any(
        fault.startswith("models.pro.targets: there are 20: write at most 16") for fault in faults(tmp_path, text)
    )
