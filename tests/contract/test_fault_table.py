"""Each fault of a model upstream, from socket to socket: what is heard, recorded, held and charged, and the breaker.

One row a fault. The gateway is whole, the upstream is the double on a real socket, the caller is a gRPC client.
"""

import socket
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
from served import served
from whole import FLASH, agent, budget, prompt, world

from gateway.call.lasting import Bounds, Resumable
from gateway.call.resume import Resuming, converse_lasting, resume
from gateway.llm.breaker import BreakerTerms, Standing
from gateway.llm.catalogue import ModelCatalogue
from gateway.llm.credentials import AccessToken, CachedToken
from gateway.llm.route import RouteTerms, sole
from gateway.llm.vertex import Vertex, VertexConfig
from gateway.terms.passage import Leaving
from gateway.terms.verdict import Kind, RefusedError
from generated.agentic.gateway.v1 import ChatRequest, Content, FinishReason, Part, Role, RunTools

BUDGETS = (budget("calls", 1_000), budget("tokens", 10_000_000), budget("cost_micro_usd", 10**12))
AILING = {"upstream.unreachable", "upstream.truncated", "upstream.stalled"}
MOST = 200
"""Tokens that an answer may have."""
TEXT = "@pace deltas=10 interval_ms=1 size=2\nTell me."


@dataclass(frozen=True, kw_only=True)
class Row:
    """A fault and all that follows from it."""

    name: str
    fault: str = ""
    """Of the double; empty: nobody listens."""
    params: dict = field(default_factory=dict)
    status: str = ""
    """Empty: the call ends well."""
    reason: str = ""
    texts: tuple = (0, 0)
    """At least and at most so many deltas are heard."""
    charged: bool = False
    """The prompt and what was received; otherwise nothing but what an answer costs that came to its end."""
    retry_after_ms: int | None = None
    patience: dict = field(default_factory=dict)
    """How long the gateway waits for the upstream."""


ROWS = [
    Row(name="connect refused", status="UNAVAILABLE", reason="upstream.unreachable"),
    Row(name="reset before anything", fault="reset_before", status="UNAVAILABLE", reason="upstream.unreachable"),
    Row(
        name="reset after the head, before the first delta",
        fault="reset_after_n",
        params={"n": 0},
        status="UNAVAILABLE",
        reason="upstream.truncated",
        charged=True,
    ),
    Row(
        name="reset after the first delta",
        fault="reset_after_n",
        params={"n": 3},
        status="UNAVAILABLE",
        reason="upstream.truncated",
        texts=(0, 3),
        charged=True,
    ),
    Row(
        name="429 with a time",
        fault="status",
        params={"code": 429, "retry_after_s": 3},
        status="RESOURCE_EXHAUSTED",
        reason="upstream.quota",
        retry_after_ms=3_000,
    ),
    Row(name="429", fault="status", params={"code": 429}, status="RESOURCE_EXHAUSTED", reason="upstream.quota"),
    Row(
        name="503 with a time",
        fault="status",
        params={"code": 503, "retry_after_s": 3},
        status="UNAVAILABLE",
        reason="upstream.unreachable",
        retry_after_ms=3_000,
    ),
    Row(name="503", fault="status", params={"code": 503}, status="UNAVAILABLE", reason="upstream.unreachable"),
    Row(
        name="an error inside of the stream",
        fault="error_event_after_n",
        params={"n": 4},
        status="UNAVAILABLE",
        reason="upstream.unreachable",
        texts=(4, 4),
        charged=True,
    ),
    Row(name="slow first byte", fault="slow_first_byte", params={"ms": 30}, texts=(10, 10)),
    Row(
        name="no first byte in time",
        fault="slow_first_byte",
        params={"ms": 60_000},
        status="UNAVAILABLE",
        reason="upstream.stalled",
        charged=True,
        patience={"idle_s": 0.4},
    ),
    Row(
        name="stalled",
        fault="stall_after_n",
        params={"n": 2},
        status="UNAVAILABLE",
        reason="upstream.stalled",
        texts=(2, 2),
        charged=True,
        patience={"idle_s": 0.4},
    ),
    Row(
        name="truncated",
        fault="truncate_after_n",
        params={"n": 5},
        status="UNAVAILABLE",
        reason="upstream.truncated",
        texts=(5, 5),
        charged=True,
    ),
    Row(
        name="malformed event",
        fault="malformed_sse",
        params={"n": 4},
        status="UNAVAILABLE",
        reason="upstream.malformed",
        texts=(3, 3),
        charged=True,
    ),
    Row(
        name="wrong JSON",
        fault="wrong_json",
        params={"n": 4},
        status="UNAVAILABLE",
        reason="upstream.malformed",
        texts=(3, 3),
        charged=True,
    ),
    Row(
        name="gigantic delta",
        fault="gigantic_delta",
        params={"n": 4},
        status="UNAVAILABLE",
        reason="upstream.too_large",
        texts=(3, 3),
        charged=True,
    ),
    Row(
        name="endless, stopped by time",
        fault="endless",
        params={"ms": 20},
        status="DEADLINE_EXCEEDED",
        reason="upstream.too_long",
        texts=(1, 1_000),
        charged=True,
        patience={"idle_s": 0.6, "total_s": 0.6},
    ),
    Row(
        name="endless, stopped by size",
        fault="endless",
        params={"ms": 1},
        status="UNAVAILABLE",
        reason="upstream.too_large",
        texts=(1, 100_000),
        charged=True,
    ),
    Row(
        name="the end comes twice",
        fault="duplicate_finish",
        status="UNAVAILABLE",
        reason="upstream.malformed",
        texts=(10, 10),
        charged=True,
    ),
]


