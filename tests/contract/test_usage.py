"""What was used, by the record: counted by an operator's question and from the file, and both tell what was charged."""

import asyncio
import json
import sqlite3
from contextlib import aclosing, asynccontextmanager, closing
from dataclasses import asdict, replace
from functools import partial

import pytest
from aiohttp import web
from click.testing import CliRunner
from whole import RESTING_BUY, agent, budget, prompt, refusal, token, world

from gateway.audit.usage import UsageSum
from gateway.audit.usage_pages import MARGIN_US, RecordedUsage, SqlitePages
from gateway.call.converse import converse
from gateway.call.decide import Resolution, resolve_operation
from gateway.call.usage import query_usage
from gateway.commands.usage import usage
from gateway.services.models import ModelService
from gateway.services.operators import OperatorService
from gateway.services.tools import ToolService
from gateway.terms.asks import RunTools
from gateway.terms.conversation import RegexConstraint
from gateway.terms.money import MICRO, written
from gateway.terms.operations import State
from gateway.terms.usage import GROUPS_MAX, Group, UsageQuery, UsageTooWideError, Used
from gateway.terms.verdict import Kind
from gateway.wire.config import WireConfig
from gateway.wire.contract import contract
from gateway.wire.server import GatewayServer
from gateway.wire.web.application import WebApplication
from gateway.wire.web.options import WebOptions

DAY_US = 86_400_000_000
TEN = "@pace deltas=10 interval_ms=0 size=2\nTell me something."
EVERYTHING = UsageQuery(from_unix_us=0, to_unix_us=2**62, by=())
AGENTS = (
    agent(budgets=(budget("calls", 1_000), budget("cost_micro_usd", 10**12))),
    agent("other", team="research", budgets=(budget("calls", 1, scope="agent:other"),)),
)


@pytest.fixture
async def around():
    async with world() as outside:
        yield outside


@pytest.fixture
async def whole(around, tmp_path):
    async with around.gateway(tmp_path, AGENTS) as running:
        yield running


async def asked(whole, *by, first=None, last=None):
    """The rows of a question over three days around now, or another time."""
    now = whole.world.clock.unix_us()
    query = UsageQuery(
        from_unix_us=now - DAY_US if first is None else first, to_unix_us=now + DAY_US if last is None else last, by=by
    )
    report = await query_usage(whole.stations, whole.passage("oncall"), lambda: query)
    return dict(report.rows), report.total


async def test_calls_tokens_and_cost_are_told_by_agent_team_model_tool_and_run(whole):
    *_, spent, _ = await whole.converse(TEN, run="run-1")
    await whole.converse(TEN, run="run-2")
    await whole.act(tool="get_clock", arguments={}, run="run-1")
    await whole.converse(TEN, caller="other")
    assert (await refusal(whole.converse(TEN, caller="other"))).reason == "budget.calls"
    rows, total = await asked(whole, Group.AGENT, Group.TEAM)
    assert set(rows) == {("trader", "desk"), ("other", "research")}
    mine = rows[("trader", "desk")]
    assert (mine.calls, mine.refusals, mine.failures) == (3, 0, 0)
    assert mine.cost_micro_usd == whole.spent("cost_micro_usd") == 2 * spent.cost
    assert mine.output_tokens == 40
    assert mine.input_tokens == 2 * spent.usage.input_tokens
    assert (rows[("other", "research")].calls, rows[("other", "research")].refusals) == (1, 1)
    assert total.calls == 4
    by_model, _ = await asked(whole, Group.MODEL, Group.TOOL)
    assert {names: used.calls for names, used in by_model.items()} == {("flash", ""): 3, ("", "get_clock"): 1}
    by_run, _ = await asked(whole, Group.RUN)
    assert {name: used.calls for (name,), used in by_run.items()} == {"run-1": 2, "run-2": 1, "": 1}
    assert by_run[("run-1",)].cost_micro_usd == spent.cost


async def test_streams_that_were_cut_and_counts_and_refusals_are_told_for_what_they_were(around, whole):
    around.vertex_fails("reset_after_n", n=3)
    await refusal(whole.converse(TEN))
    around.vertex_fails("status", code=503)
    await refusal(whole.converse(TEN))
    await whole.count(TEN)
    await refusal(whole.converse(TEN, model="gone"))
    await refusal(whole.converse(TEN, constraint=RegexConstraint(pattern="a+")))
    rows, _ = await asked(whole, Group.MODEL)
    used = rows[("flash",)]
    assert (used.calls, used.failures) == (3, 2)
    charged = whole.told("outcome")[0]
    assert used.cost_micro_usd == charged["charges"]["cost_micro_usd"] == whole.spent("cost_micro_usd") > 0
    assert used.input_tokens + used.output_tokens == charged["charges"]["tokens"]
    assert sum(row.refusals for row in rows.values()) == 2
    await whole.agree()


