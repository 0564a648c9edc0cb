"""The life of a call over the web: its deadline, its caller, its clean-up, the drain."""

import asyncio
import contextlib
import json

import pytest
from stepping import at_every_step
from web_echo import SERVICE, Web, details, envelope, eventually, reply

from gateway.terms.verdict import Kind
from gateway.wire.errors import EndedError, refused
from gateway.wire.web.enveloped import FAIR_SENDS
from gateway.wire.web.inbox import HEARD_OUT_BYTES
from generated.agentic.gateway.v1 import Operation

STREAM = "application/connect+json"
WEB = "application/grpc-web+json"


class Waiting:
    """Methods that wait for ever, and tell what becomes of them."""

    def __init__(self):
        self.told = []
        self.at_work = asyncio.Event()

    async def say(self, request, passage):
        try:
            self.at_work.set()
            await asyncio.get_running_loop().create_future()
        finally:
            self.told.append(("say", asyncio.current_task()))

    async def tell(self, request, passage):
        try:
            yield Operation(id="first")
            self.at_work.set()
            await asyncio.get_running_loop().create_future()
        finally:
            # A clean-up may wait.
            await asyncio.sleep(0)
            self.told.append(("tell", asyncio.current_task()))

    async def collect(self, requests, passage):
        try:
            async for _ in requests:
                self.at_work.set()
        finally:
            self.told.append(("collect", asyncio.current_task()))

    def talk(self, requests, passage):
        return self.tell(requests, passage)

    def all(self):
        return {name: getattr(self, name) for name in ("say", "tell", "collect", "talk")}


KINDS = pytest.mark.parametrize(
    "name,content_type",
    [
        ("Say", "application/json"),
        ("Tell", STREAM),
        ("Collect", STREAM),
        ("Talk", STREAM),
        ("Say", WEB),
        ("Tell", WEB),
        ("Collect", WEB),
        ("Talk", WEB),
    ],
)


def body_for(content_type):
    return b"{}" if content_type == "application/json" else envelope(b"{}")


def open_call(web, name, content_type, *headers):
    exchange = web.open(name, content_type, *headers)
    exchange.write(body_for(content_type), more=name in ("Collect", "Talk"))
    return exchange


def reason_of(exchange, content_type):
    """The reason and whether the answer is in the form of its protocol."""
    if content_type == "application/json":
        return details(exchange.json)["google.rpc.ErrorInfo"]["reason"]
    flag, last = exchange.envelopes[-1]
    if content_type == WEB:
        assert flag == 0x80
        return last.decode()
    assert flag == 2
    return details(json.loads(last)["error"])["google.rpc.ErrorInfo"]["reason"]


@KINDS
async def test_a_deadline_cancels_the_call_and_is_told(name, content_type):
    waiting = Waiting()
    web = Web(**waiting.all())
    header = ("grpc-timeout", "30m") if content_type == WEB else ("connect-timeout-ms", "30")
    exchange = open_call(web, name, content_type, header)
    await exchange.ended()
    assert len(waiting.told) == 1
    # Closed in the task of the call itself.
    assert waiting.told[0][1] is exchange.task
    found = reason_of(exchange, content_type)
    assert "grpc-status: 4\r\n" in found if content_type == WEB else found == "wire.deadline"
    if content_type == "application/json":
        assert (exchange.status, exchange.json["code"]) == (504, "deadline_exceeded")
    assert web.quiet()
    assert web.log.named("call.ended")[0]["status"] == "DEADLINE_EXCEEDED"


@KINDS
async def test_a_caller_that_leaves_cancels_the_call(name, content_type):
    waiting = Waiting()
    web = Web(**waiting.all())
    exchange = open_call(web, name, content_type)
    await asyncio.wait_for(waiting.at_work.wait(), 5)
    exchange.leave()
    await exchange.ended()
    assert len(waiting.told) == 1
    assert waiting.told[0][1] is exchange.task
    assert not exchange.complete
    assert web.quiet()
    assert web.log.named("call.ended")[0]["reason"] == "wire.caller_left"
    assert not web.log.named("call.failed")


@pytest.mark.parametrize("name,content_type", [("Say", "application/json"), ("Tell", STREAM), ("Say", WEB)])
async def test_a_caller_that_leaves_within_its_request_starts_nothing(name, content_type):
    waiting = Waiting()
    web = Web(**waiting.all())
    exchange = web.open(name, content_type)
    exchange.write(body_for(content_type)[:-1])
    exchange.leave()
    await exchange.ended()
    assert exchange.status is None
    assert waiting.told == []
    assert web.quiet()


