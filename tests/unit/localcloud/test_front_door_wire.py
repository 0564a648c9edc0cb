"""The door frame by frame: resets, GOAWAY, early answers, limits, and peers that break the protocol."""

import asyncio
import socket

import pytest
from front_door_parts import container, edge, raw_container
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    InformationalResponseReceived,
    RemoteSettingsChanged,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame

from localcloud.front_door import link

HEAD = [(":status", "200"), ("content-type", "application/grpc+bytes")]


async def pair(all_, arrived, **request):
    """Return the client's and the container's ends of one request that the door has passed on, with its numbers."""
    raw = await all_.raw()
    number = raw.request(all_.token(), **request)
    behind = await arrived.get()
    return raw, number, behind, (await behind.until(RequestReceived)).stream_id


async def test_the_door_announces_a_hundred_streams():
    async with edge() as all_:
        raw = await all_.raw()
        changed = (await raw.until(RemoteSettingsChanged)).changed_settings
        assert changed[SettingCodes.MAX_CONCURRENT_STREAMS].new_value == 100


async def test_the_hundred_and_first_stream_is_refused_and_the_others_live():
    async with edge() as all_:
        raw = await all_.raw()
        numbers = [raw.request(all_.token(), path="/test.Echo/Hang", end=False) for _ in range(101)]
        assert (await raw.until(StreamReset)).stream_id == numbers[-1]
        raw.h2.reset_stream(numbers[0], ErrorCodes.CANCEL)
        again = raw.request("nonsense")
        assert dict((await raw.until(ResponseReceived, again)).headers)[b":status"] == b"401"


async def test_a_reset_of_the_client_reaches_the_container_with_its_code():
    async with raw_container() as (arrived, port), edge(container_port=port) as all_:
        for code, expected in ((ErrorCodes.CANCEL, 8), (ErrorCodes.NO_ERROR, 8), (ErrorCodes.INTERNAL_ERROR, 2)):
            raw, number, behind, inner = await pair(all_, arrived, end=False)
            raw.h2.reset_stream(number, code)
            raw.flush()
            assert (await behind.until(StreamReset, inner)).error_code == expected
            arrived.put_nowait(behind)  # the next request comes on the same connection


async def test_a_reset_after_the_response_began_reaches_the_client_with_its_code():
    async with raw_container() as (arrived, port), edge(container_port=port) as all_:
        raw, number, behind, inner = await pair(all_, arrived)
        behind.h2.send_headers(inner, HEAD)
        behind.flush()
        await raw.until(ResponseReceived, number)
        behind.h2.reset_stream(inner, ErrorCodes.ENHANCE_YOUR_CALM)
        behind.flush()
        assert (await raw.until(StreamReset, number)).error_code == ErrorCodes.ENHANCE_YOUR_CALM
        assert (await all_.ended())[0].reason == "container-reset"


@pytest.mark.parametrize("how", ["reset", "lost"])
async def test_a_container_that_gives_up_before_it_answers_is_a_503(how):
    async with raw_container() as (arrived, port), edge(container_port=port) as all_:
        raw, number, behind, inner = await pair(all_, arrived)
        if how == "reset":
            behind.h2.reset_stream(inner, ErrorCodes.INTERNAL_ERROR)
            behind.flush()
        else:
            behind.close()
        assert dict((await raw.until(ResponseReceived, number)).headers)[b":status"] == b"503"
        await raw.until(StreamEnded, number)


async def test_a_lost_container_ends_the_reply_that_it_had_begun():
    async with raw_container() as (arrived, port), edge(container_port=port) as all_:
        raw, number, behind, inner = await pair(all_, arrived)
        behind.h2.send_headers(inner, HEAD)
        behind.h2.send_data(inner, b"half of it")
        behind.flush()
        assert (await raw.until(DataReceived, number)).data == b"half of it"
        behind.close()
        assert (await raw.until(StreamReset, number)).error_code == ErrorCodes.INTERNAL_ERROR


