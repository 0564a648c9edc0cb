import asyncio
import contextlib

import pytest
from agent_parts import (
    Pauses,
    StandIn,
    bad_request,
    eventually,
    patience,
    refusal,
    retry_info,
    standing,
    succeeded,
    talking,
)
from grpclib.const import Status

from agent.client import CallReport, GatewayClient, GatewayError, Patience
from agent.client.contract import CountTokensRequest, OperationState
from agent.tokens import TokenError


async def test_every_unary_call_gives_its_answer():
    async with talking() as (gateway, client):
        assert await client.count_tokens(CountTokensRequest(model="flash")) == 7
        assert [model.name for model in (await client.list_models()).models] == ["flash"]
        assert [tool.name for tool in (await client.list_tools()).tools] == ["place_order", "get_quote", "get_clock"]
        assert (await client.get_operation("op-1")).state is OperationState.SUCCEEDED
        operation = await client.execute_tool("place_order", {"quantity": "5"}, version="1", run_id="run-1")
        assert (await client.dry_run_tool("place_order", {"quantity": "6"}, run_id="run-2")).message == "Order less."
    [rehearsed] = gateway.service.requests["DryRunTool"]
    assert (rehearsed.arguments_json, rehearsed.run_id, rehearsed.idempotency_key) == ('{"quantity": "6"}', "run-2", "")
    assert operation.result_json == '{"filled": "5"}'
    [asked] = gateway.service.requests["ExecuteTool"]
    assert (asked.tool, asked.version, asked.run_id) == ("place_order", "1", "run-1")
    assert asked.arguments_json == '{"quantity": "5"}'
    assert gateway.service.requests["GetOperation"][0].operation_id == "op-1"


async def test_arguments_given_as_text_go_out_byte_for_byte():
    arguments = '{ "price":10.10,\t"note": "ä" }'
    async with talking() as (gateway, client):
        await client.execute_tool("place_order", arguments)
    assert gateway.service.requests["ExecuteTool"][0].arguments_json == arguments


async def test_each_call_without_a_key_gets_one_of_its_own():
    async with talking() as (gateway, client):
        await client.execute_tool("place_order", {})
        await client.execute_tool("place_order", {})
        await client.execute_tool("place_order", {}, key="mine")
    first, second, third = (asked.idempotency_key for asked in gateway.service.requests["ExecuteTool"])
    assert first != second
    assert len(first) >= 32
    assert third == "mine"


async def test_every_retry_carries_the_same_key_over_cuts_refusals_and_answers_in_progress():
    service, pauses = StandIn(), Pauses()

    async def cut(stream):
        gateway.cut()
        await service.hang(stream)

    service.execute = [
        cut,
        refusal(Status.UNAVAILABLE, "wire.busy", "busy", retry_info(1, 500_000_000)),
        refusal(Status.ABORTED, "ledger.in_progress", "still running", retry_info(0, 20_000_000)),
        succeeded(replayed=True),
    ]
    async with talking(service, pauses=pauses) as (gateway, client):
        report = CallReport()
        operation = await client.execute_tool("place_order", {"quantity": "5"}, report=report)
    assert operation.replayed
    assert report.attempts == 4
    keys = [asked.idempotency_key for asked in service.requests["ExecuteTool"]]
    assert len(keys) == 4
    assert len(set(keys)) == 1
    # Exponential with chance 0.5, and never less than what the gateway asked for.
    assert pauses.seconds == [pytest.approx(0.1), pytest.approx(1.5), pytest.approx(0.4)]


async def test_a_pause_that_the_gateway_asks_for_is_kept_to_the_nanosecond():
    pauses = Pauses()
    async with talking(pauses=pauses, first_pause_s=0.0) as (gateway, client):
        gateway.service.execute = [refusal(Status.UNAVAILABLE, "busy", "no", retry_info(2, 1)), succeeded()]
        await client.execute_tool("place_order", {})
    assert pauses.seconds == [2.000000001]


async def test_a_gateway_that_asks_for_a_longer_pause_than_anyone_waits_is_not_waited_for():
    pauses = Pauses()
    async with talking(pauses=pauses) as (gateway, client):
        gateway.service.execute = refusal(Status.UNAVAILABLE, "busy", "no", retry_info(6))
        with pytest.raises(GatewayError) as caught:
            await client.execute_tool("place_order", {}, timeout_s=60.0)
    assert caught.value.retry_after_s == 6
    assert pauses.seconds == []


async def test_attempts_are_bounded():
    pauses = Pauses()
    async with talking(pauses=pauses, attempts=3) as (gateway, client):
        gateway.service.execute = refusal(Status.UNAVAILABLE, "wire.busy", "busy")
        report = CallReport()
        with pytest.raises(GatewayError, match=r"wire\.busy: busy"):
            await client.execute_tool("place_order", {}, report=report)
    assert report.attempts == 3
    assert len(pauses.seconds) == 2
    assert len(gateway.service.requests["ExecuteTool"]) == 3