async def test_a_loop_without_a_run_of_its_own_is_one_run_from_its_first_turn_on(whole):
    """As run budgets count it; the end of its first turn may be of another time than its intent."""
    await looped(whole, "buy 2 AAPL")
    await looped(whole, "quote for AAPL", run="run-7")
    await whole.converse(TEN)
    rows, _ = await asked(whole, Group.RUN)
    (first, *_) = whole.told("intent")
    run = (first["operation"],)
    assert {name: used.calls for name, used in rows.items()} == {run: 3, ("run-7",): 3, ("",): 1}
    (one, *_) = [told for told in whole.told("outcome") if told["operation"] == first["operation"]]
    assert rows[run].cost_micro_usd == sum(
        told["charges"]["cost_micro_usd"]
        for told in whole.told("outcome")
        if told["operation"] == one["operation"] or told["run"] == one["operation"]
        if told["ask"].startswith("chat:")
    )
    ended_alone = UsageSum(replace(EVERYTHING, by=(Group.RUN,)))
    ended_alone.add(json.dumps(one).encode())
    assert [name for name, _ in ended_alone.report().rows] == [run]


async def test_the_estimated_part_of_the_cost_is_told_as_such(around, whole):
    *_, spent, _ = await whole.converse(TEN)
    around.vertex_fails("reset_after_n", n=3)
    await refusal(whole.converse(TEN))
    rows, total = await asked(whole, Group.AGENT)
    charged = whole.told("outcome")[1]
    assert json.loads(charged["account"])["usage_estimated"]
    estimated = charged["charges"]["cost_micro_usd"]
    assert (total.cost_micro_usd, total.estimated_micro_usd) == (spent.cost + estimated, estimated)
    assert rows[("trader",)] == total
    table = CliRunner().invoke(usage, [str(whole.path)], env={"COLUMNS": "200"})
    assert "estimated" in table.output
    assert written(estimated, MICRO) in table.output
    printed = CliRunner().invoke(usage, [str(whole.path), "--json"])
    assert json.loads(printed.output)["total"]["estimated_micro_usd"] == estimated
    oncall = token(whole.world.clock, "oncall")
    async with at_a_url(whole) as url:
        remote = await told_by(url, oncall, "--json")
        assert json.loads(remote.output) == json.loads(printed.output)


async def looped(whole, text, run=""):
    """A stream whose tools the gateway runs, heard to its end."""
    request = prompt(text, run=run)
    read = replace(request.read(), run_tools=RunTools(turns_max=8, tools=(), key=""))
    async with aclosing(converse(whole.stations, whole.passage(), replace(request, read=lambda: read))) as told:
        return [event async for event in told]


async def test_a_stream_that_was_lost_with_its_gateway_counts_as_it_is_charged(around, tmp_path):
    async with around.gateway(tmp_path, AGENTS) as whole:
        *_, spent, _ = await whole.converse(TEN, run="run-1")
        told = whole.stream(TEN, run="run-1")
        await anext(told)
        left = whole.snapshot(tmp_path / "left")
        await told.aclose()
    async with around.gateway(left, AGENTS) as after:
        (lost,) = after.told("lost")
        assert lost["state"] == "failed"
        rows, total = await asked(after, Group.RUN)
        assert set(rows) == {("run-1",)}
        assert (total.calls, total.failures) == (2, 1)
        assert total.cost_micro_usd == after.spent("cost_micro_usd") > 2 * spent.cost


async def test_each_day_has_its_own(whole):
    clock = whole.world.clock
    day = clock.unix_us() // DAY_US * DAY_US
    await whole.converse(TEN)
    clock.pass_s(86_400)
    await whole.converse(TEN)
    await whole.converse(TEN)
    rows, _ = await asked(whole, Group.DAY, first=day, last=day + 2 * DAY_US)
    assert [used.calls for used in rows.values()] == [1, 2]
    for first, last, calls in ((day, day + DAY_US, 1), (day + DAY_US, day + 2 * DAY_US, 2), (day - DAY_US, day, 0)):
        _, total = await asked(whole, first=first, last=last)
        assert total.calls == calls


