"""The service that the conformance suite calls: it answers as each request says, and echoes what it got."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field, fields
from urllib.parse import parse_qsl

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from grpclib.const import Status
from suite_messages import Suite, packed

from gateway.terms.passage import Passage
from gateway.terms.verdict import Kind, Refusal
from gateway.wire.errors import EndedError, Ending, Outcome
from gateway.wire.table import Route, Table
from generated.agentic.wire.v1 import Detail
from generated.service_table import Cardinality, Method
from generated.wire_format import Codec

# https://connectrpc.com/docs/protocol/#error-codes
HTTP = {
    Status.CANCELLED: 499,
    Status.INVALID_ARGUMENT: 400,
    Status.DEADLINE_EXCEEDED: 504,
    Status.NOT_FOUND: 404,
    Status.ALREADY_EXISTS: 409,
    Status.PERMISSION_DENIED: 403,
    Status.RESOURCE_EXHAUSTED: 429,
    Status.FAILED_PRECONDITION: 400,
    Status.ABORTED: 409,
    Status.OUT_OF_RANGE: 400,
    Status.UNIMPLEMENTED: 501,
    Status.UNAVAILABLE: 503,
    Status.UNAUTHENTICATED: 401,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SuitePassage(Passage):
    """A passage with all of the request's metadata, and with trailers."""

    request_headers: list[tuple[bytes, bytes]]
    reply_trailers: dict[str, str]
    query: bytes = field(default=b"")


def widened(passage: Passage, **more: object) -> SuitePassage:
    """A passage with what the suite asks for beside it."""
    return SuitePassage(**{each.name: getattr(passage, each.name) for each in fields(passage)}, **more)


def ended(code: int, sentence: str, details: list[Message]) -> EndedError:
    """Any error of gRPC, with exactly these details."""
    status = Status(code)
    outcome = Outcome(
        grpc=status,
        connect="canceled" if status is Status.CANCELLED else status.name.lower(),
        http=HTTP.get(status, 500),
    )
    refusal = Refusal(kind=Kind.INTERNAL, reason="suite", sentence=sentence)
    told = tuple(Detail(type_url=detail.type_url, value=detail.value) for detail in details)
    return EndedError(Ending(outcome=outcome, refusal=refusal, details=told))


