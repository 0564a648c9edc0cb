"""Connect's GET: for methods without side effects, with the message in the query."""

import gzip
from base64 import urlsafe_b64encode
from urllib.parse import quote

import pytest
from web_echo import SERVICE, Web, details, reply, request

from gateway.wire.errors import EndedError
from gateway.wire.web.query import PARAMETERS_MAX, Query

LOOK = SERVICE + "Look"


def query(message, encoding="json", **more):
    more = {"connect": "v1", "encoding": encoding, "message": message, **more}
    return "&".join(f"{name}={quote(value)}" for name, value in more.items()).encode()


def base64(data):
    return urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "asked",
    [
        query('{"tool":"\u00e4xe"}'),
        query(base64(request(tool="\u00e4xe")), base64="1"),
        query(base64(request("proto", tool="\u00e4xe")), "proto", base64="1"),
        query(base64(gzip.compress(request(tool="\u00e4xe"), mtime=0)), base64="1", compression="gzip"),
        query('{"tool":"\u00e4xe"}', compression="identity", base64="0", other="ignored"),
        b"message=%7B%22tool%22:%22%C3%A4xe%22%7D&encoding=json",
    ],
)
async def test_a_get_is_answered_like_a_post(asked):
    done = await Web().get(LOOK, query=asked)
    assert done.status == 200
    assert reply(done.body, "proto" if b"proto" in asked else "json").id == "\u00e4xe"
    assert done.headers["cache-control"] == "no-store"


async def test_the_deadline_and_the_credentials_come_in_headers():
    seen = []

    async def look(request, passage):
        seen.append(passage)
        raise KeyError

    await Web(look=look).get(LOOK, ("connect-timeout-ms", "900"), ("authorization", "Bearer t"), query=query("{}"))
    assert seen[0].left_s() < 0.9
    assert seen[0].credentials.authorization == ("Bearer t",)


async def test_a_method_with_side_effects_is_not_called_by_get():
    done = await Web().get(SERVICE + "Say", query=query("{}"))
    assert (done.status, done.headers["allow"], done.json["code"]) == (405, "POST", "unknown")


@pytest.mark.parametrize("asked", [b"", b"message=%7B%7D", query("{}", "xml"), query("{}") + b"&encoding=proto"])
async def test_a_get_that_does_not_say_how_it_is_written_is_415(asked):
    done = await Web().get(LOOK, query=asked)
    assert (done.status, done.json["code"]) == (415, "unknown")
    assert "encoding=json" in done.json["message"]


@pytest.mark.parametrize("header", [("content-length", "2"), ("transfer-encoding", "chunked")])
async def test_a_get_has_no_body(header):
    assert (await Web().get(LOOK, header, query=query("{}"))).status == 415


@pytest.mark.parametrize(
    "asked,reason",
    [
        (b"encoding=json", "wire.query_malformed"),
        (query("{}") + b"&message=%7B%7D", "wire.query_malformed"),
        (query("e30", base64="1", connect="v2"), "wire.version_unknown"),
        (query("e3", base64="1"), "wire.message_malformed"),
        (query("e", base64="1"), "wire.query_malformed"),
        (query("e30===", base64="1"), "wire.query_malformed"),
        (query("e3+/", base64="1"), "wire.query_malformed"),
        (query("{}", compression="br"), "wire.encoding_unknown"),
        (query("{"), "wire.message_malformed"),
    ],
)
async def test_what_is_no_request_is_refused(asked, reason):
    done = await Web().get(LOOK, query=asked)
    assert details(done.json)["google.rpc.ErrorInfo"]["reason"] == reason


async def test_a_message_beyond_the_bound_is_refused():
    web = Web(bounds={"message_bytes_max": 100})
    assert (await web.get(LOOK, query=query('{"tool":"' + "x" * 100 + '"}'))).status == 429
    bomb = base64(gzip.compress(b" " * 5_000))
    assert (await web.get(LOOK, query=query(bomb, base64="1", compression="gzip"))).status == 429


@pytest.mark.parametrize("text", ["", "YQ", "YQ==", "_-8", "YWI", "YWI=", "YWJj"])
def test_base64_may_be_padded_or_not(text):
    padded = text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)
    for asked in (text, padded):
        found = Query(b"base64=1&message=" + quote(asked).encode()).message()
        assert urlsafe_b64encode(found).rstrip(b"=") == text.rstrip("=").encode()


def test_plus_is_a_space_and_percent_is_decoded_once():
    assert Query(b"message=a+b%2Bc%2525").message() == b"a b+c%25"


def test_only_so_many_parameters_are_looked_at():
    with pytest.raises(EndedError):
        Query(b"a=1&" * PARAMETERS_MAX + b"message=x").message()