async def test_the_file_tells_the_same_as_the_question_also_while_it_is_used(whole, tmp_path):
    await whole.converse(TEN, run="run-1")
    await whole.act(tool="get_clock", arguments={})
    rows, total = await asked(whole, Group.AGENT, Group.RUN)
    day = str((await asked(whole, Group.DAY))[0].popitem()[0][0])
    arguments = [str(whole.path), "--by", "agent", "--by", "run", "--from", day, "--to", day]
    printed = CliRunner().invoke(usage, [*arguments, "--json"])
    assert printed.exit_code == 0, printed.output
    told = json.loads(printed.output)
    assert told["total"] == asdict(total)
    assert told["rows"] == [{"agent": agent, "run": run} | asdict(used) for (agent, run), used in rows.items()]
    table = CliRunner().invoke(usage, arguments, env={"COLUMNS": "200"})
    assert table.exit_code == 0
    assert "trader" in table.output
    assert "run-1" in table.output


def test_days_and_files_that_will_not_do_are_refused_in_a_sentence(tmp_path):
    nothing = tmp_path / "nothing"
    nothing.write_text("nothing")
    for arguments, told in (
        ([str(nothing)], "neither a SQLite ledger nor an audit export"),
        ([str(nothing), "--from", "yesterday"], "write it as 2026-11-23"),
        ([str(nothing), "--from", "2026-11-23", "--to", "2026-11-21"], "write the later day as --to"),
        ([str(nothing), "--by", "colour"], "colour"),
    ):
        refused = CliRunner().invoke(usage, arguments)
        assert refused.exit_code == 2
        assert told in refused.output


async def test_only_an_operator_may_ask_and_only_what_can_be_answered(whole):
    told = await refusal(query_usage(whole.stations, whole.passage(), lambda: EVERYTHING))
    assert told.reason == "operator.required"
    now = whole.world.clock.unix_us()
    for query, field in (
        (UsageQuery(from_unix_us=now, to_unix_us=now, by=()), "to_unix_us"),
        (UsageQuery(from_unix_us=-1, to_unix_us=now, by=()), "to_unix_us"),
        (EVERYTHING, "to_unix_us"),
        (UsageQuery(from_unix_us=now - 1, to_unix_us=now, by=(Group.DAY, Group.DAY)), "by"),
    ):
        refused = await refusal(query_usage(whole.stations, whole.passage("oncall"), lambda query=query: query))
        assert (refused.kind, refused.violations[0].field) == (Kind.MALFORMED, field)


def intent(operation, time_us, **more):
    claims = [{"unit": "cost_micro_usd", "amount": 9}, {"unit": "cost_micro_usd", "amount": 7}]
    fields = {"agent": "a", "team": "t", "ask": "chat:m", "run": "", "claims": claims}
    return json.dumps({"kind": "intent", "time_us": time_us, "operation": operation} | fields | more).encode()


def ledgers(kind, operation, time_us, **more):
    return json.dumps({"kind": kind, "time_us": time_us, "operation": operation, "tool": "chat:m"} | more).encode()


def test_what_was_lost_counts_as_unknown_and_with_its_charges_when_it_was_found_out():
    found = UsageSum(UsageQuery(from_unix_us=0, to_unix_us=100, by=(Group.AGENT, Group.MODEL)))
    found.add(intent("op-1", 1))
    found.add(ledgers("lost", "op-1", 2, state="unknown"))
    found.add(ledgers("resolved", "op-1", 3, state="failed", charges={"cost_micro_usd": 5}))
    found.add(intent("op-2", 1))
    found.add(ledgers("lost", "op-2", 2, state="failed"))  # charged in full
    found.add(ledgers("reconciled", "op-0", 2, state="succeeded", charges={"cost_micro_usd": 1}))
    rows = dict(found.report().rows)
    assert rows[("a", "m")] == Used(calls=2, unknown=0, failures=2, cost_micro_usd=5 + 9, estimated_micro_usd=9)
    assert rows[("", "m")] == Used(cost_micro_usd=1)  # its intent was before this time


def outcome(operation, time_us, **more):
    fields = {"agent": "a", "team": "t", "ask": "place_order", "run": "r", "charges": {}}
    return json.dumps({"kind": "outcome", "time_us": time_us, "operation": operation} | fields | more).encode()


