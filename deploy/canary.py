"""A share of the calls for the newest revision: `python -m deploy.canary PERCENT PROJECT REGION`."""

import argparse
from collections.abc import Sequence

from deploy.arguments import add_place, place_of
from deploy.faults import DeployError
from deploy.live import Live, live, to_revisions
from deploy.place import SERVICE, Place
from deploy.shell import Shell, say


def canary(shell: Shell, place: Place, percent: int) -> None:
    """Send so many per cent of calls to the newest revision, the rest to the one that serves. Raises DeployError."""
    now = live(shell, place)
    if now is None:
        raise DeployError(f"there is no {SERVICE} yet: run `just deploy`")
    serving = stable_of(now)
    shares = {now.newest: percent, serving: 100 - percent}
    shell.tell(
        "# without a database each revision keeps a ledger of its own: neither knows the other's keys and budgets"
    )
    shell.do(to_revisions(place, {name: share for name, share in shares.items() if share}))


def stable_of(now: Live) -> str:
    """The revision beside the newest one that has most of the calls. Raises DeployError where there is none."""
    others = {name: percent for name, percent in now.traffic.items() if name != now.newest}
    if not others:
        raise DeployError(f"{now.newest} serves alone: deploy another one with `just deploy --no-traffic` first")
    return max(others, key=lambda name: others[name])


def main(words: Sequence[str] | None = None) -> int:
    """The command line. Exit code 1 if traffic was not changed."""
    parser = argparse.ArgumentParser(prog="python -m deploy.canary", description=__doc__)
    parser.add_argument("percent", metavar="PERCENT", type=_percent, help="0 to 100")
    add_place(parser)
    given = parser.parse_intermixed_args(words)
    try:
        canary(Shell(dry=given.dry_run, tell=say), place_of(given), given.percent)
    except DeployError as error:
        parser.exit(1, f"canary: {error}\n")
    return 0


def _percent(written: str) -> int:
    if not (written.isascii() and written.isdigit() and len(written) <= 3 and int(written) <= 100):
        raise argparse.ArgumentTypeError("write a whole number from 0 to 100")
    return int(written)


if __name__ == "__main__":
    raise SystemExit(main())
