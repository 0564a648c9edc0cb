"""The table of a ccxt account: the documented one is good, and every fault says what to write."""

import pytest
from example_file import TEXT, VARIABLES, faults

from gateway.settings.reading import read_settings

SECRETS = {"COINS_KEY_ID": "coins-key", "COINS_SECRET_KEY": "coins-secret", "COINS_ORDER_KEY": "o" * 32}
BEGIN, END = TEXT.index("# [[ccxt_venues]]"), TEXT.index("# An HTTP service, whose")
ALPACA, ACCEPTANCE = TEXT.index("[[venues]]"), TEXT.index("# Instead: a spot account")


def uncommented(old="", new=""):
    """The example with the ccxt account in the place of the other venue."""
    block = "\n".join(line.removeprefix("# ") for line in TEXT[BEGIN:END].splitlines())
    assert old in block
    return TEXT[:ALPACA] + block.replace(old, new) + "\n" + TEXT[END:]


def test_the_documented_account_is_good(tmp_path):
    assert faults(tmp_path, uncommented(), **SECRETS) == []
    (table,) = read_settings(tmp_path / "gateway.toml", VARIABLES | SECRETS).file.ccxt_venues
    assert (table.exchange, table.mode, table.url) == ("binance", "sandbox", "")


@pytest.mark.parametrize(
    "old, new, told",
    [
        ('"binance"', '"kraken"', "'kraken' was not verified to find orders by our own order id"),
        ('"binance"', '"binanceus"', 'binanceus has no test exchange: write "live"'),
        ('mode = "sandbox"', "", "mode"),
        ('mode = "sandbox"', 'mode = "testing"', "mode"),
        ('["BTC/USDT", "ETH/USDT"]', "[]", "write 1 to 64 of them"),
        ('["BTC/USDT", "ETH/USDT"]', '["BTC/USDT", "BTC/USDT"]', "each once"),
        ('["BTC/USDT", "ETH/USDT"]', '["BTCUSDT"]', "write one such as BTC/USD"),
        ('["BTC/USDT", "ETH/USDT"]', '["BTC/USDT:USDT"]', "write one such as BTC/USD"),
        ('["BTC/USDT", "ETH/USDT"]', '["ETH/BTC"]', "ETH/BTC is priced in BTC, and limits count US dollars"),
        ('counted_as_usd = ["USDT"]', "", "BTC/USDT is priced in USDT"),
        ('counted_as_usd = ["USDT"]', 'counted_as_usd = ["$"]', "is no currency"),
        ('account = "coins"', 'account = "a b"', "account"),
        ('account = "coins"', 'account = "coins"\nurl = "http://example.com"', "url"),
        ('account = "coins"', 'account = "coins"\nnetworks = ["0.0.0.0/0"]', "networks"),
        ("acceptance_s = 30", "acceptance_s = 9", "acceptance_s"),
        ('"env:COINS_KEY_ID"', '"plain-key"', "key_id"),
        ('"env:COINS_ORDER_KEY"', '"env:COINS_KEY_ID"', "at least 32 characters"),
    ],
)
def test_every_fault_says_what_to_write(tmp_path, old, new, told):
    found = faults(tmp_path, uncommented(old, new), **SECRETS)
    assert any(told in fault for fault in found), found


def test_it_stands_in_the_place_of_the_other_venue_and_not_beside_it(tmp_path):
    both = TEXT[:ALPACA] + TEXT[ALPACA:ACCEPTANCE] + uncommented()[ALPACA:]
    (fault,) = faults(tmp_path, both, **SECRETS)
    assert "venues and ccxt_venues: there are 2" in fault