@pytest.mark.parametrize("name,content_type", [("Say", "application/json"), ("Tell", STREAM), ("Tell", WEB)])
async def test_a_slow_body_is_not_waited_for(name, content_type):
    web = Web(bounds={"body_s": 0.02})
    exchange = web.open(name, content_type)
    exchange.write(body_for(content_type)[:-1])
    await exchange.ended()
    found = reason_of(exchange, content_type)
    assert "grpc-status: 4\r\n" in found if content_type == WEB else found == "wire.slow_body"
    assert web.quiet()


async def test_a_message_of_a_stream_that_has_begun_must_end_and_the_next_may_wait():
    web = Web(bounds={"body_s": 0.05})
    exchange = web.open("Talk", STREAM)
    exchange.write(envelope(b"{}"))
    await exchange.until(lambda: exchange.body)
    await asyncio.sleep(0.07)
    assert not exchange.complete
    # One that came in two pieces, but in time.
    exchange.write(envelope(b"{}")[:3])
    await asyncio.sleep(0.01)
    exchange.write(envelope(b"{}")[3:])
    await exchange.until(lambda: len(exchange.pieces) == 2)
    await asyncio.sleep(0.07)
    assert not exchange.complete
    exchange.write(envelope(b"{}")[:3])
    await exchange.ended()
    assert reason_of(exchange, STREAM) == "wire.slow_body"
    assert web.quiet()


async def test_a_call_may_not_run_for_ever():
    waiting = Waiting()
    web = Web(bounds={"call_s_max": 0.02}, **waiting.all())
    exchange = open_call(web, "Say", "application/json", ("connect-timeout-ms", "9999999999"))
    await exchange.ended()
    assert (exchange.status, reason_of(exchange, "application/json")) == (503, "wire.call_too_long")


async def test_a_deadline_that_has_passed_starts_nothing():
    waiting = Waiting()
    web = Web(**waiting.all())
    exchange = open_call(web, "Say", "application/json", ("connect-timeout-ms", "0"))
    await exchange.ended()
    assert reason_of(exchange, "application/json") == "wire.deadline"
    assert waiting.told == []


async def test_a_full_gateway_refuses_all_but_what_says_so():
    waiting = Waiting()
    web = Web(bounds={"calls_running_max": 1}, **waiting.all())
    first = open_call(web, "Say", "application/json")
    await asyncio.wait_for(waiting.at_work.wait(), 5)
    second = open_call(web, "Collect", STREAM)
    await second.ended()
    assert reason_of(second, STREAM) == "wire.full"
    assert (await web.call("/grpc.health.v1.Health/Check", b"{}")).status == 200
    assert (await web.call("Look", b"{}")).status == 503
    first.leave()
    await first.ended()
    assert (await web.call("Look", b"{}")).status == 200


@KINDS
async def test_a_drain_refuses_new_calls_and_ends_old_ones(name, content_type):
    waiting = Waiting()
    web = Web(**waiting.all())
    old = open_call(web, name, content_type)
    await asyncio.wait_for(waiting.at_work.wait(), 5)
    web.load.draining = True
    new = open_call(web, name, content_type)
    await new.ended()
    leaving = web.surroundings.busy("wire.draining", "this gateway is stopping; call again")
    for call in tuple(web.load.calls):
        call.end(leaving)
    await old.ended()
    for exchange in (new, old):
        found = reason_of(exchange, content_type)
        assert "grpc-status: 14\r\n" in found if content_type == WEB else found == "wire.draining"
    assert len(waiting.told) == 1
    assert web.quiet()


async def test_who_does_not_end_in_a_drain_is_answered_all_the_same():
    gate = asyncio.Event()

    async def say(request, passage):
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await gate.wait()

    web = Web(say=say)
    exchange = open_call(web, "Say", "application/json")
    await eventually(lambda: web.load.running)
    (call,) = web.load.calls
    leaving = refused(Kind.UNAVAILABLE, "wire.draining", "stopping")
    call.end(leaving)
    await asyncio.sleep(0.01)
    assert exchange.status is None
    call.answer_now(leaving)
    assert (exchange.status, exchange.complete) == (503, True)
    gate.set()
    await exchange.ended()
    assert web.quiet()


async def test_a_reader_that_is_slow_slows_the_call():
    made = []

    async def tell(request, passage):
        for number in range(100):
            made.append(number)
            yield Operation(id=str(number))

    web = Web(tell=tell)
    exchange = web.open("Tell", STREAM)
    exchange.reads.clear()
    exchange.write(envelope(b"{}"), more=False)
    await eventually(lambda: made)
    await asyncio.sleep(0.01)
    assert len(made) == 1
    exchange.reads.set()
    await exchange.ended()
    assert len(made) == 100


