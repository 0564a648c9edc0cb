"""A process that admits and settles until it is killed, and says on its output what it was told is durable.

Run as `python crash_writer.py LEDGER BOOT SEED`. Each line was written after the ledger's answer: `admitted OPERATION`,
`settled OPERATION STATE` or `refused SEQUENCE`.
"""

import asyncio
import os
import random
import sys
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from made_calls import Desk, claim

from gateway.terms.money import Unit
from gateway.terms.operations import Failed, Failure, Reservation, Succeeded, Unknown

NO = Failure(reason="no", message="No.")
OUTCOMES = (
    Succeeded(result=b"{}"),
    Succeeded(result=b"{}", charges=((Unit.TOKENS, 3),)),
    Failed(failure=NO),
    Failed(failure=NO, charges=((Unit.TOKENS, 1),)),
    Unknown(failure=NO),
)


def say(*words):
    os.write(1, (" ".join(words) + "\n").encode())


async def work(desk, boot, names, chance):
    while True:
        claims = [
            claim(limit=10**6, amount=chance.randrange(3)),
            claim(unit=Unit.TOKENS, window=boot, limit=400, amount=5),
        ]
        verdict = await desk.admit(operation=f"op-{boot}-{next(names)}", claims=claims)
        if not isinstance(verdict, Reservation):
            receipt = await desk.refuse(verdict.reason)
            say("refused", str(receipt.sequence))
            continue
        say("admitted", verdict.operation)
        if chance.random() < 0.1:
            await asyncio.sleep(0.002)
        operation = await desk.settle(verdict, chance.choice(OUTCOMES))
        say("settled", operation.id, operation.state.value)


async def main(path, boot, seed):
    desk = Desk(Path(path), boots=iter([boot]))
    await desk.make().start()
    chance = random.Random(seed)
    names = count(1)
    async with asyncio.TaskGroup() as group:
        for _ in range(12):
            group.create_task(work(desk, boot, names, chance))


asyncio.run(main(*sys.argv[1:]))
