"""One connection, with a server that is driven by hand: it does what servers do when they are not at their best."""

import asyncio
import contextlib

import pytest
from agent_parts import (
    Pauses,
    by_hand,
    details_header,
    error_info,
    eventually,
    framed,
    patience,
    question,
    retry_info,
    succeeded,
    text,
)
from grpclib.const import Status
from h2.events import DataReceived, PingReceived, RemoteSettingsChanged, RequestReceived, StreamReset, WindowUpdated
from h2.settings import SettingCodes

import agent.client.reply
from agent.client import CallReport, GatewayClient, GatewayError


@contextlib.asynccontextmanager
async def meeting(*, settings=None, **changes):
    """A server driven by hand and a client of it, with one connection and no second attempt."""
    async with (
        by_hand(**(settings or {})) as server,
        GatewayClient(server.url, connections=1, patience=patience(**({"attempts": 1} | changes))) as client,
    ):
        yield server, client


async def texts(client):
    return [event.text.text async for event in client.chat(question()) if event.text]


async def outcome(work):
    """What a call gives, or the error it ends with, as a value: a task group would stop at an error."""
    try:
        return await work
    except GatewayError as error:
        return error


async def test_the_request_is_grpc_as_it_is_written():
    async with meeting() as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(client.execute_tool("place_order", {}, timeout_s=4.0))
        connection = await server.connection()
        settings = await connection.until(RemoteSettingsChanged)
        assert settings.changed_settings[SettingCodes.ENABLE_PUSH].new_value == 0
        fields = dict((await connection.until(RequestReceived)).headers)
        assert fields[":method"] == "POST"
        assert fields[":path"] == "/agentic.gateway.v1.ToolService/ExecuteTool"
        assert fields[":authority"] == server.url.removeprefix("http://")
        assert fields["te"] == "trailers"
        assert fields["content-type"] == "application/grpc"
        assert 3_900 <= int(fields["grpc-timeout"].removesuffix("m")) <= 4_000
        assert "authorization" not in fields
        body = await connection.until(DataReceived)
        assert body.stream_ended
        assert int.from_bytes(body.data[1:5]) == len(body.data) - 5
        connection.head(1)
        connection.message(1, succeeded())
        connection.trailers(1)
    assert answer.result().id == "op-1"


async def test_goaway_lets_running_calls_end_and_sends_new_ones_elsewhere():
    async with meeting() as (server, client), asyncio.TaskGroup() as group:
        first = group.create_task(texts(client))
        old = await server.connection()
        await old.until(RequestReceived)
        old.head(1)
        old.message(1, text(1, "hello "))
        old.raw(7, 0, (1).to_bytes(4) + (0).to_bytes(4))  # GOAWAY, the last stream is 1
        await eventually(lambda: client._pool._lines[0]._usable() is None)
        second = group.create_task(texts(client))
        new = await server.connection()
        await new.until(RequestReceived)
        new.whole_answer(1)
        assert await second == ["hello ", "world"]
        old.message(1, text(2, "world"))
        old.message(1, b"\x08\x03\x32\x02\x08\x01")
        old.trailers(1)
        assert await first == ["hello ", "world"]
        with pytest.raises(EOFError):
            await old.until(RequestReceived)  # it closes when its last call has ended


async def test_calls_that_goaway_says_were_not_looked_at_are_made_again_elsewhere():
    pauses = Pauses()
    async with meeting(attempts=2, pauses=pauses) as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(texts(client))
        old = await server.connection()
        await old.until(RequestReceived)
        old.raw(7, 0, (0).to_bytes(4) + (0).to_bytes(4))
        new = await server.connection()
        await new.until(RequestReceived)
        new.whole_answer(1)
        assert await answer == ["hello ", "world"]
    assert len(pauses.seconds) == 1