async def test_a_caller_that_leaves_while_the_call_sends_closes_its_generator():
    waiting = Waiting()
    web = Web(**waiting.all())
    exchange = web.open("Tell", STREAM)
    exchange.reads.clear()
    exchange.write(envelope(b"{}"), more=False)
    await eventually(lambda: web.load.running)
    exchange.leave()
    await exchange.ended()
    assert waiting.told == [("tell", exchange.task)]
    assert web.quiet()


async def test_a_server_that_says_that_nobody_is_there_is_believed():
    waiting = Waiting()
    web = Web(**waiting.all())
    exchange = web.open("Tell", STREAM)

    async def gone(event):
        raise OSError("gone")

    exchange._send = gone
    scope = {
        "type": "http",
        "method": "POST",
        "path": SERVICE + "Tell",
        "headers": [(b"content-type", STREAM.encode())],
    }
    incoming = asyncio.Queue()
    incoming.put_nowait({"type": "http.request", "body": envelope(b"{}")})
    await asyncio.wait_for(web.app(scope, incoming.get, gone), 5)
    assert [name for name, _ in waiting.told] == ["tell"]
    assert web.log.named("call.ended")[0]["reason"] == "wire.caller_left"
    assert not web.log.named("call.failed")
    exchange.leave()
    await exchange.ended()


async def test_a_caller_that_takes_no_ending_is_given_up():
    web = Web(bounds={"call_s_max": 0.03, "send_stall_s": 0.03})
    exchange = web.open("Say", "application/json")
    exchange.reads.clear()
    exchange.write(b"{}", more=False)
    await exchange.ended()
    assert exchange.status is None
    assert web.log.named("call.ended")[0]["reason"] == "wire.caller_left"
    assert web.quiet()


async def test_a_caller_that_takes_no_refusal_is_given_up():
    web = Web(bounds={"send_stall_s": 0.03})
    exchange = web.open("Say", "application/json", ("connect-timeout-ms", "x"))
    exchange.reads.clear()
    exchange.write(b"{}", more=False)
    await exchange.ended()
    assert web.quiet()


async def test_a_server_that_stops_stops_the_call():
    waiting = Waiting()
    web = Web(**waiting.all())
    exchange = open_call(web, "Say", "application/json")
    await asyncio.wait_for(waiting.at_work.wait(), 5)
    exchange.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.task
    assert len(waiting.told) == 1
    assert web.quiet()


async def test_a_call_that_does_not_wait_starts_no_other_task():
    seen = []

    async def say(request, passage):
        return Operation(id="done")

    web = Web(say=say)
    asyncio.get_running_loop().set_task_factory(lambda loop, coroutine, **more: _kept(loop, coroutine, seen))
    try:
        exchange = await web.call("Say", b"{}")
    finally:
        asyncio.get_running_loop().set_task_factory(None)
    assert reply(exchange.body).id == "done"
    assert len(seen) == 1


async def test_what_swallows_its_cancellation_is_told_why_it_was():
    async def say(request, passage):
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            raise KeyError("my clean-up failed") from None

    web = Web(say=say)
    exchange = open_call(web, "Say", "application/json", ("connect-timeout-ms", "20"))
    await exchange.ended()
    assert reason_of(exchange, "application/json") == "wire.deadline"
    # The task is whole again: the answer was sent by it, after its cancellation.
    assert exchange.complete


def _kept(loop, coroutine, seen):
    task = asyncio.Task(coroutine, loop=loop)
    seen.append(task)
    return task


@pytest.mark.parametrize("name,content_type", [("Shout", "application/json"), ("Say", "text/plain"), ("Say", "bad")])
async def test_who_is_refused_may_finish_a_short_request_and_not_a_long_one(name, content_type):
    headers = [("content-encoding", "br")] if content_type == "bad" else []
    content_type = "application/json" if content_type == "bad" else content_type
    for piece, waits in ((b"{", True), (b"x" * HEARD_OUT_BYTES, False)):
        web = Web()
        exchange = web.open(name, content_type, *headers)
        exchange.write(piece)
        await asyncio.sleep(0.005)
        assert (exchange.status is None) is waits
        exchange.write(b"}", more=False)
        await exchange.ended()
        assert exchange.complete
        assert web.quiet()


async def test_who_leaves_instead_is_not_answered():
    web = Web()
    for name in ("Shout", "Say"):
        exchange = web.open(name, "application/json", ("content-encoding", "br"))
        exchange.leave()
        await exchange.ended()
        assert exchange.status is None


