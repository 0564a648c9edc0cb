import asyncio
import contextlib
import gc

import pytest
from agent_parts import (
    Pauses,
    StandIn,
    by_hand,
    eventually,
    finish,
    patience,
    question,
    refusal,
    retry_info,
    talking,
    text,
    two_words,
)
from grpclib.const import Status
from h2.events import RequestReceived, StreamReset

from agent.client import CallReport, GatewayClient, GatewayError


async def test_events_come_as_they_are_sent_and_end_well():
    async with talking() as (_, client):
        report = CallReport()
        events = [event async for event in client.chat(question(), report=report)]
    assert [event.text.text for event in events[:2]] == ["hello ", "world"]
    assert events[2].finish.operation_id == "op-chat"
    assert report.attempts == 1
    assert report.metadata["gateway-timing"] == "policy;dur=0.1"


async def test_an_event_is_there_long_before_the_last_one():
    service = StandIn()

    async def slow(stream):
        await stream.send_message(text(1, "first"))
        await service.gate.wait()
        await stream.send_message(finish(2))

    service.chat = slow
    async with talking(service) as (_, client), contextlib.aclosing(client.chat(question())) as events:
        first = await asyncio.wait_for(anext(events), 2)
        assert first.text.text == "first"
        service.gate.set()
        assert (await anext(events)).finish is not None


async def test_leaving_the_iteration_ends_the_call_at_the_gateway():
    service = StandIn()

    async def endless(stream):
        for number in range(1, 100_000):
            await stream.send_message(text(number, "word "))
            await asyncio.sleep(0)

    service.chat = endless
    async with talking(service) as (_, client):
        async with contextlib.aclosing(client.chat(question())) as events:
            async for _ in events:
                break
        await asyncio.wait_for(service.left.wait(), 2)


async def test_leaving_without_closing_the_iterator_ends_the_call_too():
    service = StandIn()

    async def silent(stream):
        await stream.send_message(text(1, "word"))
        await service.hang(stream)

    service.chat = silent
    async with talking(service) as (_, client):
        async for _ in client.chat(question()):
            break
        gc.collect()
        await asyncio.wait_for(service.left.wait(), 2)


async def test_cancelling_the_reader_ends_the_call_at_the_gateway():
    service = StandIn()
    service.chat = service.hang
    async with talking(service) as (_, client):

        async def read():
            async for _ in client.chat(question()):
                pass

        async with asyncio.TaskGroup() as group:
            reader = group.create_task(read())
            await service.began.wait()
            reader.cancel()
        await asyncio.wait_for(service.left.wait(), 2)


async def test_who_leaves_sends_exactly_one_reset_however_much_is_under_way():
    async with by_hand() as server, GatewayClient(server.url, connections=1, patience=patience()) as client:
        events = client.chat(question())
        async with asyncio.TaskGroup() as group:
            first = group.create_task(anext(events))
            connection = await server.connection()
            await connection.until(RequestReceived)
            connection.head(1)
            for number in range(1, 301):
                connection.message(1, text(number, "word"))
        assert first.result().sequence == 1
        await events.aclose()
        reset = await connection.until(StreamReset)
        assert reset.error_code == 8  # CANCEL
        for _ in range(300):  # under way when the reset came
            connection.raw(0, 1, b"\0\0\0\0\1x")
        connection.raw(1, 1, b"\x88", flags=4)
        # The next call works, and nothing but its own frames came: no reset for each late frame.
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(_texts(client))
            await connection.until(RequestReceived, 3)
            connection.whole_answer(3)
        assert answer.result() == ["hello ", "world"]
        assert connection.frames(3) == 1


async def test_the_window_of_what_nobody_reads_is_given_back():
    async with by_hand() as server, GatewayClient(server.url, connections=1, patience=patience()) as client:
        connection = None
        for number in range(1, 601, 2):
            events = client.chat(question())
            async with asyncio.TaskGroup() as group:
                group.create_task(anext(events))
                connection = connection or await server.connection()
                await connection.until(RequestReceived, number)
                connection.head(number)
                connection.message(number, text(1, "word"))
                for _ in range(5):
                    connection.raw(0, number, b"\0\0\0\x30\x00" + b"x" * 0x3000)
            reply = client._pool._lines[0]._usable().processor.replies[number]
            while reply._messages.waiting_bytes < 5 * 0x3000:  # noqa: ASYNC110  # nobody announces it
                await asyncio.sleep(0)
            await events.aclose()  # 60 kB are not read
            for _ in range(3):
                connection.raw(0, number, b"x" * 16_000)  # and 48 kB come too late
        # All in all 32 MB of a window of 12 MB.
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(_texts(client))
            await connection.until(RequestReceived, 601)
            connection.whole_answer(601)
        assert answer.result() == ["hello ", "world"]


