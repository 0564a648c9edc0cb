"""The agent's client under the conformance suite: calls as the suite says, and tells what came back.

Started by the suite's runner as `client.py DESCRIPTORS`; reads its requests from standard input to the end.
"""

import asyncio
import base64
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2
from suite_messages import Suite, read_message, write_message

import agent.client.connection
from agent.client.address import Address
from agent.client.call import Call, CallReport
from agent.client.ending import Fields
from agent.client.errors import GatewayError
from agent.client.gateway import GatewayClient
from agent.client.patience import Patience
from agent.client.reply import Reply
from generated.agentic.gateway.v1.codec import CODECS
from generated.wire_format import Codec

AT_ONCE = 8
UNTIMED_S = 60.0
"""For calls that the suite gives no time: the client has none without a deadline."""
_TOLD = "It said: "
"""Stands before the message of a server that is not the gateway; see `agent.client.ending`."""


class RecordedReply(Reply):
    """A reply that keeps all metadata: of what comes twice, the client itself keeps the last."""

    def __init__(self, *connection) -> None:
        super().__init__(*connection)
        self.leading: list[tuple[str, str]] = []
        self.trailing: list[tuple[str, str]] = []

    def begin(self, fields: Fields) -> None:
        self.leading = _texts(fields)
        super().begin(fields)

    def trail(self, fields: Fields) -> None:
        self.trailing = _texts(fields)
        super().trail(fields)


agent.client.connection.Reply = RecordedReply


@dataclass(slots=True, kw_only=True)
class SuiteCall(Call):
    """A call with metadata of its own, and without `grpc-timeout` where the suite sets none."""

    timed: bool
    more: list[tuple[str, str]] = field(default_factory=list)

    def headers(self, to: Address) -> list[tuple[str, str]]:
        own = Call.headers(self, to)
        return [*(each for each in own if self.timed or each[0] != "grpc-timeout"), *self.more]


class SuiteClient(GatewayClient):
    """The client, for one call of the suite on connections that all its calls share."""

    def __init__(self, url: str, asked: Message) -> None:
        # Tried once: the suite counts the calls.
        super().__init__(url, connections=1, patience=Patience(attempts=1))
        self._asked = asked
        self.reply: RecordedReply | None = None

    def share(self, other: GatewayClient) -> None:
        """Use the connections of another."""
        self._pool = other._pool

    async def unary(self, request: Message, answer: type[Message]) -> Message:
        return await self._unary(request, answer, None, self._timeout_s())

    async def server_stream(self, request: Message, answer: type[Message]) -> AsyncIterator[Message]:
        """What `chat` does with messages that are no events of a chat."""
        reply = await self._opened(self._call(request, None, self._timeout_s()))
        try:
            while (message := await reply.next()) is not None:
                yield answer.FromString(message)
        finally:
            reply.close()

    def _timeout_s(self) -> float:
        return self._asked.timeout_ms / 1_000 if self._asked.HasField("timeout_ms") else UNTIMED_S

    def _call(self, request: Message, report: CallReport | None, timeout_s: float, path: str = "") -> SuiteCall:
        body = request.SerializeToString()
        return SuiteCall(
            path=path or f"/{self._asked.service}/{self._asked.method}",
            framed=b"\0" + len(body).to_bytes(4) + body,
            end=asyncio.get_running_loop().time() + timeout_s,
            report=report or CallReport(),
            timed=self._asked.HasField("timeout_ms"),
            more=[(header.name.lower(), value) for header in self._asked.request_headers for value in header.value],
        )

    async def _opened(self, call: Call) -> Reply:
        reply = await super()._opened(call)
        self.reply = reply
        return reply


