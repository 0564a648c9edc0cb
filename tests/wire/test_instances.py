"""Three real gateway processes on one PostgreSQL, called by real clients: together they are one gateway."""

import asyncio
import json
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime

import grpc.aio
from gateway_town import ORDER, Visitor, visited
from real_postgres import rows_of

from generated.agentic.gateway.v1 import OperationState
from localcloud.process import clean_environment

RUN_CALLS = 50
"""What the town grants a run (`Plan.calls_run`)."""


@asynccontextmanager
async def three(folder, url, limits=()):
    """Visitors of three gateways around one exchange."""
    order_key = "k" * 64
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(
            visited(folder, limits=limits, GATEWAY_DATABASE_URL=url, EXCHANGE_ORDER_KEY=order_key)
        )
        visitors, town = [first], first.town
        for number in (2, 3):
            running = await town.processes.start(
                f"gateway-{number}",
                ["-m", "gateway", "serve", "--config", str(folder / "gateway.toml")],
                {
                    "PORT": "0",
                    "GATEWAY_HOST": "127.0.0.1",
                    "GATEWAY_DATABASE_URL": url,
                    "GCE_METADATA_HOST": town.metadata("gateway"),
                    "EXCHANGE_KEY_ID": town.exchange_key_id,
                    "EXCHANGE_SECRET_KEY": town.exchange_secret,
                    "EXCHANGE_ORDER_KEY": order_key,
                },
            )
            place = running.told("url").removeprefix("http://")
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(place))
            visitors.append(Visitor(town, first.session, channel, first.token))
        yield visitors


async def told(call):
    """The state of a call's operation, or why it was refused."""
    try:
        return (await call).state
    except grpc.aio.AioRpcError as error:
        return error.code()


