"""How far a streamed answer has come, and the name under which its tools are run once over all attempts."""

import secrets
from dataclasses import replace

from agent.client.errors import incomplete
from generated.agentic.gateway.v1 import ChatEvent, ChatRequest


class Place:
    """How far a stream has come: every event once, in its order, the last one last."""

    __slots__ = ("_marked", "begun", "finished", "sequence")

    def __init__(self) -> None:
        self.begun = 0
        self.begin()

    def begin(self) -> None:
        """Forget how far it has come: its first event is the next one."""
        self.begun += 1
        self.sequence = self._marked = 0
        self.finished = False

    @property
    def stuck(self) -> bool:
        """Whether nothing has come since the last `mark`."""
        return self.sequence == self._marked

    def mark(self) -> None:
        """Remember how far it has come."""
        self._marked = self.sequence

    def take(self, event: ChatEvent) -> None:
        """The next event; raises `GatewayError` for another one."""
        self.sequence += 1
        if event.sequence != self.sequence or self.finished:
            raise incomplete(f"event {event.sequence} came in place {self.sequence}")
        self.finished = event.finish is not None

    def check_end(self) -> None:
        """Raise `GatewayError` if something is missing."""
        if not self.finished:
            raise incomplete(f"it ended after {self.sequence} events without its last one")


def keyed(request: ChatRequest) -> ChatRequest:
    """The request with an idempotency key for the tools that the gateway runs."""
    if type(request) is not ChatRequest or request.run_tools is None or request.run_tools.idempotency_key:
        return request
    key = f"agent-{secrets.token_hex(16)}"
    return replace(request, run_tools=replace(request.run_tools, idempotency_key=key))
