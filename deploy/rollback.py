"""The way back: `python -m deploy.rollback PROJECT REGION` sends all calls to the revision before."""

import argparse
from collections.abc import Sequence

from deploy.arguments import add_place, place_of
from deploy.faults import DeployError
from deploy.live import Live, live, ready_revisions, to_revisions
from deploy.place import SERVICE, Place
from deploy.shell import Shell, say


def rollback(shell: Shell, place: Place, to: str = "") -> None:
    """Send all calls to revision `to`, or to the one before. Raises DeployError where there is none to go back to."""
    now = live(shell, place)
    if now is None:
        raise DeployError(f"there is no {SERVICE}")
    ready = ready_revisions(shell, place)
    if to and to not in ready and not shell.dry:
        raise DeployError(f"{to} is no revision that is ready: there are {', '.join(ready) or 'none'}")
    target = to or revision_before(now, ready)
    shell.do(to_revisions(place, {target: 100}))
    if not shell.dry:
        shell.tell(f"all calls go to {target}")


def revision_before(now: Live, ready: Sequence[str]) -> str:
    """While calls are split, the oldest that has some; otherwise the newest one that is older than the one that serves.

    `ready` is the newest first. Raises DeployError where there is none.
    """
    serving = [name for name in ready if name in now.traffic]
    if len(serving) > 1:
        return serving[-1]
    older = ready[ready.index(serving[0]) + 1 :] if serving else []
    if not older:
        raise DeployError("there is no older revision that is ready")
    return older[0]


def main(words: Sequence[str] | None = None) -> int:
    """The command line. Exit code 1 if traffic was not changed."""
    parser = argparse.ArgumentParser(prog="python -m deploy.rollback", description=__doc__)
    add_place(parser)
    parser.add_argument("--to", default="", metavar="REVISION", help="default: the one before")
    given = parser.parse_intermixed_args(words)
    try:
        rollback(Shell(dry=given.dry_run, tell=say), place_of(given), given.to)
    except DeployError as error:
        parser.exit(1, f"rollback: {error}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