async def command(url, *arguments):
    """Exit code and output of a command that finds the database in its environment."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *arguments),
        stdout=asyncio.subprocess.PIPE,
        env=clean_environment() | {"GATEWAY_DATABASE_URL": url},
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()


async def test_two_hundred_racing_calls_of_three_processes_get_exactly_what_the_budget_is_worth(tmp_path, postgres_url):
    """Attack row 24, over processes: no call too many, and none too few."""
    async with three(tmp_path, postgres_url) as visitors:
        calls = (
            told(visitors[turn % 3].execute("get_clock", "{}", key=f"key-{turn}", run_id="race", timeout=60))
            for turn in range(200)
        )
        counted = Counter(await asyncio.gather(*calls))
    assert counted == {OperationState.SUCCEEDED: RUN_CALLS, grpc.StatusCode.RESOURCE_EXHAUSTED: 200 - RUN_CALLS}
    spent = await rows_of(postgres_url, "SELECT held, spent FROM balances WHERE unit = 'calls' AND scope LIKE 'run:%'")
    assert spent == [(0, RUN_CALLS)]
    code, out = await command(postgres_url, "ledger", "check", "--database")
    assert code == 0, out
    assert out.startswith("ok: balances and holds add up, to what ")
    code, out = await command(postgres_url, "audit", "verify", "--json", "--database")
    report = json.loads(out)
    assert (code, len(report["boots"]), report["open_count"]) == (0, 3, 0)
    assert all(boot["closed"] for boot in report["boots"])
    assert len({boot["instance"] for boot in report["boots"]}) == 3


async def test_two_hundred_racing_orders_of_three_processes_get_exactly_what_the_position_is_worth(
    tmp_path, postgres_url
):
    """Attack row 24, over processes: ten of one each are sent, and the exchange has ten."""
    order = ORDER.replace('"5"', '"1"')
    async with three(tmp_path, postgres_url, ('position_max = "10"',)) as visitors:
        calls = (
            told(visitors[turn % 3].execute(arguments=order, key=f"key-{turn}", timeout=60)) for turn in range(200)
        )
        counted = Counter(await asyncio.gather(*calls))
        assert counted == {OperationState.SUCCEEDED: 10, grpc.StatusCode.PERMISSION_DENIED: 190}
        assert [one["status"] for one in await visitors[0].orders()] == ["filled"] * 10
    positions = await rows_of(postgres_url, "SELECT held, spent FROM balances WHERE unit = 'position_nano'")
    assert set(positions) == {(0, 10 * 10**9)}
    code, out = await command(postgres_url, "ledger", "check", "--database")
    assert code == 0, out
    assert out.startswith("ok: balances and holds add up, to what ")


async def test_processes_that_race_for_one_key_send_one_order(tmp_path, postgres_url):
    async with three(tmp_path, postgres_url) as visitors:
        for turn in range(5):
            states = await asyncio.gather(*(told(visitor.execute(key=f"key-{turn}")) for visitor in visitors * 3))
            assert set(states) <= {OperationState.SUCCEEDED, grpc.StatusCode.ABORTED}
            assert OperationState.SUCCEEDED in states
        assert len(await visitors[0].orders()) == 5


async def test_when_one_process_is_killed_the_others_serve_and_know_what_it_did(tmp_path, postgres_url):
    async with three(tmp_path, postgres_url) as visitors:
        done = await visitors[0].execute(key="before")
        await visitors[0].slow_orders(60_000)
        lost = asyncio.ensure_future(told(visitors[0].execute(key="lost")))
        await visitors[0].order_under_way()
        visitors[0].town.gateway.process.kill()
        assert await lost is grpc.StatusCode.UNAVAILABLE
        again = await visitors[1].execute(key="before")
        assert (again.id, again.intent) == (done.id, done.intent)
        # Its owner is dead, and its lease goes on: nobody may take the order for not sent.
        assert await told(visitors[2].execute(key="lost")) is grpc.StatusCode.ABORTED
        reading = await visitors[2].execute("get_clock", "{}", key="other")
        assert reading.state == OperationState.SUCCEEDED


async def until(condition):
    """Wait for what other processes do."""
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 - they tell nobody
            await asyncio.sleep(0.01)


async def has_orders(visitor, count):
    return len(await visitor.orders()) >= count


async def has_none_open(visitor):
    return all(one["status"] not in ("new", "partially_filled") for one in await visitor.orders())


async def succeeded(visitor, key):
    return await told(visitor.execute(key=key)) is OperationState.SUCCEEDED


RESTING = {"symbol": "AAPL", "side": "buy", "type": "limit", "quantity": "1", "time_in_force": "day"}


async def test_a_halt_at_one_instance_stops_all_of_them_at_once_and_cancels_what_is_open(tmp_path, postgres_url):
    """Attack row 29, over processes: from SetHalt's reply to the last order, and until none is open."""
    async with three(tmp_path, postgres_url) as visitors:
        quote = json.loads((await visitors[0].execute("get_quote", '{"symbol":"AAPL"}', key="q")).result_json)
        order = json.dumps(RESTING | {"limit_price": str(int(float(quote["bid_price"]) * 0.98))})
        ending, states = asyncio.Event(), Counter()

        async def trade(worker):
            count = 0
            while not ending.is_set():
                count += 1
                state = await told(visitors[worker % 3].execute(arguments=order, key=f"{worker}-{count}"))
                states[state] += 1
                if state is grpc.StatusCode.PERMISSION_DENIED:
                    await asyncio.sleep(0.005)

        async with asyncio.TaskGroup() as group:
            for worker in range(9):
                group.create_task(trade(worker))
            await until(lambda: has_orders(visitors[0], 30))
            operator = await visitors[0].another("operator")
            await operator.halt("symbol:AAPL")
            tripped = time.time()
            await until(lambda: has_none_open(visitors[0]))
            closed_ms = (time.time() - tripped) * 1_000
            before = len(await visitors[0].orders())
            await asyncio.sleep(0.3)
            ending.set()
        orders = await visitors[0].orders()
        late_ms = max(0.0, (max(_seconds(one["submitted_at"]) for one in orders) - tripped) * 1_000)
        sys.stdout.write(f"halt over 3 processes: last order {late_ms:.1f} ms, none open {closed_ms:.0f} ms after it\n")
        assert late_ms < 1_000
        assert len(orders) == before
        assert states[grpc.StatusCode.PERMISSION_DENIED] > 0
        reading = await visitors[2].execute("get_clock", "{}", key="reading")
        assert reading.state == OperationState.SUCCEEDED
    spent = await rows_of(postgres_url, "SELECT held, spent FROM balances WHERE unit = 'exposure_micro_usd'")
    assert spent == [(0, 0)] * 3, "of agent, account and firm"
    code, out = await command(postgres_url, "ledger", "check", "--database")
    assert code == 0, out
    assert out.startswith("ok: balances and holds add up, to what ")


def _seconds(text):
    return datetime.fromisoformat(text).timestamp()


async def test_what_a_killed_process_left_another_finds_out_without_a_restart(tmp_path, postgres_url):
    """Nobody sleeps for the lease: it is made to have ended, as it will."""
    async with three(tmp_path, postgres_url) as visitors:
        await visitors[0].late_replies(60_000)
        lost = asyncio.ensure_future(told(visitors[0].execute(key="lost")))
        await until(lambda: has_orders(visitors[0], 1))
        visitors[0].town.gateway.process.kill()
        assert await lost is grpc.StatusCode.UNAVAILABLE
        await rows_of(postgres_url, "UPDATE operations SET lease_until_unix_us = 1 WHERE key = 'lost'")
        await until(lambda: succeeded(visitors[1], "lost"))
        assert len(await visitors[1].orders()) == 1
