"""`just faults`: the real gateway process is killed, again and again, and the truth is compared afterwards.

Every life of the gateway ends by SIGKILL at a moment that is drawn from the seed: around a commit, at a byte of an
order on its way to the exchange or of its reply, or at any time. The exchange loses replies, answers late and tells
fills twice besides. The next life begins with what the last one left, and every order that has no definite answer is
repeated with its key. At the end of each season of lives nothing is killed any more, and then must hold:

- the exchange has each order at most once, was sent it at most once, and has none that the ledger does not know;
- every operation is SUCCEEDED or FAILED, and that is what the exchange says;
- what a caller was told once never changed;
- the balances are what the holds add up to, nothing is held any more, and no budget is overspent;
- the audit log verifies.
"""

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]

from plans import Life, lives  # noqa: E402
from season import seasons_on  # noqa: E402 - found by the line above
from truth import compared  # noqa: E402

SEASON = 100
"""Lives that share one exchange and one ledger."""

say = partial(print, flush=True)


@dataclass
class Tally:
    """What a campaign came to."""

    injections: Counter = field(default_factory=Counter)
    orders: int = 0
    refused: int = 0
    problems: list[str] = field(default_factory=list)


async def season_of(ledger: str, planned: Sequence[Life], tally: Tally, folder: Path) -> None:
    """Some lives, then peace, then the comparison. Problems are added to the tally."""
    async with seasons_on(ledger, folder) as around:
        for life in planned:
            ended = await around.live(life)
            tally.injections[life.end if ended else f"{life.end} (not reached)"] += 1
        await around.peace()
        tally.orders += len(around.told)
        tally.refused += sum(answer.refused for answer in around.told.values())
        tally.problems += [f"{ledger} lives {planned[0].number}+: {problem}" for problem in await compared(around)]


async def campaign(asked: argparse.Namespace) -> int:
    """All seasons on all ledgers; 1 if anything is not true afterwards."""
    total = Tally()
    ledgers = ("sqlite", "postgres") if asked.ledger == "both" else (asked.ledger,)
    begun = time.monotonic()
    for ledger in ledgers:
        share = -(-asked.injections // len(ledgers))
        for first in range(asked.first, asked.first + share, SEASON):
            count = min(SEASON, asked.first + share - first)
            with tempfile.TemporaryDirectory(prefix="gateway-faults-") as folder:
                await season_of(ledger, lives(asked.seed, ledger, first, count), total, Path(folder))
            done = sum(total.injections.values())
            say(f"{ledger}: {done} lives, {total.orders} orders, {len(total.problems)} problems")
            if total.problems:
                break
    for end, count in sorted(total.injections.items()):
        say(f"{end:<36}{count:>6}")
    for problem in total.problems:
        say(f"UNTRUE: {problem}")
    say(json.dumps(_summary(asked, total, time.monotonic() - begun)))
    return 1 if total.problems else 0


def _summary(asked: argparse.Namespace, total: Tally, seconds: float) -> dict[str, object]:
    killed = sum(count for end, count in total.injections.items() if not end.endswith("(not reached)"))
    return {
        "faults": asked.ledger,
        "seed": asked.seed,
        "lives": sum(total.injections.values()),
        "struck_where_planned": killed,
        "orders": total.orders,
        "refused": total.refused,
        "problems": len(total.problems),
        "seconds": round(seconds),
        "ok": not total.problems,
    }


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=None, help="draws every life; printed, so that it can be replayed")
    parser.add_argument("--injections", type=int, default=1_000, help="lives that end by SIGKILL, over all ledgers")
    parser.add_argument("--first", type=int, default=0, help="the number of the first life, to replay one season")
    parser.add_argument("--ledger", choices=["sqlite", "postgres", "both"], default="both")
    asked = parser.parse_args()
    asked.seed = secrets.randbelow(10**9) if asked.seed is None else asked.seed
    say(f"seed {asked.seed}")
    return asyncio.run(campaign(asked))


if __name__ == "__main__":
    raise SystemExit(main())