@pytest.mark.parametrize("kind", ["reconciled", "resolved"])
@pytest.mark.parametrize("state", ["succeeded", "failed"])
def test_what_nobody_knew_is_unknown_only_until_it_is_known(kind, state):
    """In the row that counted it, whatever the day, and by the names of its call, which later records do not tell."""
    found = UsageSum(UsageQuery(from_unix_us=0, to_unix_us=4 * DAY_US, by=(Group.AGENT, Group.DAY)))
    found.add(intent("op-1", 1, ask="place_order"))
    found.add(outcome("op-1", 2, state="unknown"))
    found.add(outcome("op-2", 2, state="unknown"))  # its intent was before this time
    found.add(outcome("op-3", 2, state="unknown"))
    assert found.report().total.unknown == 3
    for operation in ("op-1", "op-2"):
        found.add(ledgers(kind, operation, DAY_US + 1, state=state, tool="place_order"))
    first, second = (("a", "1970-01-01"), ("a", "1970-01-02"))
    assert dict(found.report().rows) == {
        first: Used(calls=1, unknown=1),
        second: Used(failures=2 * (state == "failed")),
    }


def test_an_operation_is_unknown_once_however_often_it_is_said():
    found = UsageSum(EVERYTHING)
    found.add(intent("op-1", 1))
    found.add(ledgers("lost", "op-1", 2, state="unknown"))
    found.add(outcome("op-1", 3, state="unknown"))
    assert found.report().total.unknown == 1
    found.add(ledgers("reconciled", "op-1", 4, state="succeeded"))
    found.add(ledgers("followed", "op-1", 5, state="succeeded"))
    assert found.report().total.unknown == 0
    only_the_end = UsageSum(UsageQuery(from_unix_us=4, to_unix_us=9, by=()))
    only_the_end.add(ledgers("reconciled", "op-1", 4, state="succeeded"))
    assert only_the_end.report().total == Used()


async def test_a_lost_order_that_is_found_or_resolved_is_told_as_unknown_no_more(whole):
    whole.world.lose_replies()
    found, resolved = [(await whole.act(RESTING_BUY, key=key)).operation for key in ("found", "resolved")]
    assert {found.state, resolved.state} == {State.UNKNOWN}
    assert (await asked(whole))[1].unknown == 2
    decided = Resolution(operation=resolved.id, outcome=State.FAILED, reason="the statement has none", charges=())
    await resolve_operation(whole.stations, whole.passage("oncall"), decided)
    assert (await asked(whole))[1].unknown == 1
    whole.world.exchange.faults.clear()
    await whole.swept(seconds=2)
    assert whole.operations()[found.id] == "succeeded"
    rows, total = await asked(whole, Group.AGENT)
    assert (total.unknown, total.failures, total.calls) == (0, 1, 2)
    assert set(rows) == {("trader",)}


def test_runs_without_end_are_refused_and_not_kept():
    found = UsageSum(UsageQuery(from_unix_us=0, to_unix_us=100, by=(Group.RUN,)))
    for number in range(GROUPS_MAX):
        found.add(intent("op", 1, run=str(number)))
    found.add(intent("op", 1, run="0"))
    with pytest.raises(UsageTooWideError, match="group by less"):
        found.add(intent("op", 1, run="more"))


async def test_only_the_pages_around_the_time_are_read(tmp_path):
    """Positions with gaps, times a little out of order, and a record far longer than the time that is asked for."""
    path = tmp_path / "ledger.db"
    step = 60_000_000
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE audit(position INTEGER PRIMARY KEY, record BLOB)")
        out_of_order = (number * step + (number % 7 - 3) * step for number in range(1, 20_001))
        rows = [(3 * place, intent(f"op-{place}", time_us)) for place, time_us in enumerate(out_of_order, 1)]
        connection.executemany("INSERT INTO audit VALUES (?, ?)", rows)
        connection.commit()
    pages = Counting(SqlitePages(path))
    for first, last in ((0, 10), (9_000, 9_100), (19_990, 20_100), (30_000, 30_001), (5_000, 5_001)):
        query = UsageQuery(from_unix_us=first * step, to_unix_us=last * step, by=())
        expected = sum(query.from_unix_us <= json.loads(row)["time_us"] < query.to_unix_us for _, row in rows)
        pages.read = 0
        assert (await RecordedUsage(pages).used(query)).total.calls == expected
        assert pages.read <= (last - first) + 2 * MARGIN_US // step + 400