async def test_goaway_in_the_two_steps_of_a_graceful_front_end():
    async with meeting() as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(texts(client))
        connection = await server.connection()
        await connection.until(RequestReceived)
        connection.raw(7, 0, (2**31 - 1).to_bytes(4) + (0).to_bytes(4))
        connection.raw(7, 0, (1).to_bytes(4) + (0).to_bytes(4) + b"bye")
        connection.whole_answer(1)
        assert await answer == ["hello ", "world"]


async def test_a_complete_answer_is_not_lost_to_a_connection_that_closes_right_behind_it():
    async with meeting() as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(texts(client))
        connection = await server.connection()
        await connection.until(RequestReceived)
        connection.whole_answer(1)
        connection.raw(7, 0, (1).to_bytes(4) + (0).to_bytes(4))
        connection.writer.close()
        assert await answer == ["hello ", "world"]


async def test_frames_that_nobody_knows_are_ignored():
    async with meeting() as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(texts(client))
        connection = await server.connection()
        await connection.until(RequestReceived)
        connection.raw(0xFA, 0, b"grease")
        connection.raw(0x0A, 0, b'\x00\x00h2="alt"')  # ALTSVC
        connection.h2.send_headers(1, [(":status", "103"), ("link", "x")])
        connection.whole_answer(1)
        assert await answer == ["hello ", "world"]


async def test_a_reset_stream_is_told_and_the_connection_stays():
    async with meeting() as (server, client), asyncio.TaskGroup() as group:
        refused = group.create_task(outcome(client.list_tools()))
        connection = await server.connection()
        await connection.until(RequestReceived)
        connection.raw(3, 1, (7).to_bytes(4))  # REFUSED_STREAM
        error = await refused
        assert error.reason == "gateway.unprocessed"
        assert not error.effect_unknown
        broken = group.create_task(outcome(client.list_tools()))
        await connection.until(RequestReceived, 3)
        connection.raw(3, 3, (2).to_bytes(4))  # INTERNAL_ERROR
        error = await broken
        assert error.reason == "gateway.connection_lost"
        assert "INTERNAL_ERROR" in str(error)
        assert error.effect_unknown
        odd = group.create_task(outcome(client.list_tools()))
        await connection.until(RequestReceived, 5)
        connection.raw(3, 5, (999).to_bytes(4))  # a code that nobody knows
        assert "999" in str(await odd)


async def test_a_server_that_breaks_http2_is_left():
    async with meeting() as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(outcome(client.list_tools()))
        connection = await server.connection()
        await connection.until(RequestReceived)
        connection.raw(1, 1, b"\xff\xff\xff\xff\xff", flags=4)  # not HPACK
        error = await answer
        assert error.reason == "gateway.connection_lost"
        assert "broke HTTP/2" in str(error)


async def test_silence_is_asked_for_a_sign_of_life_and_then_given_up():
    async with meeting(silence_s=0.03) as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(outcome(client.list_tools()))
        connection = await server.connection()
        await connection.until(RequestReceived)
        started = asyncio.get_running_loop().time()
        error = await asyncio.wait_for(answer, 2)  # nothing here answers the ping
        assert error.reason == "gateway.connection_lost"
        assert "silent" in str(error)
        assert 0.05 <= asyncio.get_running_loop().time() - started <= 0.5


async def test_a_server_that_answers_pings_is_waited_for():
    async with meeting(silence_s=0.02) as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(outcome(client.list_tools()))
        connection = await server.connection()
        await connection.until(RequestReceived)
        for _ in range(4):
            await connection.until(PingReceived)  # which answers it
        assert not answer.done()
        connection.head(1, ("grpc-status", "5"), ("gateway-request", "r"), end=True)
        assert (await answer).status is Status.NOT_FOUND


async def test_an_idle_connection_is_not_asked():
    async with meeting(silence_s=0.04) as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(outcome(client.list_tools()))
        connection = await server.connection()
        await connection.until(RequestReceived)
        connection.head(1, ("grpc-status", "5"), ("gateway-request", "r"), end=True)
        await answer
        await connection.settle()
        asked = connection.frames(6)
        await asyncio.sleep(0.15)
        await connection.settle()
        assert connection.frames(6) == asked
        assert client._pool._lines[0]._usable()


