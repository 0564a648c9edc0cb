"""The shipped example as the file that every test changes in one place."""

import tomllib
from pathlib import Path

from gateway.settings.faults import SettingsError
from gateway.settings.reading import read_settings

EXAMPLE = Path(__file__).resolve().parents[3] / "docs" / "gateway.example.toml"
TEXT = EXAMPLE.read_text()
VARIABLES = {
    "EXCHANGE_KEY_ID": "PK0123456789",
    "EXCHANGE_SECRET_KEY": "very-secret-value",
    "EXCHANGE_ORDER_KEY": "k" * 32,
}


def example():
    """The example as raw tables, to be changed."""
    return tomllib.loads(TEXT)


def changed(old, new, *, count=1):
    """The example's text with one part replaced; the part must be there."""
    assert TEXT.count(old) >= 1, old
    return TEXT.replace(old, new, count)


def faults(folder, text, **variables):
    """Everything that is said about a file; nothing when it is accepted."""
    path = folder / "gateway.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        read_settings(path, VARIABLES | variables)
    except SettingsError as error:
        refused = error
    else:
        return []
    assert refused.source == str(path)
    assert str(refused).startswith(f"{path} cannot be used:\n  ")
    return list(refused.faults)