async def test_trailers_of_both_sides_and_informational_heads_pass():
    async with raw_container() as (arrived, port), edge(container_port=port) as all_:
        raw, number, behind, inner = await pair(all_, arrived, end=False)
        raw.h2.send_data(number, b"body")
        raw.h2.send_headers(number, [("checksum", "1")], end_stream=True)
        raw.flush()
        assert (await behind.until(DataReceived, inner)).data == b"body"
        assert list((await behind.until(TrailersReceived, inner)).headers) == [(b"checksum", b"1")]
        behind.h2.send_headers(inner, [(":status", "103")])
        behind.h2.send_headers(inner, HEAD)
        behind.h2.send_headers(inner, [("grpc-status", "0")], end_stream=True)
        behind.flush()
        await raw.until(InformationalResponseReceived, number)
        await raw.until(ResponseReceived, number)
        assert list((await raw.until(TrailersReceived, number)).headers) == [(b"grpc-status", b"0")]


async def test_an_answer_of_headers_alone_stays_one_frame():
    async with raw_container() as (arrived, port), edge(container_port=port) as all_:
        raw, number, behind, inner = await pair(all_, arrived)
        behind.h2.send_headers(inner, [*HEAD, ("grpc-status", "5")], end_stream=True)
        behind.flush()
        assert (await raw.until(ResponseReceived, number)).stream_ended is not None


async def test_an_answer_before_the_request_has_ended_comes_whole_and_then_the_rest_is_declined():
    async with raw_container() as (arrived, port), edge(container_port=port) as all_:
        raw, number, behind, inner = await pair(all_, arrived, end=False)
        behind.h2.send_headers(inner, HEAD)
        behind.h2.send_data(inner, b"x" * 16_000)
        behind.h2.send_headers(inner, [("grpc-status", "8")], end_stream=True)
        behind.h2.reset_stream(inner, ErrorCodes.NO_ERROR)
        behind.flush()
        assert len((await raw.until(DataReceived, number)).data) == 16_000
        await raw.until(TrailersReceived, number)
        assert (await raw.until(StreamReset, number)).error_code == ErrorCodes.NO_ERROR
        assert (await all_.ended())[0].status == 200


async def test_an_answer_of_the_edge_comes_whole_to_a_client_that_has_not_ended():
    async with edge() as all_:
        raw = await all_.raw()
        number = raw.request("nonsense", end=False)
        await raw.until(StreamEnded, number)
        assert (await raw.until(StreamReset, number)).error_code == ErrorCodes.NO_ERROR


async def test_after_a_goaway_new_calls_take_a_new_connection_and_the_old_one_finishes():
    async with raw_container() as (arrived, port), edge(container_port=port) as all_:
        raw, number, behind, inner = await pair(all_, arrived)
        behind.writer.write(GoAwayFrame(0, last_stream_id=inner, error_code=0).serialize())
        await asyncio.sleep(0.02)
        second = raw.request(all_.token())
        fresh = await arrived.get()
        other = (await fresh.until(RequestReceived)).stream_id
        for end, stream in ((behind, inner), (fresh, other)):
            end.h2.send_headers(stream, HEAD)
            end.h2.send_data(stream, b"done", end_stream=True)
            end.flush()
        assert (await raw.until(DataReceived, number)).data == b"done"
        assert (await raw.until(DataReceived, second)).data == b"done"
        assert await behind.reader.read() == b""  # the drained connection is closed behind its last stream


async def test_a_call_that_a_goaway_leaves_out_is_a_503():
    async with raw_container() as (arrived, port), edge(container_port=port) as all_:
        raw, number, behind, inner = await pair(all_, arrived)
        behind.writer.write(GoAwayFrame(0, last_stream_id=inner - 1, error_code=0).serialize())
        assert dict((await raw.until(ResponseReceived, number)).headers)[b":status"] == b"503"


async def test_a_container_with_few_streams_gets_a_second_connection():
    async with raw_container() as (arrived, port), edge(container_port=port) as all_:
        raw, _, behind, _ = await pair(all_, arrived)
        behind.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
        behind.flush()
        await asyncio.sleep(0.02)
        raw.request(all_.token())
        await (await arrived.get()).until(RequestReceived)