@asynccontextmanager
async def gateway(row, folder):
    """A whole gateway whose upstream has this fault for every call."""
    async with world() as around:
        if row.fault:
            around.vertex_fails(row.fault, count=None, **row.params)
        else:
            around.vertex = SimpleNamespace(url=nobody(), journal=around.vertex.journal)
        model = replace(FLASH, max_output_tokens=MOST)
        routes = []

        def patient(stations):
            place = {"project": "local-project", "location": "global", "endpoint": around.vertex.url}
            config = VertexConfig(**place, **row.patience)
            upstream = Vertex(config, around.session, CachedToken(given(around.clock), around.clock))
            routes.append(sole(model, upstream, around.clock, RouteTerms(breaker=BreakerTerms(failures=1))))
            return replace(stations, models=ModelCatalogue({model.name: routes[0]}, around.clock))

        async with around.gateway(folder, [agent(budgets=BUDGETS)], wrapped=patient) as whole:
            yield whole, routes[0]._standings[0]


def given(clock):
    async def fetch():
        return AccessToken(token="ya29.test", expires_ns=clock.monotonic_ns() + 3_600_000_000_000)

    return fetch


def nobody():
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def chat(**fields):
    return ChatRequest(model="flash", contents=[Content(role=Role.USER, parts=[Part(text=TEXT)])], **fields)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("run_tools", [None, RunTools()], ids=["plain", "loop"])
async def test_the_fault(row, run_tools, tmp_path):
    async with gateway(row, tmp_path) as (whole, target), served(whole) as client:
        heard = await client.call("Chat", chat(run_tools=run_tools))
        texts = [event for event in heard.replies if event.text is not None]
        assert row.texts[0] <= len(texts) <= row.texts[1]
        assert [event.sequence for event in heard.replies] == list(range(1, len(heard.replies) + 1))
        (record,) = whole.told("outcome")
        if row.status:
            said(row, heard, record)
        else:
            assert heard.error is None
            assert [event.finish.reason for event in heard.replies if event.finish] == [FinishReason.STOP]
            assert record["state"] == "succeeded"
        charged(row, whole, record, texts)
        assert all(held == 0 for held, _ in whole.held().values())
        # One failure opens this breaker: only what no caller can cause is one.
        standing = Standing.OPEN if row.reason in AILING else Standing.CLOSED
        now_ns = whole.stations.clock.monotonic_ns()
        assert target.breaker.standing(now_ns) is standing
        # A time that the upstream named is kept for the calls to come.
        assert (target.cooling.named_left_ns(now_ns) > 0) is (row.retry_after_ms is not None)
        await whole.agree()


async def test_no_caller_opens_a_breaker_by_not_reading(tmp_path):
    """Neither one that stays and does not read, nor one that leaves a stream which may be resumed."""
    row = Row(name="", fault="endless", params={"ms": 1}, patience={"idle_s": 0.3, "total_s": 0.3})
    async with gateway(row, tmp_path) as (whole, target):
        async with aclosing(whole.stream(TEXT)) as told:
            await anext(told)
            await whole.world.upstream_quiet()
            with pytest.raises(RefusedError) as refused:
                async for _ in told:
                    pass
        assert (refused.value.refusal.kind, refused.value.refusal.reason) == (Kind.LATE, "stream.unread")
        whole.lasting.bounds = Bounds(window_bytes=4_000)
        passage, request = whole.passage(), prompt(TEXT)
        lasting = converse_lasting(whole.stations, whole.lasting, passage, request, Resumable.CONNECTION_LOST)
        await anext(lasting)
        passage.departure.how = Leaving.LOST
        await lasting.aclose()
        await whole.world.upstream_quiet()
        asked = Resuming(operation=passage.reply_headers["gateway-operation"], after=1, leave=False)
        with pytest.raises(RefusedError, match=r"stream\.unread"):
            async for _ in resume(whole.stations, whole.lasting, whole.passage(), asked):
                pass
        assert [one["failure"]["reason"] for one in whole.told("outcome")] == ["stream.unread"] * 2
        assert target.breaker.standing(whole.stations.clock.monotonic_ns()) is Standing.CLOSED
        # It is paid for what was received all the same.
        assert whole.spent("calls") == 2
        await whole.agree()


def said(row, heard, record):
    assert heard.refused[:2] == (row.status, row.reason)
    assert heard.error.message
    retry = heard.error.details.get("RetryInfo")
    told_ms = None if retry is None else retry.retry_delay.seconds * 1_000 + retry.retry_delay.nanos // 1_000_000
    assert told_ms == row.retry_after_ms
    assert [event for event in heard.replies if event.finish is not None] == []
    assert (record["state"], record["failure"]["reason"]) == ("failed", row.reason)


def charged(row, whole, record, texts):
    """An answer that broke costs its prompt and what was received; a call that never came to one costs nothing."""
    tokens = whole.spent("tokens")
    assert tokens == dict(record["charges"]).get("tokens", 0)
    if row.status and not row.charged:
        assert (tokens, whole.spent("calls"), whole.spent("cost_micro_usd")) == (0, 0, 0)
        return
    assert whole.spent("calls") == 1
    # A token of the prompt and one of each delta that was heard, at least, and never more than was held.
    assert tokens >= min(1 + len(texts), MOST)
