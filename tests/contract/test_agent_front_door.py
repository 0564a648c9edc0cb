"""The agent's client against Cloud Run's edge: real tokens, the edge's own answers, and what they are taken for."""

import asyncio
import contextlib
import dataclasses

import grpclib.const
import grpclib.server
import pytest
from grpclib.const import Cardinality, Status
from grpclib.encoding.base import CodecBase

from agent.client import CallReport, GatewayClient, GatewayError, Patience
from agent.client.contract import ChatRequest, Content, Part, Role
from agent.tokens import MetadataTokens, TokenError
from generated.agentic.gateway.v1 import ChatEvent, Finish, FinishReason, Operation, OperationState, TextDelta
from generated.agentic.gateway.v1.codec import CODECS
from generated.agentic.gateway.v1.services import METHODS
from localcloud.front_door import DoorConfig, FrontDoor
from localcloud.google import GoogleConfig, LocalGoogle, TokenAge

AUDIENCE = "https://gateway-123.us-central1.run.app"
AGENT = "sa-agent@local-project.iam.gserviceaccount.com"
STRANGER = "sa-stranger@local-project.iam.gserviceaccount.com"
QUESTION = ChatRequest(model="flash", contents=[Content(role=Role.USER, parts=[Part(text="hello")])])


class Codec(CodecBase):
    __content_subtype__ = "proto"

    def encode(self, message, message_type):
        return CODECS[message_type].encode(message)

    def decode(self, data, message_type):
        return CODECS[message_type].decode(data)


class Container:
    """The gateway's container: answers every tool call, and chats until it is told to stop."""

    def __init__(self):
        self.metadata = []
        self.keys = []
        self.silent = False
        self.left = asyncio.Event()
        self.gate = asyncio.Event()

    async def chat(self, stream):
        self.metadata.append(dict(stream.metadata))
        await stream.recv_message()
        await stream.send_initial_metadata(metadata={"gateway-request": "req-1"})
        await stream.send_message(ChatEvent(sequence=1, text=TextDelta(text="first")))
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.left.set()
            raise
        await stream.send_message(ChatEvent(sequence=2, finish=Finish(reason=FinishReason.STOP)))

    async def execute(self, stream):
        self.metadata.append(dict(stream.metadata))
        self.keys.append((await stream.recv_message()).idempotency_key)
        if self.silent:
            await self.gate.wait()
        await stream.send_initial_metadata(metadata={"gateway-request": "req-1"})
        await stream.send_message(Operation(id="op-1", state=OperationState.SUCCEEDED, result_json="{}"))

    def __mapping__(self):
        served = {"Chat": (self.chat, Cardinality.UNARY_STREAM), "ExecuteTool": (self.execute, Cardinality.UNARY_UNARY)}
        return {
            method.path: grpclib.const.Handler(*served[method.name], method.request, method.reply)
            for method in METHODS
            if method.name in served
        }


class Town:
    """A local Google, a container behind a front door, and the makings of clients."""

    def __init__(self, google, container, door, stack):
        self.google = google
        self.container = container
        self.door = door
        self._stack = stack

    async def client(self, identity="agent", audience=AUDIENCE, *, tokens=True, **patience):
        source = None
        if tokens:
            source = await self._stack.enter_async_context(MetadataTokens(self.google.metadata_address(identity)))
        given = {"attempts": 1, "first_pause_s": 0.001, "timeout_s": 5.0} | patience
        client = GatewayClient(self.door.url, source, audience=audience, connections=1, patience=Patience(**given))
        return await self._stack.enter_async_context(client)


@contextlib.asynccontextmanager
async def town(*, token_age=None, listening=True, **changes):
    async with contextlib.AsyncExitStack() as stack:
        identities = {"agent": AGENT, "stranger": STRANGER}
        google = await stack.enter_async_context(
            LocalGoogle(GoogleConfig(identities=identities, token_age=token_age or TokenAge()))
        )
        container = Container()
        server = grpclib.server.Server([container], codec=Codec())
        await server.start("127.0.0.1", 0)
        port = server._server.sockets[0].getsockname()[1]
        if listening:
            stack.callback(server.close)
        else:
            server.close()
            await server.wait_closed()
        config = DoorConfig(
            container_host="127.0.0.1",
            container_port=port,
            audiences=(AUDIENCE,),
            invokers=(f"serviceAccount:{AGENT}",),
            certs_url=google.certs_url,
            start_seconds=0.1,
            reconnect_seconds=0.1,
            drain_seconds=0.05,
        )
        door = await stack.enter_async_context(FrontDoor(dataclasses.replace(config, **changes)))
        clients = await stack.enter_async_context(contextlib.AsyncExitStack())
        yield Town(google, container, door, clients)


async def refused(client):
    with pytest.raises(GatewayError) as caught:
        await client.execute_tool("place_order", {})
    return caught.value


async def test_a_call_with_the_agents_own_token_goes_through():
    async with town() as at:
        client = await at.client()
        operation = await client.execute_tool("place_order", {})
    assert operation.state is OperationState.SUCCEEDED
    assert at.container.metadata[0]["authorization"].endswith(".SIGNATURE_REMOVED_BY_GOOGLE")


