"""Codecs are an argument: the contract's own by default, google.protobuf's for tables of other messages."""

import json

import pytest
from google.protobuf import any_pb2, duration_pb2, json_format, wrappers_pb2
from google.protobuf.message import DecodeError
from web_echo import Exchanged, Log, envelope, envelopes, trailers

from gateway.terms.clock import SystemClock, SystemIds
from gateway.terms.passage import Passage
from gateway.wire.config import WireConfig
from gateway.wire.health import Readiness
from gateway.wire.load import Load, Surroundings
from gateway.wire.table import Route, Table, TableError
from gateway.wire.web.application import WebApplication
from gateway.wire.web.codecs import contract_codecs
from gateway.wire.web.options import WebOptions
from generated.agentic.gateway.v1.services import METHODS
from generated.grpc.health.v1.services import METHODS as HEALTH_METHODS
from generated.grpc.reflection.v1.services import METHODS as REFLECTION_METHODS
from generated.service_table import Cardinality, Method
from generated.wire_format import Codec


def google_codecs(message):
    """What the codecs of google.protobuf have to be wrapped in: its errors are no ValueErrors."""

    def translated(read):
        def decode(data):
            try:
                return read(data)
            except (DecodeError, json_format.ParseError) as error:
                raise ValueError(str(error)) from None

        return decode

    return {
        "proto": Codec(lambda value: value.SerializeToString(), translated(message.FromString)),
        "json": Codec(
            lambda value: json_format.MessageToJson(value, indent=None).encode(),
            translated(lambda data: json_format.Parse(data, message())),
        ),
    }


class SeenPassage(Passage):
    """A passage that holds more of its request, as a table may need it."""

    exchange = None


def application(call):
    method = Method(
        path="/g.v1.Wrap/Wrap",
        cardinality=Cardinality.UNARY_UNARY,
        request=any_pb2.Any,
        reply=wrappers_pb2.StringValue,
        side_effect_free=True,
    )
    unused = Codec(lambda _: b"", lambda _: None)
    table = Table(routes={method.path: Route(method=method, call=call, request_codec=unused, reply_codec=unused)})
    surroundings = Surroundings(config=WireConfig(), clock=SystemClock(), ids=SystemIds(), witness=Log(), load=Load())

    def passage(exchange, own):
        more = SeenPassage(
            request=own.request, credentials=own.credentials, clock=own.clock, deadline_ns=None, stages=own.stages
        )
        object.__setattr__(more, "exchange", exchange)
        return more

    return WebApplication(table, surroundings, Readiness(), WebOptions(codecs=google_codecs, passage=passage))


async def wrap(request, passage):
    """Says what was in the Any and in a header, and what it wants to have said behind."""
    duration = duration_pb2.Duration()
    assert request.Unpack(duration)
    header = b",".join(passage.exchange.fields.all(b"x-mine")).decode()
    passage.exchange.reply_trailers["x-last"] = "bye"
    return wrappers_pb2.StringValue(value=f"{duration.seconds} {header}")


async def exchanged(app, content_type, body):
    exchange = Exchanged(app, "POST", "/g.v1.Wrap/Wrap", [("content-type", content_type), ("x-mine", "1")])
    exchange.write(body, more=False)
    await exchange.ended()
    return exchange


def an_any():
    value = any_pb2.Any()
    value.Pack(duration_pb2.Duration(seconds=7))
    return value


async def test_a_table_of_other_messages_is_served_in_every_codec():
    app = application(wrap)
    done = await exchanged(app, "application/json", json_format.MessageToJson(an_any()).encode())
    assert (done.status, done.json, done.headers["trailer-x-last"]) == (200, "7 1", "bye")
    done = await exchanged(app, "application/proto", an_any().SerializeToString())
    assert wrappers_pb2.StringValue.FromString(done.body).value == "7 1"
    done = await exchanged(app, "application/grpc-web+proto", envelope(an_any().SerializeToString()))
    assert wrappers_pb2.StringValue.FromString(done.envelopes[0][1]).value == "7 1"
    assert trailers(done.envelopes[1][1])["x-last"] == "bye"


@pytest.mark.parametrize("content_type,body", [("application/json", b'{"@type":"x"}'), ("application/proto", b"\xff")])
async def test_its_refusals_are_refusals(content_type, body):
    done = await exchanged(application(wrap), content_type, body)
    assert (done.status, json.loads(done.body)["code"]) == (400, "invalid_argument")


def test_every_message_of_what_the_gateway_serves_has_its_codecs():
    for method in (*METHODS, *HEALTH_METHODS, *REFLECTION_METHODS):
        for message in (method.request, method.reply):
            codecs = contract_codecs(message)
            assert [*codecs] == ["proto", "json"]
            for codec in codecs.values():
                assert codec.decode(codec.encode(message())) == message()


def test_another_message_has_none():
    with pytest.raises(TableError, match="Duration"):
        contract_codecs(duration_pb2.Duration)
    assert envelopes(b"") == []
