"""The drain: how a server stops without losing what could still end well.

Cloud Run gives ten seconds from SIGTERM to SIGKILL (cloud-run-vertex study, 1.2).
"""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from gateway.wire.load import Surroundings


class Listening(Protocol):
    """A socket that accepts connections."""

    def stop_listening(self) -> None:
        """Accept no more."""
        ...

    async def wait_stopped(self) -> None:
        """Wait until it, and on newer Pythons every connection it accepted, is closed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """How a drain went."""

    cut: int
    """Calls that were ended with UNAVAILABLE because the time was over."""
    abandoned: int
    """Of these: calls whose clean-up had not ended when the drain did."""


async def drain(listener: Listening, surroundings: Surroundings, limit_s: float) -> Drained:
    """Accept no connection, say GOAWAY on each, refuse new calls, let the running ones end for `limit_s`, then close.

    What is still running then is cancelled and answered with UNAVAILABLE and a retry hint; it has `drain_end_s` for
    its clean-up, and is answered before the connection closes even if it takes longer. In all it takes at most
    `limit_s` and `drain_end_s` and `linger_s`, and as long as nothing waits, a few milliseconds.
    """
    config, load = surroundings.config, surroundings.load
    load.draining = True
    listener.stop_listening()
    for connection in tuple(load.connections):
        connection.say_goodbye()
    await load.until_no_calls(limit_s)
    # Every call of the web is an exchange too.
    cut = max(len(load.calls), len(load.exchanges))
    leaving = surroundings.busy("wire.draining", "this gateway is stopping; call again")
    for call in (*load.calls, *load.exchanges):
        call.end(leaving)
    await load.until_no_calls(config.drain_end_s)
    abandoned = max(len(load.calls), len(load.exchanges))
    for call in (*load.calls, *load.exchanges):
        call.answer_now(leaving)
    for connection in tuple(load.connections):
        connection.shut()
    await load.until_no_connections(config.linger_s)
    for connection in tuple(load.connections):
        connection.abort()
    # asyncio's own `wait_closed` waits for connections from Python 3.12 on; the last ones are told in the next turns.
    try:
        async with asyncio.timeout(config.linger_s):
            await listener.wait_stopped()
    except TimeoutError:
        pass
    drained = Drained(cut=cut, abandoned=abandoned)
    surroundings.witness.tell("server.drained", {"cut": drained.cut, "abandoned": drained.abandoned})
    return drained