async def test_401_another_audience_is_explained():
    async with town() as at:
        error = await refused(await at.client(audience="https://another.run.app"))
    assert (error.status, error.reason) == (Status.UNAUTHENTICATED, "edge.unauthenticated")
    assert "audience must be the gateway's own URL (GATEWAY_AUDIENCE)" in error.sentence
    assert error.from_edge
    assert not error.effect_unknown
    assert at.container.keys == []


async def test_401_a_refused_token_is_forgotten_and_the_call_made_once_more_with_a_new_one():
    async with town(token_age=TokenAge(born=0)) as at:
        client = await at.client()
        await client.execute_tool("place_order", {}, key="first")
        at.google.issuer.rotate(keep_old=False)
        at.door._services.edge._verified.clear()  # what the edge remembers of the old key
        at.door._services.edge._keys._keys = {}
        report = CallReport()
        await client.execute_tool("place_order", {}, key="second", report=report)
        assert report.attempts == 2
        assert at.google.metadata["agent"].requests["identity"] == 2
    assert at.container.keys == ["first", "second"]


async def test_401_is_not_tried_a_third_time():
    async with town() as at:
        client = await at.client(audience="https://another.run.app", attempts=5)
        report = CallReport()
        with pytest.raises(GatewayError):
            await client.execute_tool("place_order", {}, report=report)
        assert report.attempts == 2


async def test_403_a_stranger_is_told_what_is_missing():
    async with town() as at:
        error = await refused(await at.client("stranger", attempts=5))
        assert len(at.door.entries) == 1  # and it is not tried again
    assert (error.status, error.reason) == (Status.PERMISSION_DENIED, "edge.permission_denied")
    assert "grant roles/run.invoker" in error.sentence


async def test_403_without_a_token():
    async with town() as at:
        error = await refused(await at.client(tokens=False))
    assert error.reason == "edge.permission_denied"


async def test_404_ingress():
    async with town(ingress="none") as at:
        error = await refused(await at.client())
    assert (error.status, error.reason) == (Status.UNIMPLEMENTED, "edge.unimplemented")
    assert "ingress setting" in error.sentence
    assert not error.effect_unknown


async def test_429_no_instance_is_tried_again():
    async with town(concurrency=1, pending_seconds=0.02) as at:
        client = await at.client(attempts=2)
        async with contextlib.aclosing(client.chat(QUESTION)) as events:
            await anext(events)  # takes the only place
            report = CallReport()
            with pytest.raises(GatewayError) as caught:
                await client.execute_tool("place_order", {}, report=report)
            assert report.attempts == 2
    assert caught.value.status is Status.UNAVAILABLE
    assert "no free instance" in caught.value.sentence
    assert not caught.value.effect_unknown


async def test_500_no_instance_starts():
    async with town(listening=False) as at:
        error = await refused(await at.client())
    assert "No instance of the gateway could be started" in error.sentence
    assert error.from_edge


async def test_503_an_instance_that_breaks_off_is_tried_again_and_may_have_worked():
    async def accept(reader, writer):
        writer.close()

    broken = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        async with town(container_port=broken.sockets[0].getsockname()[1]) as at:
            client = await at.client(attempts=2)
            report = CallReport()
            with pytest.raises(GatewayError) as caught:
                await client.execute_tool("place_order", {}, report=report)
            assert report.attempts == 2
    finally:
        broken.close()
        await broken.wait_closed()
    assert caught.value.status is Status.UNAVAILABLE
    assert "(HTTP 503)" in caught.value.sentence
    assert caught.value.effect_unknown


async def test_504_is_not_tried_again_and_may_have_happened():
    async with town(timeout_seconds=0.05) as at:
        at.container.silent = True
        error = await refused(await at.client(attempts=5))
        assert len(at.door.entries) == 1
    assert error.status is Status.UNAVAILABLE
    assert "request timeout" in error.sentence
    assert error.effect_unknown


async def test_leaving_early_reaches_the_container_through_the_edge():
    async with town() as at:
        client = await at.client()
        async for event in client.chat(QUESTION):
            assert event.text.text == "first"
            break
        await asyncio.wait_for(at.container.left.wait(), 2)


async def test_an_edge_that_goes_away_lets_a_running_answer_end():
    async with town(drain_seconds=2.0) as at:
        client = await at.client()
        events = client.chat(QUESTION)
        assert (await anext(events)).text.text == "first"
        for link in at.door._clients:
            link.go_away()
        await asyncio.sleep(0.01)
        at.container.gate.set()
        assert [event.sequence async for event in events] == [2]
        await client.execute_tool("place_order", {})  # on a new connection


async def test_a_metadata_server_without_the_account_is_told_before_anything_is_sent():
    async with town() as at:
        at.google.metadata["agent"]._tree = {"computeMetadata": {"v1": {"instance": {"service-accounts": {}}}}}
        client = await at.client()
        with pytest.raises(TokenError, match="no service account here"):
            await client.execute_tool("place_order", {})
        assert at.door.entries == ()