async def test_the_deadline_reaches_the_gateway_while_the_reader_is_elsewhere():
    async with by_hand() as server, GatewayClient(server.url, connections=1, patience=patience()) as client:
        events = client.chat(question(), timeout_s=0.05)
        async with asyncio.TaskGroup() as group:
            group.create_task(anext(events))
            connection = await server.connection()
            await connection.until(RequestReceived)
            connection.head(1)
            connection.message(1, text(1, "word"))
        assert (await connection.until(StreamReset)).error_code == 8  # nobody reads here, and nobody has left
        with pytest.raises(GatewayError, match=r"deadline\.exceeded"):
            await anext(events)


async def _texts(client):
    return [event.text.text async for event in client.chat(question()) if event.text]


async def test_before_the_first_event_a_call_is_tried_again():
    pauses = Pauses()
    async with talking(pauses=pauses) as (gateway, client):
        gateway.service.chat = [refusal(Status.UNAVAILABLE, "wire.busy", "busy", retry_info(1)), two_words]
        report = CallReport()
        events = [event async for event in client.chat(question(), report=report)]
    assert len(events) == 3
    assert report.attempts == 2
    assert pauses.seconds == [1.0]


async def test_after_the_first_event_it_is_not():
    async def broken(stream):
        await stream.send_message(text(1, "word"))
        raise refusal(Status.UNAVAILABLE, "upstream.lost", "the model broke off")

    async with talking() as (gateway, client):
        gateway.service.chat = [broken, two_words]
        events = client.chat(question())
        assert (await anext(events)).sequence == 1
        with pytest.raises(GatewayError, match=r"upstream\.lost: the model broke off"):
            await anext(events)
    assert len(gateway.service.requests["Chat"]) == 1


async def test_a_refused_call_raises_at_the_first_step():
    async with talking() as (gateway, client):
        gateway.service.chat = refusal(Status.RESOURCE_EXHAUSTED, "budget.spent", "spent", rules="team")
        with pytest.raises(GatewayError) as caught:
            await anext(client.chat(question()))
    assert caught.value.rules == ("team",)


async def test_a_connection_that_is_cut_in_the_middle_is_an_error_that_says_so():
    service = StandIn()

    async def cut(stream):
        await stream.send_message(text(1, "half of"))
        await service.gate.wait()
        gateway.cut()

    service.chat = cut
    async with talking(service) as (gateway, client):
        events = client.chat(question())
        assert (await anext(events)).text.text == "half of"
        service.gate.set()
        with pytest.raises(GatewayError, match="not a whole answer") as caught:
            await anext(events)
    assert caught.value.reason == "gateway.connection_lost"
    assert caught.value.effect_unknown


async def test_words_that_came_before_the_cut_are_read_first():
    async with by_hand() as server, GatewayClient(server.url, connections=1, patience=patience()) as client:
        events = client.chat(question())
        async with asyncio.TaskGroup() as group:
            first = group.create_task(anext(events))
            connection = await server.connection()
            await connection.until(RequestReceived)
            connection.head(1)
            connection.message(1, text(1, "one"))
            connection.message(1, text(2, "two"))
            connection.writer.close()
        assert first.result().text.text == "one"
        await eventually(lambda: not client._pool._lines[0]._usable())
        assert (await anext(events)).text.text == "two"
        with pytest.raises(GatewayError, match="broke off"):
            await anext(events)


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        ([text(1, "a")], "ended after 1 events without its last one"),
        ([], "ended after 0 events without its last one"),
        ([text(1, "a"), text(3, "c"), finish(4)], "event 3 came in place 2"),
        ([text(1, "a"), finish(2), text(3, "c")], "event 3 came in place 3"),
        ([b"\xff\xff"], "cannot be read"),
    ],
)
async def test_an_answer_that_breaks_the_contract_is_an_error_although_it_ends_well(sent, sentence):
    async def broken(stream):
        for event in sent:
            await stream.send_message(event)

    async with talking(attempts=1) as (gateway, client):
        gateway.service.chat = broken
        with pytest.raises(GatewayError, match=sentence):
            async for _ in client.chat(question()):
                pass


