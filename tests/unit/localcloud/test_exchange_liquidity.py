"""The market maker's prices: the same seed gives the same market, near its reference price, whoever looks when."""

import itertools

import pytest

from localcloud.exchange.book import Side
from localcloud.exchange.instruments import US_EQUITIES, Instrument, decimal_text
from localcloud.exchange.liquidity import Liquidity, fair_ticks, ladder

APPLE = US_EQUITIES[0]
LIQUIDITY = Liquidity()


def test_the_market_opens_at_the_reference_price():
    assert fair_ticks(APPLE, LIQUIDITY, 7, 0) == APPLE.reference_ticks


def test_a_seed_decides_the_whole_path_and_another_seed_another():
    path = [fair_ticks(APPLE, LIQUIDITY, 7, step) for step in range(500)]
    assert path == [fair_ticks(APPLE, LIQUIDITY, 7, step) for step in range(500)]
    assert path != [fair_ticks(APPLE, LIQUIDITY, 8, step) for step in range(500)]
    assert len(set(path)) > 10


def test_the_price_stays_within_its_drift_and_moves_in_small_steps():
    path = [fair_ticks(APPLE, LIQUIDITY, 3, step) for step in range(2_000)]
    assert max(abs(ticks - APPLE.reference_ticks) for ticks in path) <= LIQUIDITY.drift_ticks
    assert max(abs(after - before) for before, after in itertools.pairwise(path)) <= 3


def test_a_ladder_is_uncrossed_with_positive_prices_and_sizes():
    penny = Instrument(symbol="P", name="", reference_ticks=1)
    for instrument in (APPLE, penny):
        levels = ladder(instrument, LIQUIDITY, 1, 99)
        bids = [level.ticks for level in levels if level.side is Side.BUY]
        asks = [level.ticks for level in levels if level.side is Side.SELL]
        assert min(bids) > 0
        assert max(bids) < min(asks)
        assert all(level.lots > 0 for level in levels)


@pytest.mark.parametrize("broken", [{"levels": 0}, {"lots": 0}, {"drift_ticks": -1}, {"interval_us": 0}])
def test_a_ladder_that_cannot_be_drawn_is_refused(broken):
    with pytest.raises(ValueError, match="at least one level"):
        Liquidity(**broken)


@pytest.mark.parametrize(
    "micros, text",
    [(0, "0"), (1, "0.000001"), (1_500_000, "1.5"), (-10_000, "-0.01"), (-3_000_000, "-3"), (100_000_000, "100")],
)
def test_money_as_text(micros, text):
    assert decimal_text(micros) == text