async def test_no_pause_is_begun_that_the_deadline_would_cut():
    pauses = Pauses()
    async with talking(pauses=pauses) as (gateway, client):
        gateway.service.execute = refusal(Status.UNAVAILABLE, "wire.busy", "busy", retry_info(4))
        with pytest.raises(GatewayError, match=r"wire\.busy"):
            await client.execute_tool("place_order", {}, timeout_s=3.0)
    assert pauses.seconds == []


@pytest.mark.parametrize(
    "status",
    [
        Status.PERMISSION_DENIED,
        Status.INVALID_ARGUMENT,
        Status.RESOURCE_EXHAUSTED,
        Status.ALREADY_EXISTS,
        Status.NOT_FOUND,
        Status.FAILED_PRECONDITION,
        Status.UNAUTHENTICATED,
        Status.INTERNAL,
        Status.DEADLINE_EXCEEDED,
    ],
)
async def test_what_will_not_pass_is_not_tried_again(status):
    async with talking() as (gateway, client):
        gateway.service.execute = refusal(status, "policy.refused", "no")
        with pytest.raises(GatewayError) as caught:
            await client.execute_tool("place_order", {})
    assert caught.value.status is status
    assert len(gateway.service.requests["ExecuteTool"]) == 1


async def test_an_error_says_all_that_the_gateway_said():
    async with talking() as (gateway, client):
        gateway.service.execute = refusal(
            Status.PERMISSION_DENIED,
            "limit.notional",
            "Über 10 000 USD: 100 % zu viel.",
            bad_request(("arguments.quantity", "too large")),
            rules="limit.notional,limit.quantity",
            policy_hash="abc",
            request="req-9",
            operation="op-9",
        )
        report = CallReport()
        with pytest.raises(GatewayError) as caught:
            await client.execute_tool("place_order", {}, report=report)
    error = caught.value
    assert error.reason == "limit.notional"
    assert error.sentence == "Über 10 000 USD: 100 % zu viel."
    assert error.rules == ("limit.notional", "limit.quantity")
    assert (error.policy_hash, error.request_id, error.operation_id) == ("abc", "req-9", "op-9")
    assert error.violations == (("arguments.quantity", "too large"),)
    assert not error.from_edge
    assert not error.effect_unknown
    assert str(error) == "limit.notional: Über 10 000 USD: 100 % zu viel. [limit.notional, limit.quantity]"
    assert report.metadata["gateway-request"] == "req-1"


async def test_the_report_holds_what_came_beside_the_answer_and_nothing_of_http():
    async with talking() as (_, client):
        report = CallReport()
        await client.execute_tool("place_order", {}, report=report)
    assert report.metadata["gateway-request"] == "req-1"
    assert report.metadata["gateway-timing"] == "policy;dur=0.1"
    assert not [name for name in report.metadata if name.startswith((":", "grpc-", "content-"))]


async def test_the_deadline_covers_a_gateway_that_does_not_answer():
    async with talking() as (gateway, client):
        gateway.service.execute = gateway.service.hang
        with pytest.raises(GatewayError) as caught:
            await client.execute_tool("place_order", {}, timeout_s=0.05)
        assert caught.value.status is Status.DEADLINE_EXCEEDED
        assert caught.value.effect_unknown
        await asyncio.wait_for(gateway.service.left.wait(), 2)  # and the gateway hears of it
    assert gateway.service.deadlines[0] == pytest.approx(0.05, abs=0.04)


async def test_a_deadline_passes_without_a_mark_on_the_task():
    async with talking() as (gateway, client):
        gateway.service.execute = gateway.service.hang
        with pytest.raises(GatewayError):
            await client.execute_tool("place_order", {}, timeout_s=0.02)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0  # else time limits and task groups around the call break


async def test_the_callers_own_time_limit_still_works_around_a_call():
    async with talking() as (gateway, client):

        async def time_is_up(stream):
            limit.reschedule(asyncio.get_running_loop().time())
            await gateway.service.hang(stream)

        gateway.service.execute = time_is_up
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as limit:
                await client.execute_tool("place_order", {})
        await asyncio.wait_for(gateway.service.left.wait(), 5)


async def test_an_earlier_attempt_that_may_have_happened_is_not_forgotten_when_a_later_one_is_refused():
    service = StandIn()

    async def cut(stream):
        gateway.cut()
        await service.hang(stream)

    service.execute = [cut, refusal(Status.PERMISSION_DENIED, "policy.refused", "no")]
    async with talking(service) as (gateway, client):
        with pytest.raises(GatewayError) as caught:
            await client.execute_tool("place_order", {})
    assert caught.value.reason == "policy.refused"
    assert caught.value.effect_unknown


async def test_nobody_listens():
    async with standing() as gateway:
        url = gateway.url
    async with GatewayClient(url, patience=patience(attempts=2)) as client:
        report = CallReport()
        with pytest.raises(GatewayError) as caught:
            await client.list_tools(report=report)
    assert caught.value.reason == "gateway.unreachable"
    assert "cannot be reached at 127.0.0.1" in str(caught.value)
    assert not caught.value.effect_unknown
    assert report.attempts == 2