class Session:
    """Every call that the suite asks for, on one connection for each of its servers."""

    def __init__(self, suite: Suite) -> None:
        self._suite = suite
        self._clients: dict[str, GatewayClient] = {}
        self._stack = AsyncExitStack()

    async def run(self, source: BinaryIO, target: BinaryIO) -> None:
        """Answer all requests, some at once."""
        room = asyncio.Semaphore(AT_ONCE)

        async def answer(asked: Message) -> None:
            try:
                write_message(target, await self._answered(asked))
            finally:
                room.release()

        async with self._stack, asyncio.TaskGroup() as calls:
            kind = self._suite.ClientCompatRequest
            while (asked := await asyncio.to_thread(read_message, source, kind)) is not None:
                await room.acquire()
                calls.create_task(answer(asked))

    async def _answered(self, asked: Message) -> Message:
        result = self._suite.ClientResponseResult()
        client = await self._client(asked)
        service = next(iter(self._suite.methods())).containing_service
        method = service.methods_by_name[asked.method]
        request = getattr(self._suite, method.input_type.name)()
        asked.request_messages[0].Unpack(request)
        answer = getattr(self._suite, method.output_type.name)
        # Encoders and decoders of the contract are looked up by type; the suite's are no part of it.
        CODECS.setdefault(answer, Codec(None, _decoder(answer)))
        await asyncio.sleep(asked.request_delay_ms / 1_000)
        collecting = self._collect(client, asked, request, answer, result)
        try:
            await _cancelled_after(collecting, asked)
        except GatewayError as error:
            self._tell_error(client, error, result)
        except asyncio.CancelledError:
            result.error.code = 1
        self._tell_metadata(client, result)
        return self._suite.ClientCompatResponse(test_name=asked.test_name, response=result)

    async def _client(self, asked: Message) -> SuiteClient:
        url = f"http://{asked.host}:{asked.port}"
        if url not in self._clients:
            self._clients[url] = await self._stack.enter_async_context(GatewayClient(url, connections=1))
        client = SuiteClient(url, asked)
        client.share(self._clients[url])
        return client

    async def _collect(
        self, client: SuiteClient, asked: Message, request: Message, answer: type[Message], result: Message
    ) -> None:
        if asked.stream_type == 1:
            reply = await client.unary(request, answer)
            result.payloads.append(reply.payload)
            return
        enough = asked.cancel.after_num_responses
        stream = client.server_stream(request, answer)
        try:
            async for reply in stream:
                result.payloads.append(reply.payload)
                if len(result.payloads) == enough:
                    raise asyncio.CancelledError
        finally:
            await stream.aclose()

    def _tell_error(self, client: SuiteClient, error: GatewayError, result: Message) -> None:
        result.error.code = error.status.value
        result.error.message = error.sentence.partition(_TOLD)[2] or error.sentence
        result.error.details.extend(_details(client.reply))

    def _tell_metadata(self, client: SuiteClient, result: Message) -> None:
        if client.reply is None:
            return
        leading, trailing = client.reply.leading, client.reply.trailing
        if any(name == "grpc-status" for name, _ in leading) and not trailing:
            # One block that says all is trailers (gRPC over HTTP/2, "Trailers-Only").
            leading, trailing = [], leading
        for target, pairs in ((result.response_headers, leading), (result.response_trailers, trailing)):
            values: dict[str, list[str]] = {}
            for name, value in pairs:
                if not name.startswith(":"):
                    values.setdefault(name, []).append(value)
            for name, texts in values.items():
                target.add(name=name, value=texts)


async def _cancelled_after(collecting, asked: Message) -> None:
    """Run a call, and leave it when the suite says so."""
    if asked.cancel.WhichOneof("cancel_timing") != "after_close_send_ms":
        await collecting
        return
    call = asyncio.ensure_future(collecting)
    await asyncio.wait((call,), timeout=asked.cancel.after_close_send_ms / 1_000)
    call.cancel()
    await call


def _decoder(kind: type[Message]):
    def decode(data: bytes) -> Message:
        try:
            return kind.FromString(data)
        except DecodeError as error:
            raise ValueError(str(error)) from None

    return decode


def _texts(fields: Fields) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]


def _details(reply: RecordedReply | None) -> Iterable[any_pb2.Any]:
    told = dict([*reply.leading, *reply.trailing]) if reply is not None else {}
    value = told.get("grpc-status-details-bin", "")
    return status_pb2.Status.FromString(base64.b64decode(value + "=" * (-len(value) % 4))).details


def main() -> None:
    """Answer the runner."""
    asyncio.run(Session(Suite(Path(sys.argv[1]))).run(sys.stdin.buffer, sys.stdout.buffer))


if __name__ == "__main__":
    main()
