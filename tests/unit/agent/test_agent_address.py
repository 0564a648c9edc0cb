import pytest

from agent.client import GatewayClient
from agent.client.address import address


@pytest.mark.parametrize(
    ("url", "host", "port", "secure", "authority"),
    [
        ("https://gateway-1.us-central1.run.app", "gateway-1.us-central1.run.app", 443, True, "same"),
        ("https://gateway-1.us-central1.run.app/", "gateway-1.us-central1.run.app", 443, True, "same"),
        ("HTTPS://Gateway.Example:8443", "gateway.example", 8443, True, "gateway.example:8443"),
        ("http://127.0.0.1:8080", "127.0.0.1", 8080, False, "127.0.0.1:8080"),
        ("http://gateway", "gateway", 80, False, "same"),
        ("http://[::1]:8080", "::1", 8080, False, "[::1]:8080"),
        ("https://[::1]", "::1", 443, True, "[::1]"),
    ],
)
def test_a_url_is_host_port_and_scheme(url, host, port, secure, authority):
    found = address(url)
    assert (found.host, found.port, found.secure) == (host, port, secure)
    assert found.authority == (host if authority == "same" else authority)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gateway.example",
        "gateway.example:443",
        "ftp://gateway.example",
        "https://",
        "https://:443",
        "https:///path",
        "https://gateway.example/api",
        "https://gateway.example?x=1",
        "https://gateway.example/#a",
        "https://user:secret@gateway.example",
        "https://@gateway.example",
        "https://gateway.example:0",
        "https://gateway.example:99999",
        "https://gateway.example:https",
        "https://gateway example",
        "https://gateway.example\n",
        "https://gateway.example\\@evil.example",
        "https://gätéway.example",
        "https://[::1",
        "https://a,b.example",
    ],
)
def test_a_url_that_is_none_is_refused_with_a_sentence_that_says_how_to_write_one(url):
    with pytest.raises(ValueError, match=r"the gateway's URL .*write it like https://"):
        GatewayClient(url)


def test_a_token_does_not_travel_in_clear_to_cloud_run():
    with pytest.raises(ValueError, match="over https only"):
        address("http://gateway-1.us-central1.run.app")