async def test_the_deadline_of_a_stream_holds_while_nothing_comes_and_between_events():
    service = StandIn()

    async def silent(stream):
        await stream.send_message(text(1, "word"))
        await service.hang(stream)

    service.chat = silent
    async with talking(service) as (_, client):
        events = client.chat(question(), timeout_s=0.05)
        assert (await anext(events)).sequence == 1
        with pytest.raises(GatewayError) as caught:
            await anext(events)
        assert caught.value.status is Status.DEADLINE_EXCEEDED
        await asyncio.wait_for(service.left.wait(), 2)


async def test_a_whole_answer_stays_whole_after_its_deadline_and_its_connection():
    async with talking() as (gateway, client):
        events = client.chat(question(), timeout_s=0.2)
        assert (await anext(events)).sequence == 1
        await eventually(lambda: client._pool._lines[0]._usable().processor.replies[1]._ended)
        gateway.cut()
        await asyncio.sleep(0.25)
        assert [event.sequence async for event in events] == [2, 3]


async def test_a_stream_has_a_deadline_even_if_nobody_gives_one():
    async with talking(stream_timeout_s=77.0) as (gateway, client):
        async for _ in client.chat(question()):
            pass
    assert gateway.service.deadlines[0] == pytest.approx(77, abs=1)


async def test_a_slow_reader_holds_the_gateway_back():
    service, sent = StandIn(), 0
    words = "w" * 1000

    async def endless(stream):
        nonlocal sent
        for number in range(1, 5_000):
            await stream.send_message(text(number, words))
            sent = number
        await stream.send_message(finish(5_000))

    service.chat = endless
    async with talking(service) as (_, client), contextlib.aclosing(client.chat(question())) as events:
        await anext(events)
        held = -1
        while held != sent:
            held = sent
            await asyncio.sleep(0.02)
        assert held < 400  # the window and what waits for the reader: about 170 kB of 5 MB
        assert [event.sequence async for event in events] == list(range(2, 5_001))


async def test_a_reader_who_reads_nothing_holds_up_no_other_call_of_the_connection():
    service = StandIn()
    words = "w" * 10_000

    async def endless(stream):
        for number in range(1, 100_000):
            await stream.send_message(text(number, words))

    service.chat = [endless] * 40 + [two_words]
    async with talking(service) as (gateway, client), contextlib.AsyncExitStack() as stack:
        for _ in range(40):
            events = await stack.enter_async_context(contextlib.aclosing(client.chat(question())))
            await anext(events)
        await asyncio.sleep(0.1)
        async with asyncio.timeout(3):
            assert await _texts(client) == ["hello ", "world"]
        assert gateway.connected == 1


@pytest.mark.parametrize("reason", ["wire.draining", "upstream.lost"])
async def test_a_stream_that_broke_is_asked_for_anew_where_that_was_wished(reason):
    async def broken(stream):
        await stream.send_message(text(1, "half of"))
        raise refusal(Status.UNAVAILABLE, reason, "call again")

    async with talking() as (gateway, client):
        gateway.service.chat = [broken, two_words]
        told = []
        events = [event async for event in client.chat(question(), anew=lambda error: told.append(error.reason))]
    assert told == [reason]
    assert [event.sequence for event in events] == [1, 1, 2, 3]
    first, second = gateway.service.requests["Chat"]
    assert first == second


async def test_it_is_asked_for_anew_only_so_often():
    async def broken(stream):
        await stream.send_message(text(1, "half of"))
        raise refusal(Status.UNAVAILABLE, "wire.draining", "call again")

    async with talking(attempts=3) as (gateway, client):
        gateway.service.chat = broken
        told = []
        with pytest.raises(GatewayError, match=r"wire\.draining"):
            async for _ in client.chat(question(), anew=told.append):
                pass
    assert len(gateway.service.requests["Chat"]) == 3
    assert len(told) == 2


async def test_what_calling_again_does_not_help_is_not_asked_for_anew():
    async def refused(stream):
        await stream.send_message(text(1, "half of"))
        raise refusal(Status.RESOURCE_EXHAUSTED, "budget.spent", "spent")

    async with talking() as (gateway, client):
        gateway.service.chat = [refused, two_words]
        told = []
        with pytest.raises(GatewayError, match=r"budget\.spent"):
            async for _ in client.chat(question(), anew=told.append):
                pass
    assert told == []
    assert len(gateway.service.requests["Chat"]) == 1
