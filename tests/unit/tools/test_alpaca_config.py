"""A configuration that cannot be right is refused at once."""

import pytest
from toolcases import config


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"trading_url": "http://paper-api.alpaca.markets"}, "trading_url must begin with https://"),
        ({"data_url": "ftp://127.0.0.1"}, "data_url must begin with https://"),
        ({"trading_url": "https://user:password@example.com"}, "trading_url must be a scheme and a host"),
        ({"trading_url": "https://example.com/v2"}, "without a path"),
        ({"trading_url": "https://"}, "trading_url"),
        ({"name": "Paper\n"}, "name must match"),
        ({"account": "a/b"}, "account must match"),
        ({"key_id": ""}, "key_id must match"),
        ({"secret_key": "a\r\nb"}, "secret_key must match"),
        ({"feed": "&x=1"}, "feed must be empty"),
        ({"client_order_key": b"short"}, "client_order_key must have at least 32 bytes"),
        ({"timeout_ms": 0}, "above zero"),
    ],
)
def test_what_cannot_be_right_is_refused(changed, told):
    with pytest.raises(ValueError, match=told):
        config("http://127.0.0.1:1", **changed)


@pytest.mark.parametrize("url", ["https://api.example.com", "http://127.0.0.1:8080", "http://[::1]:8080/"])
def test_tls_anywhere_and_plain_http_on_this_machine(url):
    assert config(url).trading_url == url


def test_secrets_are_not_shown():
    shown = repr(config("http://127.0.0.1:1"))
    assert "KEY-ID" not in shown
    assert "SECRET-KEY" not in shown
    assert "kkkk" not in shown
