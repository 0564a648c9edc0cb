"""Clients that are Python libraries: grpcio, grpclib with betterproto messages, and connect-python."""

from urllib.parse import urlsplit

import grpc.aio
from connectrpc.client import ConnectClient
from connectrpc.compat import google_protobuf_binary_codec, google_protobuf_json_codec
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.protocol import ProtocolType
from google.protobuf.json_format import MessageToDict
from google.rpc import status_pb2
from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.exceptions import GRPCError
from pyqwest import Client, HTTPTransport, HTTPVersion
from real_calls import CHAT, DEADLINE_S, ERROR_INFO, EXECUTE, Contract, Heard, error_info

from generated.agentic.gateway.v1 import ChatEvent, ChatRequest, ExecuteToolRequest, Operation


async def grpcio(task):
    """grpcio's asyncio client: gRPC by the C core, messages by google.protobuf."""
    contract = Contract()
    heard = Heard()
    options = {"metadata": (("authorization", task.authorization),), "timeout": DEADLINE_S}
    async with grpc.aio.insecure_channel(task.target) as channel:
        chat = channel.unary_stream(
            "/" + CHAT,
            request_serializer=contract.kind("ChatRequest").SerializeToString,
            response_deserializer=contract.kind("ChatEvent").FromString,
        )
        execute = channel.unary_unary(
            "/" + EXECUTE,
            request_serializer=contract.kind("ExecuteToolRequest").SerializeToString,
            response_deserializer=contract.kind("Operation").FromString,
        )
        async for event in chat(contract.request("ChatRequest", task.chat), **options):
            heard.events.append(MessageToDict(event))
        small = contract.request("ExecuteToolRequest", task.small_order)
        heard.operation = MessageToDict(await execute(small, **options))
        great = contract.request("ExecuteToolRequest", task.great_order)
        try:
            await execute(great, **options)
        except grpc.aio.AioRpcError as error:
            heard.code = error.code().name.lower()
            status = dict(error.trailing_metadata())["grpc-status-details-bin"]
            heard.error_info = _error_info_of_status(status)
    return heard


def _error_info_of_status(content):
    details = status_pb2.Status.FromString(content).details
    return next(error_info(one.value) for one in details if one.type_url == f"type.googleapis.com/{ERROR_INFO}")


async def grpclib(task):
    """grpclib's client with the messages that betterproto makes."""
    heard = Heard()
    options = {"metadata": {"authorization": task.authorization}, "timeout": DEADLINE_S}
    place = urlsplit(task.url)
    async with Channel(place.hostname, place.port) as channel:
        chat = UnaryStreamMethod(channel, "/" + CHAT, ChatRequest, ChatEvent)
        execute = UnaryUnaryMethod(channel, "/" + EXECUTE, ExecuteToolRequest, Operation)
        for event in await chat(ChatRequest.from_dict(task.chat), **options):
            heard.events.append(event.to_dict())
        operation = await execute(ExecuteToolRequest.from_dict(task.small_order), **options)
        heard.operation = operation.to_dict()
        try:
            await execute(ExecuteToolRequest.from_dict(task.great_order), **options)
        except GRPCError as error:
            heard.code = error.status.name.lower()
            heard.error_info = next(MessageToDict(one) for one in error.details if one.DESCRIPTOR.name == "ErrorInfo")
    return heard


def connect_python(protocol, codec, version):
    """connect-python's client for a protocol, a codec and an HTTP version; messages by google.protobuf."""
    contract = Contract()
    chat = _method(contract, CHAT, "ChatRequest", "ChatEvent", StreamType.SERVER_STREAM)
    execute = _method(contract, EXECUTE, "ExecuteToolRequest", "Operation", StreamType.UNARY)

    async def client(task):
        heard = Heard()
        headers = {"authorization": task.authorization}
        options = {"headers": headers, "timeout_ms": DEADLINE_S * 1000}
        transport = HTTPTransport(http_version=version)
        async with (
            transport,
            ConnectClient(task.url, protocol=protocol, codec=codec, http_client=Client(transport)) as connect,
        ):
            request = contract.request("ChatRequest", task.chat)
            async for event in connect.execute_server_stream(request=request, method=chat, **options):
                heard.events.append(MessageToDict(event))
            request = contract.request("ExecuteToolRequest", task.small_order)
            heard.operation = MessageToDict(await connect.execute_unary(request=request, method=execute, **options))
            request = contract.request("ExecuteToolRequest", task.great_order)
            try:
                await connect.execute_unary(request=request, method=execute, **options)
            except ConnectError as error:
                heard.code = error.code.value
                details = [one for one in error.details if one.type_name == ERROR_INFO]
                heard.error_info = error_info(details[0].message_bytes)
        return heard

    return client


def _method(contract, path, request, reply, stream_type):
    service, _, name = path.partition("/")
    return MethodInfo(
        name=name,
        service_name=service,
        input=contract.kind(request),
        output=contract.kind(reply),
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=stream_type,
    )


PYTHON_CLIENTS = {
    "grpcio": grpcio,
    "grpclib": grpclib,
    "connect-python-connect-proto": connect_python(
        ProtocolType.CONNECT, google_protobuf_binary_codec(), HTTPVersion.HTTP1
    ),
    "connect-python-connect-json": connect_python(
        ProtocolType.CONNECT, google_protobuf_json_codec(), HTTPVersion.HTTP2
    ),
    "connect-python-grpc": connect_python(ProtocolType.GRPC, google_protobuf_binary_codec(), HTTPVersion.HTTP2),
    "connect-python-grpc-web": connect_python(ProtocolType.GRPC_WEB, google_protobuf_binary_codec(), HTTPVersion.HTTP1),
}
