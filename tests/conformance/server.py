"""The server under the conformance suite: the gateway's own listener, gRPC calls and web application over its service.

Started by the suite's runner as `server.py DESCRIPTORS`; speaks its handshake on standard input and output.
"""

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from suite_messages import Suite, read_message, write_message
from suite_service import ConformanceService, SuitePassage, codecs, widened

from gateway.terms.clock import SystemClock, SystemIds
from gateway.terms.passage import Passage
from gateway.wire.answer import GrpcAnswer
from gateway.wire.asgi_stream import Streams
from gateway.wire.config import MIB, WireConfig
from gateway.wire.errors import Ending
from gateway.wire.grpc import GrpcCall, GrpcCalls
from gateway.wire.health import Readiness
from gateway.wire.load import Load, Surroundings
from gateway.wire.request import Head
from gateway.wire.server import Listener
from gateway.wire.web.application import WebApplication
from gateway.wire.web.endpoint import Endpoint
from gateway.wire.web.exchange import Exchange
from gateway.wire.web.options import WebOptions
from gateway.wire.web.speech import Dialect


def exactly(ending: Ending | None) -> Ending | None:
    """An ending without the details that the gateway adds to those of its own: the suite allows no others than its."""
    return ending if ending is None or ending.details is not None else replace(ending, details=())


class SuiteAnswer(GrpcAnswer):
    """An answer over gRPC without the gateway's own details."""

    def end(self, ending: Ending | None) -> None:
        super().end(exactly(ending))


class SuiteCall(GrpcCall):
    """A call over gRPC that tells its service all of the request's metadata."""

    def __init__(self, stream, release, surroundings) -> None:
        super().__init__(stream, release, surroundings)
        self._answer = SuiteAnswer(stream, self._request, self._stages)

    def open(self, headers, routes) -> None:
        self._headers = list(headers)
        super().open(self._headers, routes)

    def _opened(self, head: Head) -> SuitePassage:
        regular = [(name, value) for name, value in self._headers if not name.startswith(b":")]
        trailers = self._answer.reply_trailers
        return widened(super()._opened(head), request_headers=regular, reply_trailers=trailers)


class SuiteCalls(GrpcCalls):
    """Opens those."""

    def accept(self, stream, headers, release_stream) -> None:
        stream.receiver = call = SuiteCall(stream, release_stream, self._surroundings)
        call.open(headers, self._routes)


class SuiteApplication(WebApplication):
    """The web application without the gateway's own details."""

    def __init__(self, table, surroundings: Surroundings) -> None:
        # Every reply is compressed for those who take it, however small: the suite's are.
        options = WebOptions(codecs=codecs, passage=of_exchange, compress_bytes_min=1)
        super().__init__(table, surroundings, Readiness(), options)
        self._endpoints = {path: _exact(endpoint) for path, endpoint in self._endpoints.items()}

    async def _refuse(self, exchange: Exchange, path: str, ending: Ending, headers) -> None:
        await super()._refuse(exchange, path, exactly(ending), headers)


def of_exchange(exchange: Exchange, passage: Passage) -> SuitePassage:
    """What a call over the web gets."""
    return widened(
        passage,
        request_headers=exchange.fields.pairs(),
        reply_trailers=exchange.reply_trailers,
        query=exchange.query.raw,
    )


def _exact(endpoint: Endpoint) -> Endpoint:
    def all_of(dialects: Mapping[object, Dialect]) -> dict[object, Dialect]:
        return {name: replace(dialect, speak=_speaking(dialect.speak)) for name, dialect in dialects.items()}

    return replace(endpoint, by_content_type=all_of(endpoint.by_content_type), by_codec=all_of(endpoint.by_codec))


def _speaking(speech: type) -> type:
    class Exact(speech):
        async def end(self, ending: Ending | None) -> None:
            await super().end(exactly(ending))

    return Exact


class Witness:
    """Tells of defects on standard error; the runner shows it."""

    def tell(self, event: str, fields: Mapping[str, object]) -> None:
        if event.endswith("failed"):
            sys.stderr.write(f"{event} {dict(fields)}\n")


async def serve(suite: Suite, request, started: Callable[[int], None]) -> None:
    """Serve until the process is ended; `started` is called with the port."""
    config = WireConfig(message_bytes_max=request.message_receive_limit or 4 * MIB)
    surroundings = Surroundings(config=config, clock=SystemClock(), ids=SystemIds(), witness=Witness(), load=Load())
    table = ConformanceService(suite).table()
    application = SuiteApplication(table, surroundings)
    listener = Listener(Streams(SuiteCalls(table, surroundings), application, surroundings), surroundings, application)
    await listener.start("127.0.0.1", 0)
    started(listener.port)
    await asyncio.Event().wait()


def main() -> None:
    """Answer the runner's handshake and serve."""
    suite = Suite(Path(sys.argv[1]))
    request = read_message(sys.stdin.buffer, suite.ServerCompatRequest)

    def started(port: int) -> None:
        write_message(sys.stdout.buffer, suite.ServerCompatResponse(host="127.0.0.1", port=port))

    asyncio.run(serve(suite, request, started))


if __name__ == "__main__":
    main()