async def test_the_deadline_passes_here_too_and_says_what_may_have_happened():
    async with meeting() as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(outcome(client.execute_tool("place_order", {}, timeout_s=0.03)))
        connection = await server.connection()
        await connection.until(RequestReceived)
        error = await asyncio.wait_for(answer, 2)
        assert (error.status, error.reason) == (Status.DEADLINE_EXCEEDED, "deadline.exceeded")
        assert "may have happened" in error.sentence
        assert error.effect_unknown
        assert (await connection.until(StreamReset)).error_code == 8


async def test_no_message_and_ok_is_an_error():
    async with meeting() as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(outcome(client.execute_tool("place_order", {})))
        connection = await server.connection()
        await connection.until(RequestReceived)
        connection.head(1, ("grpc-status", "0"), end=True)
        error = await answer
        assert error.reason == "gateway.answer_miscounted"
        assert error.status is Status.UNIMPLEMENTED
        assert error.effect_unknown


async def test_an_answer_with_a_length_is_read_as_http_has_it():
    async with meeting() as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(client.execute_tool("place_order", {}))
        connection = await server.connection()
        await connection.until(RequestReceived)
        body = framed(succeeded())
        connection.head(1, ("content-length", str(len(body))))
        connection.h2.send_data(1, body[:7])
        connection.h2.send_data(1, body[7:])
        connection.trailers(1)
        assert (await answer).id == "op-1"
        assert client._pool._lines[0]._usable()


@pytest.mark.parametrize("status", ["0", "9"])
async def test_headers_before_a_message_cannot_say_how_the_call_ended(status):
    async with meeting() as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(outcome(client.execute_tool("place_order", {})))
        connection = await server.connection()
        await connection.until(RequestReceived)
        connection.head(1, ("grpc-status", status))
        connection.h2.send_data(1, framed(succeeded()), end_stream=True)
        connection.flush()
        error = await answer
        assert error.status is Status.UNKNOWN
        assert error.effect_unknown


@pytest.mark.parametrize("timeout_s, status", [(0.05, Status.DEADLINE_EXCEEDED), (5.0, Status.UNAVAILABLE)])
async def test_a_server_that_cancels_at_the_deadline_is_late(timeout_s, status, monkeypatch):
    monkeypatch.setattr(agent.client.reply, "ROUNDING_S", 1.0)
    async with meeting() as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(outcome(client.execute_tool("place_order", {}, timeout_s=timeout_s)))
        connection = await server.connection()
        await connection.until(RequestReceived)
        connection.raw(3, 1, (8).to_bytes(4))  # CANCEL
        error = await answer
        assert error.status is status
        assert error.effect_unknown


async def test_a_message_that_is_cut_off_is_an_error_although_the_call_ends_well():
    async with meeting() as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(outcome(client.execute_tool("place_order", {})))
        connection = await server.connection()
        await connection.until(RequestReceived)
        connection.head(1)
        connection.h2.send_data(1, framed(succeeded())[:-2])
        connection.trailers(1)
        error = await answer
        assert error.reason == "gateway.answer_unreadable"
        assert "cut off" in error.sentence


async def test_a_second_message_of_a_unary_call_is_an_error():
    async with meeting() as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(outcome(client.execute_tool("place_order", {})))
        connection = await server.connection()
        await connection.until(RequestReceived)
        connection.head(1)
        connection.message(1, succeeded())
        connection.message(1, succeeded())
        connection.trailers(1)
        assert (await answer).reason == "gateway.answer_miscounted"


async def test_a_status_after_the_message_counts():
    async with meeting() as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(outcome(client.execute_tool("place_order", {})))
        connection = await server.connection()
        await connection.until(RequestReceived)
        connection.head(1, ("gateway-request", "req-1"))
        connection.message(1, succeeded())
        connection.trailers(1, ("grpc-message", "lost%20it"), status="13")
        error = await answer
        assert (error.status, error.sentence, error.request_id) == (Status.INTERNAL, "lost it", "req-1")