async def test_the_request_of_a_client_that_leaves_while_it_waits_never_reaches_the_container():
    async with container() as (_, port):
        pass
    async with edge(container_port=port, start_seconds=5.0) as all_:
        raw = await all_.raw()
        number = raw.request(all_.token())
        await asyncio.sleep(0.02)
        raw.h2.reset_stream(number, ErrorCodes.CANCEL)
        raw.flush()
        (entry,) = await all_.ended()
        assert (entry.status, entry.reason) == (0, "client-left")
        async with container(port) as (echo, _):
            assert await all_.client().unary() == b"hello"
            assert len(echo.metadata) == 1


async def test_an_http1_client_is_told_what_to_speak():
    async with edge() as all_:
        reader, writer = await asyncio.open_connection(all_.door.host, all_.door.port)
        writer.write(b"GET / HTTP/1.1\r\nhost: gateway\r\n\r\n")
        reply = await reader.read()
        assert reply.startswith(b"HTTP/1.1 505 ")
        assert b"HTTP/2" in reply.partition(b"\r\n\r\n")[2]
        writer.close()


async def test_a_preface_that_comes_byte_by_byte_is_recognised():
    async with edge() as all_:
        reader, writer = await asyncio.open_connection(all_.door.host, all_.door.port)
        for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        writer.write(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        assert (await reader.readexactly(9))[3] == 4  # the door's SETTINGS
        writer.close()


async def test_a_client_that_breaks_the_protocol_gets_a_goaway_and_its_calls_are_cancelled():
    async with raw_container() as (arrived, port), edge(container_port=port) as all_:
        raw, _, behind, inner = await pair(all_, arrived, end=False)
        raw.writer.write(b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x")  # DATA on stream 0 (RFC 9113 section 6.1)
        assert (await raw.until(ConnectionTerminated)).error_code == ErrorCodes.PROTOCOL_ERROR
        assert (await behind.until(StreamReset, inner)).error_code == ErrorCodes.CANCEL


async def test_padding_does_not_eat_the_window():
    async with edge() as all_, all_.client().open("Upload") as probe:
        all_.echo.gate.set()
        await probe.send_message(b"", end=True)
        raw = await all_.raw()
        await raw.until(RemoteSettingsChanged)
        number = raw.request(all_.token(), path="/test.Echo/Upload", end=False)
        sent = 0
        async with asyncio.timeout(5):
            while sent < 2000:
                if raw.h2.local_flow_control_window(number) < 300:
                    raw.seen += raw.h2.receive_data(await raw.reader.read(65_536))
                    continue
                raw.h2.send_data(number, b"\x00\x00\x00\x00\x00", pad_length=250)
                raw.flush()
                sent += 1
        raw.h2.end_stream(number)
        raw.flush()
        await raw.until(TrailersReceived, number)


async def test_a_client_that_grants_window_but_does_not_read_slows_the_container():
    async with edge() as all_:
        raw = await all_.raw()
        await raw.until(RemoteSettingsChanged)
        raw.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1})
        raw.h2.increment_flow_control_window(2**31 - 1 - 65_535)
        number = raw.request(all_.token(), path="/test.Echo/Download", end=False)
        raw.h2.send_data(number, b"\x00\x00\x00\x00\x041500", end_stream=True)
        raw.flush()
        before = -1
        while before != all_.echo.sent:
            before = all_.echo.sent
            await asyncio.sleep(0.05)
        assert all_.echo.sent < 1000  # the kernel's buffers take some megabytes, the door next to nothing
        received = 0
        while received < 1500 * 16_389:
            received += len((await raw.until(DataReceived, number)).data)
        await raw.until(TrailersReceived, number)


async def test_a_client_that_lets_replies_pile_up_is_cut_off(monkeypatch):
    monkeypatch.setattr(link, "_MAX_UNSENT", 65_536)
    async with edge() as all_:
        raw = await all_.raw()
        await raw.until(RemoteSettingsChanged)
        (inside,) = all_.door._clients
        inside.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        raw.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        async def flood():
            async with asyncio.timeout(10):
                while True:  # pings, whose answers nobody reads
                    raw.writer.write(b"\x00\x00\x08\x06\x00\x00\x00\x00\x00ping-old" * 500)
                    await raw.writer.drain()
                    await asyncio.sleep(0)

        with pytest.raises(ConnectionError):
            await flood()
