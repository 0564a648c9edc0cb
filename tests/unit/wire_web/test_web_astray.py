"""Requests that are no call: each is told what to do. And plain health."""

import pytest
from web_echo import SERVICE, Web, details, envelope


async def test_health_is_plain():
    web = Web()
    done = await web.get("/healthz")
    assert (done.status, done.json) == (200, {"status": "alive"})
    assert done.headers["cache-control"] == "no-store"
    assert (await web.get("/readyz")).status == 200
    web.readiness.close()
    done = await web.get("/readyz")
    assert (done.status, done.json) == (503, {"status": "not ready"})
    assert (await web.get("/healthz")).status == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_may_be_asked_by_head_and_not_by_post(path):
    done = await Web().get(path, method="HEAD")
    assert (done.status, done.body) == (200, b"")
    assert int(done.headers["content-length"]) > 0
    done = await Web().get(path, method="POST")
    assert (done.status, done.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_where_nothing_is_the_services_are_named(method):
    done = await Web().get("/nothing", method=method)
    assert (done.status, done.json["code"]) == (404, "unimplemented")
    for word in ("/nothing", "toy.v1.Echo", "/healthz", "POST"):
        assert word in done.json["message"]
    assert details(done.json)["google.rpc.ErrorInfo"]["reason"] == "wire.method_unknown"


async def test_where_a_service_is_its_methods_are_named():
    done = await Web().call("Shout", b"{}")
    assert (done.status, done.json["code"]) == (404, "unimplemented")
    assert "has Collect, Look, Say, Talk, Tell" in done.json["message"]


async def test_a_path_is_shown_without_harm_and_not_whole():
    web = Web()
    done = await web.get("/\u202e" + "x" * 1_000)
    assert "\u202e" not in done.json["message"]
    assert len(done.json["message"]) < 500
    assert len(web.log.named("request.refused")[0]["path"]) < 200


async def test_a_path_is_not_decoded():
    assert (await Web().call("S%61y", b"{}")).status == 404


async def test_head_gets_no_body():
    done = await Web().get("/nothing", method="HEAD")
    assert (done.status, done.body) == (404, b"")


@pytest.mark.parametrize("name,allow", [("Say", "POST"), ("Look", "GET, POST"), ("Tell", "POST")])
@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "PATCH"])
async def test_another_method_is_405(name, allow, method):
    done = await Web().get(SERVICE + name, method=method)
    assert (done.status, done.headers["allow"]) == (405, allow)


async def test_get_of_a_method_with_side_effects_says_why_not():
    done = await Web().get(SERVICE + "Tell")
    assert (done.status, done.json["code"]) == (405, "unknown")
    assert "without side effects" in done.json["message"]


async def test_grpc_without_http2_is_told_so():
    done = await Web().call("Say", envelope(b""), "application/grpc+proto")
    assert done.status == 415
    assert "HTTP/2" in done.json["message"]


async def test_options_names_the_methods():
    assert (await Web().get(SERVICE + "Look", method="OPTIONS")).headers["allow"] == "GET, POST"
    assert (await Web().get("/healthz", method="OPTIONS")).headers["allow"] == "GET, HEAD"


async def test_a_server_that_asks_for_a_lifespan_gets_one():
    web = Web()
    events = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent = []

    async def receive():
        return next(events)

    async def send(event):
        sent.append(event["type"])

    await web.app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_websocket_is_closed():
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(event):
        sent.append(event["type"])

    await Web().app({"type": "websocket"}, receive, send)
    assert sent == ["websocket.close"]


async def test_another_scope_is_a_defect_of_the_server():
    with pytest.raises(ValueError, match="telepathy"):
        await Web().app({"type": "telepathy"}, None, None)