async def test_a_message_over_the_bound_is_refused_before_it_is_received():
    async with meeting() as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(outcome(client.execute_tool("place_order", {})))
        connection = await server.connection()
        await connection.until(RequestReceived)
        connection.head(1)
        connection.h2.send_data(1, b"\0" + (16 * 1024 * 1024 + 1).to_bytes(4) + b"begin")
        connection.flush()
        error = await answer
        assert error.reason == "gateway.answer_unreadable"
        assert "16777217 bytes" in str(error)
        assert (await connection.until(StreamReset)).error_code == 8


async def test_a_message_larger_than_the_window_arrives_whole():
    operation = succeeded(result='{"rows": "' + "x" * 3_000_000 + '"}')
    async with meeting() as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(client.execute_tool("place_order", {}))
        connection = await server.connection()
        await connection.until(RequestReceived)
        connection.head(1)
        body = framed(operation)
        while body:
            room = min(connection.h2.local_flow_control_window(1), 16_384)
            if not room:
                await connection.until(WindowUpdated, 1)
                continue
            connection.h2.send_data(1, body[:room])
            connection.flush()
            body = body[room:]
        connection.trailers(1)
    assert answer.result() == operation


async def test_a_large_request_waits_for_the_servers_window():
    arguments = '{"text": "' + "x" * 300_000 + '"}'
    async with meeting() as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(client.execute_tool("place_order", arguments))
        connection = await server.connection()
        await connection.until(RequestReceived)
        received = b""
        while True:
            data = await connection.until(DataReceived)
            received += data.data
            if data.stream_ended:
                break
        assert arguments.encode() in received
        connection.head(1)
        connection.message(1, succeeded())
        connection.trailers(1)
    assert answer.result().id == "op-1"


async def test_an_answer_that_comes_before_the_request_was_sent_ends_the_sending():
    async with meeting() as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(outcome(client.execute_tool("place_order", '"' + "x" * 300_000 + '"')))
        connection = await server.connection()
        while not [event for event in connection.seen if isinstance(event, DataReceived)]:
            connection.seen += connection.h2.receive_data(await connection.reader.read(65_536))  # opens no window
        connection.head(1, ("grpc-status", "3"), ("gateway-request", "r"), ("grpc-message", "too large"), end=True)
        error = await asyncio.wait_for(answer, 2)
        assert error.sentence == "too large"
        assert (await connection.until(StreamReset)).stream_id == 1


async def test_an_edge_that_gives_up_while_the_request_is_sent_means_that_nothing_happened():
    async with meeting() as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(outcome(client.execute_tool("place_order", '"' + "x" * 300_000 + '"')))
        connection = await server.connection()
        while not [event for event in connection.seen if isinstance(event, DataReceived)]:
            connection.seen += connection.h2.receive_data(await connection.reader.read(65_536))
        connection.head(1, status="503", content_type="text/html")
        error = await asyncio.wait_for(answer, 2)
        assert error.reason == "edge.unavailable"
        assert not error.effect_unknown


async def test_a_request_that_the_server_never_takes_ends_with_the_deadline_and_nothing_is_left():
    async with meeting() as (server, client), asyncio.TaskGroup() as group:
        large = '"' + "x" * 300_000 + '"'
        answer = group.create_task(outcome(client.execute_tool("place_order", large, timeout_s=0.05)))
        connection = await server.connection()
        error = await asyncio.wait_for(answer, 2)
        assert (error.reason, error.effect_unknown) == ("deadline.exceeded", False)
        assert "It was not sent" in error.sentence
        assert not client._pool._lines[0]._usable().processor.replies
        assert connection is not None


async def test_a_caller_who_leaves_while_the_request_is_sent_leaves_nothing_behind():
    async with meeting() as (server, client):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.execute_tool("place_order", '"' + "x" * 300_000 + '"')
        assert not client._pool._lines[0]._usable().processor.replies
        connection = await server.connection()
        assert (await connection.until(StreamReset)).error_code == 8


