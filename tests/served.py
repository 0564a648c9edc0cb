"""A whole gateway behind its real server, and a client of grpclib's that shows all that came back."""

from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from grpclib.client import Channel
from grpclib.const import Cardinality
from grpclib.encoding.base import CodecBase, StatusDetailsCodecBase
from grpclib.exceptions import GRPCError
from grpclib.metadata import Deadline
from whole import token

from gateway.services.models import ModelService
from gateway.services.operators import OperatorService
from gateway.services.tools import ToolService
from gateway.wire.config import WireConfig
from gateway.wire.contract import contract
from gateway.wire.server import GatewayServer
from generated.agentic.gateway.v1 import ExecuteToolRequest, GetOperationRequest
from generated.agentic.gateway.v1.codec import CODECS
from generated.agentic.gateway.v1.services import METHODS
from generated.agentic.wire.v1.codec import decode_BadRequest, decode_ErrorInfo, decode_RetryInfo, decode_Status

BY_NAME = {method.name: method for method in METHODS}


class OurCodec(CodecBase):
    """The messages as the strict codec writes and reads them."""

    __content_subtype__ = "proto"

    def encode(self, message, _):
        return CODECS[type(message)].encode(message)

    def decode(self, data, kind):
        return CODECS[kind].decode(data)


class OurDetails(StatusDetailsCodecBase):
    """google.rpc.Status in the trailers."""

    def encode(self, status, message, details):
        raise NotImplementedError("only a server says why")

    def decode(self, status, message, data):
        readers = {"ErrorInfo": decode_ErrorInfo, "RetryInfo": decode_RetryInfo, "BadRequest": decode_BadRequest}
        return {
            (name := detail.type_url.rpartition(".")[2]): readers[name](detail.value)
            for detail in decode_Status(data).details
        }


@dataclass
class Heard:
    """What came back of one call."""

    replies: list = field(default_factory=list)
    metadata: dict = field(default_factory=dict)
    error: GRPCError | None = None

    @property
    def reply(self):
        assert self.error is None, self.error
        (reply,) = self.replies
        return reply

    @property
    def refused(self):
        """Status, reason and rules of the refusal."""
        info = self.error.details["ErrorInfo"]
        return self.error.status.name, info.reason, tuple(filter(None, info.metadata.get("rules", "").split(",")))


class Client:
    """Calls as an agent does. `bearer` is another token than the trader's own; `metadata` goes along."""

    def __init__(self, whole, channel):
        self._whole = whole
        self._channel = channel

    @asynccontextmanager
    async def opened(self, name, request, *, caller="trader", bearer=None, timeout_s=None, metadata=()):
        method = BY_NAME[name]
        kind = Cardinality.UNARY_STREAM if method.cardinality.reply_streams else Cardinality.UNARY_UNARY
        fields = [("authorization", f"Bearer {bearer or token(self._whole.world.clock, caller)}"), *metadata]
        async with self._channel.request(method.path, kind, method.request, method.reply, metadata=fields) as stream:
            # Said to the server alone: the client waits for its answer.
            stream._deadline = None if timeout_s is None else Deadline.from_timeout(timeout_s)
            await stream.send_message(request, end=True)
            yield stream

    async def call(self, name, request, **options):
        """Everything that is heard of one call, to its end."""
        heard = Heard()
        stream = None
        try:
            async with self.opened(name, request, **options) as stream:
                async for reply in stream:
                    heard.replies.append(reply)
        except GRPCError as error:
            heard.error = error
        for fields in (stream.initial_metadata, stream.trailing_metadata):
            heard.metadata.update(fields or {})
        return heard

    async def execute(self, arguments, key="k-1", tool="place_order", run_id="", **options):
        request = ExecuteToolRequest(tool=tool, arguments_json=arguments, idempotency_key=key, run_id=run_id)
        return await self.call("ExecuteTool", request, **options)

    async def dry_run(self, arguments, tool="place_order", **options):
        heard = await self.call("DryRunTool", ExecuteToolRequest(tool=tool, arguments_json=arguments), **options)
        return heard.reply

    async def operation(self, operation_id, **options):
        return await self.call("GetOperation", GetOperationRequest(operation_id=operation_id), **options)


@asynccontextmanager
async def served(whole):
    """The same stations behind the real server; gives a client."""
    stations = whole.stations
    models = ModelService(stations, whole.lasting)
    table = contract(models, ToolService(stations), OperatorService(stations))
    server = GatewayServer(table, WireConfig(), whole.stations.clock, whole.stations.ids, whole.log)
    port = await server.start("127.0.0.1", 0)
    server.readiness.set_serving(True)
    channel = Channel("127.0.0.1", port, codec=OurCodec(), status_details_codec=OurDetails())
    try:
        yield Client(whole, channel)
    finally:
        channel.close()
        await server.drain(0.05)
