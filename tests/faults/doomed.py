"""`python doomed.py serve ...`: the gateway's own process, killed by itself at a commit of its SQLite ledger.

`FAULT_COMMIT=before:N` or `after:N` in the environment: SIGKILL right before the Nth COMMIT is executed, or right after
it has become durable and before anybody is told. Nothing else differs from `python -m gateway`.
"""

import os
import signal
import sqlite3
import sys
import threading


class Doom:
    """Counts commits of all connections."""

    def __init__(self, spoken: str) -> None:
        side, _, number = spoken.partition(":")
        self._side, self._left = side, int(number or 0)
        self._lock = threading.Lock()

    def strikes(self, side: str) -> bool:
        """Whether this is the commit, seen from this side of it."""
        with self._lock:
            if side == "before":
                self._left -= 1
            return self._side == side and self._left == 0


class DoomedConnection(sqlite3.Connection):
    """SQLite's connection, which dies at its appointed commit."""

    def execute(self, statement, *values):
        """See `sqlite3.Connection`."""
        if statement != "COMMIT":
            return super().execute(statement, *values)
        if DOOM.strikes("before"):
            die()
        done = super().execute(statement, *values)
        if DOOM.strikes("after"):
            die()
        return done


def die():
    """At once: no cleaning up, no flushing."""
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


DOOM = Doom(os.environ.pop("FAULT_COMMIT", ""))
_connect = sqlite3.connect


def connect(*arguments, **named):
    """See `sqlite3.connect`."""
    return _connect(*arguments, **{"factory": DoomedConnection, **named})


if __name__ == "__main__":
    sqlite3.connect = connect
    from gateway.__main__ import main

    sys.argv[0] = "gateway"
    raise SystemExit(main())
