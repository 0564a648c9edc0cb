"""A configuration whose world is not there: every address is one where nobody listens."""

from pathlib import Path

from gateway.settings.reading import read_settings

ROOT = Path(__file__).resolve().parents[3]
NOBODY = "127.0.0.1:9"
VARIABLES = {
    "EXCHANGE_KEY_ID": "PK0123456789",
    "EXCHANGE_SECRET_KEY": "very-secret-value",
    "EXCHANGE_ORDER_KEY": "k" * 32,
    "GCE_METADATA_HOST": NOBODY,
    "GATEWAY_HOST": "127.0.0.1",
    "PORT": "0",
}


def made(folder, **replaced):
    """The example with its ledger in the folder; `replaced` are parts of its text and what stands there instead."""
    text = (ROOT / "docs" / "gateway.example.toml").read_text()
    text = text.replace('path = "../policies"', f'path = "{ROOT / "policies"}"')
    text = text.replace("# certs_url", f'certs_url = "http://{NOBODY}/certs"\n#')
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    path = folder / "gateway.toml"
    path.write_text(text)
    return read_settings(path, VARIABLES)