class ConformanceService:
    """See service.proto of the suite."""

    def __init__(self, suite: Suite) -> None:
        self._suite = suite

    def table(self) -> Table:
        """The routes of every method."""
        routes = {}
        for method in self._suite.methods():
            row = _row(self._suite, method)
            request, reply = codecs(row.request)["proto"], codecs(row.reply)["proto"]
            call = getattr(self, _snake(method.name))
            routes[row.path] = Route(method=row, call=call, request_codec=request, reply_codec=reply)
        return Table(routes=routes)

    async def unary(self, request: Message, passage: SuitePassage) -> Message:
        return await self._one([request], passage, self._suite.UnaryResponse)

    async def idempotent_unary(self, request: Message, passage: SuitePassage) -> Message:
        return await self._one([request], passage, self._suite.IdempotentUnaryResponse)

    async def unimplemented(self, request: Message, passage: SuitePassage) -> Message:
        raise ended(Status.UNIMPLEMENTED.value, "this method is not implemented, on purpose", [])

    async def client_stream(self, requests: AsyncIterator[Message], passage: SuitePassage) -> Message:
        received = [request async for request in requests]
        return await self._one(received, passage, self._suite.ClientStreamResponse)

    async def server_stream(self, request: Message, passage: SuitePassage) -> AsyncGenerator[Message, None]:
        definition = _definition(request)
        said = 0
        async for reply in self._many(definition, 0, [request], passage, self._suite.ServerStreamResponse):
            said += 1
            yield reply
        self._end(definition, said, [request], passage)

    async def bidi_stream(
        self, requests: AsyncIterator[Message], passage: SuitePassage
    ) -> AsyncGenerator[Message, None]:
        """Full duplex answers each request at once; the rest of the definition follows in either case."""
        reply_kind = self._suite.BidiStreamResponse
        definition, received, said = None, [], 0
        async for request in requests:
            received.append(request)
            if len(received) == 1:
                definition = _definition(request)
            if definition is None or not received[0].full_duplex:
                continue
            if said == len(definition.response_data):
                break
            told = received if said == 0 else [request]
            await self._prepare(definition, passage)
            yield self._echo(reply_kind, definition.response_data[said], self._info(told, passage))
            said += 1
        async for reply in self._many(definition, said, received, passage, reply_kind):
            said += 1
            yield reply
        self._end(definition, said, received, passage)

    async def _one(self, received: list[Message], passage: SuitePassage, kind: type[Message]) -> Message:
        definition = _definition(received[0]) if received else None
        info = self._info(received, passage)
        if definition is None:
            return self._echo(kind, b"", info)
        await self._prepare(definition, passage)
        if definition.HasField("error"):
            raise _error(definition.error, [packed(info)])
        return self._echo(kind, definition.response_data, info)

    async def _many(
        self, definition: Message | None, said: int, received: list[Message], passage: SuitePassage, kind: type[Message]
    ) -> AsyncGenerator[Message, None]:
        """What a definition says behind the first `said` replies."""
        for number, data in enumerate(definition.response_data if definition is not None else ()):
            if number >= said:
                await self._prepare(definition, passage)
                yield self._echo(kind, data, self._info(received, passage) if number == 0 else None)

    def _end(self, definition: Message | None, said: int, received: list[Message], passage: SuitePassage) -> None:
        """An error tells what was received where no reply did."""
        if definition is None:
            return
        _tell_metadata(definition, passage)
        if definition.HasField("error"):
            raise _error(definition.error, [] if said else [packed(self._info(received, passage))])

    async def _prepare(self, definition: Message, passage: SuitePassage) -> None:
        _tell_metadata(definition, passage)
        if definition.response_delay_ms:
            await asyncio.sleep(definition.response_delay_ms / 1_000)

    def _echo(self, kind: type[Message], data: bytes, info: Message | None) -> Message:
        return kind(payload=self._suite.ConformancePayload(data=data, request_info=info))

    def _info(self, received: list[Message], passage: SuitePassage) -> Message:
        info = self._suite.ConformancePayload().request_info
        values: dict[bytes, list[str]] = {}
        for name, value in passage.request_headers:
            values.setdefault(name, []).append(value.decode("latin-1"))
        for name, texts in values.items():
            info.request_headers.add(name=name.decode(), value=texts)
        left_s = passage.left_s()
        if left_s is not None:
            info.timeout_ms = int(left_s * 1_000)
        info.requests.extend(packed(request) for request in received)
        for name, value in parse_qsl(passage.query.decode(), keep_blank_values=True):
            info.connect_get_info.query_params.add(name=name, value=[value])
        return info


def codecs(kind: type[Message]) -> dict[str, Codec]:
    """The codecs of a google.protobuf message, as the web wants them."""

    def read(reader):
        def decode(data: bytes) -> Message:
            try:
                return reader(data)
            except (DecodeError, json_format.ParseError) as error:
                raise ValueError(str(error)) from None

        return decode

    return {
        "proto": Codec(lambda message: message.SerializeToString(), read(kind.FromString)),
        "json": Codec(
            lambda message: json_format.MessageToJson(message, indent=None).encode(),
            read(lambda data: json_format.Parse(data, kind())),
        ),
    }


def _row(suite: Suite, method) -> Method:
    return Method(
        path=f"/{method.containing_service.full_name}/{method.name}",
        cardinality=Cardinality(_CARDINALITY[method.client_streaming, method.server_streaming]),
        request=getattr(suite, method.input_type.name),
        reply=getattr(suite, method.output_type.name),
        side_effect_free=method.GetOptions().idempotency_level == 1,
    )


_CARDINALITY = {
    (False, False): Cardinality.UNARY_UNARY,
    (False, True): Cardinality.UNARY_STREAM,
    (True, False): Cardinality.STREAM_UNARY,
    (True, True): Cardinality.STREAM_STREAM,
}


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _definition(request: Message) -> Message | None:
    return request.response_definition if request.HasField("response_definition") else None


def _error(error: Message, more: list[Message]) -> EndedError:
    return ended(error.code, error.message, [*error.details, *more])


def _tell_metadata(definition: Message, passage: SuitePassage) -> None:
    for header in definition.response_headers:
        passage.reply_headers[header.name.lower()] = ", ".join(header.value)
    for trailer in definition.response_trailers:
        passage.reply_trailers[trailer.name.lower()] = ", ".join(trailer.value)
