"""kill -9 in the middle of a stream of calls: whatever was acknowledged is there, and everything adds up."""

import asyncio
import random
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from made_calls import CALLER, Desk

from gateway.audit.verify import verify
from gateway.ledger.check import check
from gateway.terms.operations import State

PROGRAM = Path(__file__).with_name("crash_writer.py")
ROUNDS = 12
TOKENS_MAX = 400


async def killed_after(lines, *arguments):
    """What the process said until it was killed in the middle of its work."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), *map(str, arguments), stdout=asyncio.subprocess.PIPE
    )
    try:
        said = [await process.stdout.readline() for _ in range(lines)]
    finally:
        process.kill()
    said += (await process.stdout.read()).splitlines(keepends=True)
    assert await process.wait() == -signal.SIGKILL
    return [line.decode().split() for line in said if line.endswith(b"\n")]


async def test_nothing_acknowledged_is_lost_and_nothing_is_overspent(tmp_path):
    path = tmp_path / "ledger.db"
    chance = random.Random(20261123)
    admitted, settled = set(), {}
    for number in range(ROUNDS):
        async with asyncio.timeout(30):
            said = await killed_after(chance.randrange(1, 200), path, f"boot-{number}", chance.random())
        admitted |= {words[1] for words in said if words[0] == "admitted"}
        settled |= {words[1]: words[2] for words in said if words[0] == "settled"}
        before = verify(path)
        assert before.ok, before.bad
        desk = Desk(path, instance="checker", boots=iter([f"check-{number}"]))
        async with desk.open() as ledger:
            for operation in admitted:
                found = await ledger.get(operation, CALLER)
                assert found.state.value == settled.get(operation, found.state.value)
                assert found.state in (State.SUCCEEDED, State.FAILED, State.UNKNOWN)
        after = verify(path)
        assert (after.ok, after.open_count) == (True, 0), after.bad
        assert check(path) == ()
    with closing(sqlite3.connect(path)) as connection:
        taken = connection.execute("SELECT held + spent FROM balances WHERE unit = 'tokens'").fetchall()
        lost = connection.execute("SELECT id FROM operations WHERE failure_reason = 'operation.lost'").fetchall()
    assert max(taken) <= (TOKENS_MAX,)
    assert len(settled) > ROUNDS
    assert lost
