"""A ccxt account becomes a backend where the library is, and keeps the gateway from starting where it is not."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from made_settings import ROOT, VARIABLES, made

from gateway.assembly.parts import parts_of, policy_inputs
from gateway.settings.faults import SettingsError
from gateway.settings.reading import read_settings
from gateway.tools.ccxt_config import library_fault

TABLE = """
[[ccxt_venues]]
name = "coins"
exchange = "binance"
mode = "sandbox"
symbols = ["BTC/USD"]
account = "coins"
key_id = "env:EXCHANGE_KEY_ID"
secret_key = "env:EXCHANGE_SECRET_KEY"
order_key = "env:EXCHANGE_ORDER_KEY"
"""
GRANTED = '"get_clock", '


def written(folder):
    """The example, with this account in the place of its venue."""
    made(folder)
    path = folder / "gateway.toml"
    text = path.read_text()
    venue = text[text.index("[[venues]]") : text.index("# Instead: a spot account")]
    assert GRANTED in text
    path.write_text(text.replace(venue, TABLE).replace(GRANTED, ""))
    return path


@pytest.mark.skipif(bool(library_fault()), reason=library_fault() or "ccxt is installed")
def test_the_account_offers_its_tools(tmp_path):
    read = read_settings(written(tmp_path), VARIABLES)
    parts = parts_of(read)
    names = {tool.name for tool in parts.toolbox.declarations}
    assert names == {
        "place_order",
        "cancel_order",
        "get_order",
        "list_orders",
        "list_positions",
        "get_account",
        "get_quote",
    }
    assert "very-secret-value" not in repr(parts.services[0]._config)
    assert policy_inputs(read.file, read.base).tools == parts.toolbox.declarations


@pytest.mark.skipif(not library_fault(), reason="ccxt is installed")
def test_without_the_library_the_start_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"ccxt_venues\.coins cannot be used:\n  ccxt is not installed"):
        parts_of(read_settings(written(tmp_path), VARIABLES))


def test_a_machine_without_the_library_is_told_what_to_install(tmp_path):
    """A process of its own, whose packages are this one's but for ccxt."""
    packages = tmp_path / "packages"
    packages.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(("ccxt", "__editable__")):
            (packages / entry.name).symlink_to(entry)
    environment = {**os.environ, **VARIABLES, "PYTHONPATH": f"{packages}{os.pathsep}{ROOT}"}
    told = subprocess.run(
        [sys.executable, "-S", "-m", "gateway", "check", str(written(tmp_path))],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert told.returncode == 2, told.stderr
    assert 'ccxt is not installed: install the extra, as in: pip install "agentic-gateway[ccxt]"' in told.stderr
    assert "Traceback" not in told.stderr