class Counting:
    """Pages that say how many records were read of them."""

    def __init__(self, pages):
        self._pages = pages
        self.read = 0

    async def after(self, position, limit):
        page = await self._pages.after(position, limit)
        self.read += len(page)
        return page

    async def last(self):
        return await self._pages.last()


async def test_an_empty_record_has_nothing(tmp_path):
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        connection.execute("CREATE TABLE audit(position INTEGER PRIMARY KEY, record BLOB)")
        connection.commit()
    report = await RecordedUsage(SqlitePages(tmp_path / "ledger.db")).used(EVERYTHING)
    assert (report.total, report.rows) == (Used(), ())


@asynccontextmanager
async def at_a_url(whole):
    """The same stations behind the real server; gives its address."""
    stations = whole.stations
    services = ModelService(stations, whole.lasting), ToolService(stations), OperatorService(stations)
    server = GatewayServer(contract(*services), WireConfig(), stations.clock, stations.ids, whole.log)
    application = WebApplication(server.table, server.surroundings, server.readiness, WebOptions())
    port = await server.start("127.0.0.1", 0, application)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.drain(0.05)


async def told_by(url, bearer, *arguments):
    """What the command says of a running gateway; it waits in a thread, because the gateway is in this loop."""
    run = partial(CliRunner().invoke, usage, [*arguments], env={"GATEWAY_URL": url, "GATEWAY_TOKEN": bearer})
    return await asyncio.to_thread(run)


async def test_a_running_gateway_tells_an_operator_the_same_as_its_file(whole):
    await whole.converse(TEN, run="run-1")
    await whole.act(tool="get_clock", arguments={}, run="run-1")
    await refusal(whole.act(tool="nothing", arguments={}))
    oncall = token(whole.world.clock, "oncall")
    by = [argument for group in Group for argument in ("--by", group.value)]
    async with at_a_url(whole) as url:
        asked_for = await told_by(url, oncall, "--json", *by)
        assert asked_for.exit_code == 0, asked_for.output
        # A file that is named is read, whatever the environment says of a gateway.
        read = CliRunner().invoke(usage, [str(whole.path), "--json", *by], env={"GATEWAY_URL": "http://127.0.0.1:9"})
        assert json.loads(asked_for.output) == json.loads(read.output)
        assert json.loads(read.output)["total"]["calls"] == 2
        table = await told_by(url, oncall)
        assert table.exit_code == 0
        assert "flash" in table.output
        refused = await told_by(url, token(whole.world.clock))
        assert refused.exit_code == 1
        assert "permission_denied: Only an operator" in refused.output
        assert "no answer of a gateway" in (await told_by(whole.world.exchange.url, oncall)).output


async def test_a_question_that_cannot_be_sent_is_told_and_sends_nothing(whole):
    for arguments, told in (
        ([], "name a FILE, or give --database, or --url"),
        ([str(whole.path), "--url", "https://g.example"], "leave out one or the other"),
        (["--database", "--as", "oncall@acme.example"], "leave out one or the other"),
        (["--url", "http://g.example"], "write https://"),
        (["--url", "http://127.0.0.1:9"], "cannot reach"),
        (["--url", "https://g.example", "--token-command", "true"], "no token from 'true': it printed nothing"),
    ):
        run = partial(CliRunner().invoke, usage, arguments, env={"GATEWAY_TOKEN": "a.b.c", "GATEWAY_URL": None})
        refused = await asyncio.to_thread(run)
        assert (refused.exit_code, told in refused.output) == (2, True), refused.output


async def test_an_answer_is_read_to_its_end():
    """A report of a year is megabytes: one read of a socket is the beginning of it."""
    rows = [{"day": f"day-{number}", "calls": "1"} for number in range(100_000)]
    body = json.dumps({"rows": rows, "total": {"calls": "100000"}})

    async def answer(_):
        return web.Response(text=body, content_type="application/json")

    app = web.Application()
    app.router.add_post("/{method:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        told = await told_by("http://{}:{}".format(*runner.addresses[0][:2]), "a.b.c", "--by", "day", "--json")
        assert told.exit_code == 0, told.output
        assert len(json.loads(told.output)["rows"]) == 100_000
    finally:
        await runner.cleanup()