async def test_what_goes_on_being_wrong_is_refused_once():
    web = Web()
    exchange = web.open("Say", "application/grpc-web-text")
    for _ in range(3):
        exchange.write(b"****")
    await exchange.ended()
    assert exchange.complete
    assert web.quiet()


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("name", ["Say", "Tell", "Collect", "Talk"])
async def test_a_server_may_stop_at_any_point_and_nothing_stays(name, answered):
    """The application's task is cancelled at each of its awaits in turn."""
    closed = []

    async def tell(requests, passage):
        try:
            async for each in _each(requests):
                await asyncio.sleep(0)
                yield Operation(id=each.tool)
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    async def say(requests, passage):
        async with contextlib.aclosing(tell(requests, passage)) as told:
            return await anext(told)

    web = Web(say=say, tell=tell, collect=say, talk=tell)
    content_type = "application/json" if name == "Say" else STREAM

    def exchange(step):
        incoming = asyncio.Queue()
        body = body_for(content_type)
        incoming.put_nowait({"type": "http.request", "body": body[:3], "more_body": True})
        incoming.put_nowait({"type": "http.request", "body": body[3:]})

        async def receive():
            await asyncio.sleep(0)
            return await incoming.get()

        async def send(event):
            await asyncio.sleep(0)

        headers = [(b"content-type", content_type.encode())]
        scope = {"type": "http", "method": "POST", "path": SERVICE + name, "headers": headers}
        return web.app(scope, receive, send)

    async def check(step):
        assert web.quiet()
        assert len(asyncio.all_tasks()) == 1

    assert await at_every_step(exchange, check, answered=answered) >= 4
    assert closed
    assert not web.log.named("call.failed")


async def test_a_stream_that_never_waits_lets_others_have_a_turn():
    turns = []

    async def tell(request, passage):
        for number in range(2 * FAIR_SENDS):
            yield Operation(id=str(number))
            turns.append(number)

    web = Web(tell=tell)
    exchange = open_call(web, "Tell", STREAM)
    while not turns:  # noqa: ASYNC110 - turns of the loop are what is counted
        await asyncio.sleep(0)
    assert len(turns) < FAIR_SENDS
    await exchange.ended()


async def _each(requests):
    if hasattr(requests, "__aiter__"):
        async for request in requests:
            yield request
    else:
        yield requests


async def test_who_keeps_the_requests_beyond_the_call_does_not_wait_for_ever():
    kept = []

    async def collect(requests, passage):
        kept.append(requests)
        return Operation()

    web = Web(collect=collect)
    exchange = web.open("Collect", STREAM)
    await exchange.ended()
    with pytest.raises(EndedError):
        await asyncio.wait_for(anext(kept[0]), 5)


async def test_the_task_that_answers_after_a_deadline_is_not_cancelled_any_more():
    waiting = Waiting()
    web = Web(**waiting.all())
    seen = []
    incoming = asyncio.Queue()
    incoming.put_nowait({"type": "http.request", "body": b"{}"})

    async def send(event):
        seen.append(asyncio.current_task().cancelling())

    headers = [(b"content-type", b"application/json"), (b"connect-timeout-ms", b"10")]
    scope = {"type": "http", "method": "POST", "path": SERVICE + "Say", "headers": headers}
    await web.app(scope, incoming.get, send)
    assert seen == [0, 0]


async def test_a_call_that_was_answered_for_says_no_more():
    gate = asyncio.Event()

    async def tell(request, passage):
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            await gate.wait()
            yield Operation(id="too late")

    web = Web(tell=tell)
    exchange = open_call(web, "Tell", STREAM)
    await eventually(lambda: web.load.running)
    (call,) = web.load.calls
    leaving = refused(Kind.UNAVAILABLE, "wire.draining", "stopping")
    call.end(leaving)
    await asyncio.sleep(0.005)
    call.answer_now(leaving)
    gate.set()
    await exchange.ended()
    assert reason_of(exchange, STREAM) == "wire.draining"
    assert b"too late" not in exchange.body
    assert not web.log.named("call.failed")
    assert web.quiet()


@pytest.mark.parametrize(
    "deadline_ms, reason", [("9999999999", "wire.call_too_long"), ("25", "wire.deadline")], ids=["bound", "deadline"]
)
async def test_the_bound_of_the_body_does_not_end_a_call_that_runs(deadline_ms, reason):
    """One timer serves both: what was set for the body must not fire for the call."""
    waiting = Waiting()
    web = Web(bounds={"body_s": 0.005, "call_s_max": 0.04}, **waiting.all())
    start = asyncio.get_running_loop().time()
    exchange = open_call(web, "Say", "application/json", ("connect-timeout-ms", deadline_ms))
    await exchange.ended()
    assert reason_of(exchange, "application/json") == reason
    assert asyncio.get_running_loop().time() - start >= 0.02
    assert waiting.told
