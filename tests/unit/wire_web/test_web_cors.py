"""Browsers: configured origins may call, nobody else learns anything."""

import pytest
from web_echo import SERVICE, Web, envelope

from gateway.wire.web.options import WebOptions

CONSOLE = "https://console.example.com"
OPTIONS = WebOptions(origins=(CONSOLE, "http://localhost:3000"))
ASKS = ("access-control-request-method", "POST")


def said(exchange):
    return {name: value for name, value in exchange.headers.items() if name.startswith("access-control-")}


async def test_a_preflight_of_a_known_origin_is_answered():
    done = await Web(options=OPTIONS).get(
        SERVICE + "Say", ("origin", CONSOLE), ASKS, ("access-control-request-headers", "x-mine"), method="OPTIONS"
    )
    assert (done.status, done.body) == (204, b"")
    found = said(done)
    assert found["access-control-allow-origin"] == CONSOLE
    assert found["access-control-max-age"] == "7200"
    allowed = found["access-control-allow-headers"].split(", ")
    assert {"authorization", "content-type", "connect-protocol-version", "connect-timeout-ms", "grpc-timeout"} <= {
        *allowed
    }
    assert {"x-grpc-web", "x-user-agent", "x-serverless-authorization"} <= {*allowed}
    assert "x-mine" not in allowed
    assert "access-control-allow-credentials" not in found
    assert ("vary", "origin") in done.header_list


@pytest.mark.parametrize(
    "origin", ["https://evil.example.com", "null", "*", CONSOLE + ".evil.com", CONSOLE.upper(), ""]
)
@pytest.mark.parametrize("options", [OPTIONS, WebOptions()])
async def test_another_origin_learns_nothing(origin, options):
    web = Web(options=options)
    done = await web.get(SERVICE + "Say", ("origin", origin), ASKS, method="OPTIONS")
    assert (done.status, said(done)) == (403, {})
    done = await web.call("Say", b"{}", "application/json", ("origin", origin))
    assert said(done) == {}


async def test_two_origins_are_none():
    done = await Web(options=OPTIONS).call("Say", b"{}", "application/json", ("origin", CONSOLE), ("origin", CONSOLE))
    assert said(done) == {}


@pytest.mark.parametrize(
    "name,content_type,body",
    [
        ("Say", "application/json", b"{}"),
        ("Say", "application/json", b"no json"),
        ("Say", "text/plain", b""),
        ("Shout", "application/json", b"{}"),
        ("Tell", "application/connect+json", envelope(b"{}")),
        ("Tell", "application/grpc-web", envelope(b"")),
        ("Tell", "application/grpc-web", b""),
    ],
)
async def test_every_answer_to_a_known_origin_says_so(name, content_type, body):
    done = await Web(options=OPTIONS).call(name, body, content_type, ("origin", CONSOLE))
    found = said(done)
    assert found["access-control-allow-origin"] == CONSOLE
    exposed = found["access-control-expose-headers"].split(", ")
    assert {"gateway-request", "gateway-operation", "trailer-gateway-timing", "grpc-status"} <= {*exposed}
    assert ("vary", "origin") in done.header_list


async def test_caches_are_told_that_origins_differ():
    done = await Web(options=OPTIONS).call("Say", b"{}")
    assert said(done) == {}
    assert ("vary", "origin") in done.header_list
    assert ("vary", "origin") not in (await Web().call("Say", b"{}")).header_list


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "", "console.example.com", CONSOLE + "/", "https://*.example.com", CONSOLE + "\n", "https://User@h"],
)
def test_what_is_no_origin_is_refused_at_start(origin):
    with pytest.raises(ValueError, match="no origin"):
        WebOptions(origins=(origin,))


@pytest.mark.parametrize("name", ["preflight_s", "compress_bytes_min"])
def test_no_bound_is_nothing(name):
    with pytest.raises(ValueError, match=name):
        WebOptions(**{name: 0})