async def test_a_connection_lost_while_the_request_is_sent_means_that_it_was_not_processed():
    async with meeting() as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(outcome(client.execute_tool("place_order", '"' + "x" * 300_000 + '"')))
        connection = await server.connection()
        while not [event for event in connection.seen if isinstance(event, DataReceived)]:
            connection.seen += connection.h2.receive_data(await connection.reader.read(65_536))
        connection.writer.transport.abort()
        error = await asyncio.wait_for(answer, 2)
        assert error.reason == "gateway.unprocessed"
        assert not error.effect_unknown


async def test_a_server_that_takes_one_stream_at_a_time_gets_one_at_a_time():
    async with meeting(settings={"MAX_CONCURRENT_STREAMS": 1}) as (server, client), asyncio.TaskGroup() as group:
        first = group.create_task(texts(client))
        connection = await server.connection()
        await connection.until(RequestReceived, 1)
        second = group.create_task(texts(client))
        await connection.settle()
        assert not [event for event in connection.seen if isinstance(event, RequestReceived)]  # it waits
        connection.whole_answer(1)
        assert await first == ["hello ", "world"]
        await connection.until(RequestReceived, 3)
        connection.whole_answer(3)
        assert await second == ["hello ", "world"]


async def test_who_waits_for_a_stream_hears_when_the_connection_is_lost():
    async with meeting(settings={"MAX_CONCURRENT_STREAMS": 1}) as (server, client), asyncio.TaskGroup() as group:
        first = group.create_task(outcome(client.list_tools()))
        connection = await server.connection()
        await connection.until(RequestReceived, 1)
        second = group.create_task(outcome(client.execute_tool("place_order", {})))
        await asyncio.sleep(0.02)
        connection.writer.transport.abort()
        assert (await asyncio.wait_for(first, 2)).reason == "gateway.connection_lost"
        error = await asyncio.wait_for(second, 2)
        assert error.reason == "gateway.unprocessed"
        assert not error.effect_unknown


@pytest.mark.parametrize(
    "value", ["not base64!", "AAAA", details_header()[:-3], "/////w==", "\u00e4".encode("latin-1").decode("latin-1")]
)
async def test_details_that_cannot_be_read_are_as_good_as_absent(value):
    async with meeting() as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(outcome(client.list_tools()))
        connection = await server.connection()
        await connection.until(RequestReceived)
        connection.head(1, ("grpc-status", "7"), ("gateway-request", "r"), ("grpc-status-details-bin", value), end=True)
        error = await answer
        assert (error.status, error.reason) == (Status.PERMISSION_DENIED, "status.permission_denied")


async def test_garbage_beside_good_details_takes_nothing_from_them():
    async with meeting() as (server, client), asyncio.TaskGroup() as group:
        answer = group.create_task(outcome(client.list_tools()))
        connection = await server.connection()
        await connection.until(RequestReceived)
        broken = retry_info(1)
        broken.value = b"\xff\xff\xff"
        value = details_header(broken, error_info("limit.notional", rules="a"))
        connection.head(1, ("grpc-status", "7"), ("grpc-status-details-bin", value), end=True)
        error = await answer
        assert (error.reason, error.rules, error.retry_after_s) == ("limit.notional", ("a",), None)


async def test_closing_the_client_ends_running_calls_and_its_connections():
    async with by_hand() as server:
        client = GatewayClient(server.url, connections=1, patience=patience(attempts=1))
        async with asyncio.TaskGroup() as group:
            async with client:
                answer = group.create_task(outcome(client.list_tools(report=CallReport())))
                connection = await server.connection()
                await connection.until(RequestReceived)
            error = await asyncio.wait_for(answer, 2)
        assert "the client was closed" in str(error)
        with pytest.raises((EOFError, ConnectionError)):
            await connection.until(StreamReset)