async def test_a_restarted_gateway_is_connected_to_anew():
    async with contextlib.AsyncExitStack() as stack:
        async with standing() as gateway:
            port = gateway.port
            client = GatewayClient(gateway.url, connections=1, patience=patience(attempts=1))
            await stack.enter_async_context(client)
            await client.list_tools()
        await eventually(lambda: client._pool._lines[0]._usable() is None)
        with pytest.raises(GatewayError, match="cannot be reached"):
            await client.list_tools()
        async with standing(port=port) as restarted:
            await client.list_tools()
            assert restarted.connected == 1


async def test_a_call_that_meets_a_restart_reaches_the_new_gateway():
    service = StandIn()

    async def cut(stream):
        gateway.cut()
        await service.hang(stream)

    service.execute = [cut, succeeded()]
    async with talking(service) as (gateway, client):
        await client.execute_tool("place_order", {})
        assert gateway.connected == 2


async def test_an_answer_without_a_message_is_an_error():
    async def nothing(stream):
        pass

    async with talking() as (gateway, client):
        gateway.service.execute = nothing
        with pytest.raises(GatewayError) as caught:
            await client.execute_tool("place_order", {})
    # grpclib's server itself makes an error of it; a by-hand server in test_agent_connection answers OK.
    assert caught.value.effect_unknown


async def test_arguments_that_are_no_json_are_refused_before_anything_is_sent():
    async with talking() as (gateway, client):
        for arguments in ({"price": float("nan")}, {"what": object()}, "\ud800"):
            with pytest.raises(GatewayError) as caught:
                await client.execute_tool("place_order", arguments)
            assert caught.value.reason == "request.invalid"
            assert not caught.value.effect_unknown
        with pytest.raises(GatewayError, match=r"CountTokensRequest\.model"):
            await client.count_tokens(CountTokensRequest(model=7))
    assert gateway.connected == 0


async def test_what_is_no_request_is_refused():
    async with talking() as (gateway, client):
        with pytest.raises(TypeError, match=r"str is no request of the contract; see agent\.client\.contract"):
            await anext(client.chat("hello"))
    assert gateway.connected == 0


async def test_bad_bounds_are_refused():
    for changes in ({"attempts": 0}, {"timeout_s": 0}, {"first_pause_s": 9.0}, {"silence_s": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(changes))):
            Patience(**changes)
    with pytest.raises(ValueError, match="connections"):
        GatewayClient("http://127.0.0.1:1", connections=0)
    async with GatewayClient("http://127.0.0.1:1") as client:
        for timeout in (0, -1, float("nan")):
            with pytest.raises(ValueError, match="timeout_s"):
                await client.execute_tool("place_order", {}, timeout_s=timeout)


async def test_a_client_outside_of_its_context_says_so():
    client = GatewayClient("http://127.0.0.1:1")
    with pytest.raises(RuntimeError, match="outside of its context"):
        await client.list_tools()


class GivenTokens:
    """Gives its tokens one after the other, the next one when one is forgotten."""

    def __init__(self, *tokens):
        self.tokens = list(tokens)
        self.forgotten = []

    async def id_token(self, audience):
        return self.tokens[0]

    def forget(self, audience, token):
        self.forgotten.append((audience, token))
        if len(self.tokens) > 1:
            del self.tokens[0]


async def test_the_token_goes_with_every_call():
    tokens = GivenTokens("one")
    async with talking(tokens=tokens) as (gateway, client):
        await client.list_tools()
    assert gateway.service.metadata["ListTools"][0]["authorization"] == "Bearer one"


async def test_a_refusal_of_the_gateway_itself_does_not_cost_the_token():
    tokens = GivenTokens("one", "two")
    async with talking(tokens=tokens) as (gateway, client):
        gateway.service.tools = refusal(Status.UNAUTHENTICATED, "identity.audience", "no")
        with pytest.raises(GatewayError):
            await client.list_tools()
    assert tokens.forgotten == []


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "ünï"])
async def test_what_is_no_token_is_not_sent(token):
    async with talking(tokens=GivenTokens(token)) as (gateway, client):
        with pytest.raises(TokenError):
            await client.list_tools()
    assert gateway.connected == 0


async def test_a_token_source_that_takes_too_long_ends_with_the_deadline_and_nothing_was_sent():
    class Slow:
        async def id_token(self, audience):
            await asyncio.sleep(60)

    async with talking(tokens=Slow()) as (gateway, client):
        with pytest.raises(GatewayError, match="It was not sent") as caught:
            await client.execute_tool("place_order", {}, timeout_s=0.02)
    assert not caught.value.effect_unknown
    assert gateway.connected == 0


def test_an_error_can_pass_through_context_managers():
    error = GatewayError(status=Status.UNAVAILABLE, reason="a", sentence="b")
    error.__traceback__ = None  # what contextlib does with every exception that passes
    error.__cause__ = ValueError()
    assert len({error, error}) == 1
