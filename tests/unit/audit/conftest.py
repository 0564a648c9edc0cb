"""The audit's tests use real ledgers and the calls that the ledger's tests are made of."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ledger"))

from made_calls import Desk, claim

from gateway.terms.operations import Failed, Failure, Unknown

NO = Failure(reason="no", message="No.")


@pytest.fixture
async def desk(tmp_path):
    """Two boots, the first killed, with one of everything.

    boot-1: 0 boot, 1 intent op-1, 2 outcome, 3 intent op-2, 4 refusal, 5 intent op-3
    boot-2: 0 boot, 1 lost op-2, 2 lost op-3, 3 intent op-4, 4 outcome, 5 intent op-5, 6 outcome, 7 heartbeat, 8 close
    """
    desk = Desk(tmp_path / "ledger.db")
    await desk.make().start()
    await desk.do(claims=[claim()])
    await desk.reserve()
    await desk.refuse()
    await desk.reserve()
    desk.crash()
    await desk.make().start()
    await desk.settle(await desk.reserve(), Failed(failure=NO))
    await desk.settle(await desk.reserve(), Unknown(failure=NO))
    await desk.ledger.note(desk.records.heartbeat())
    await desk.ledger.close()
    return desk
