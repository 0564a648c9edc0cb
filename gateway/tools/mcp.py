"""Tools of an upstream MCP server, each as an operator approved it.

Before a call the server's own list is looked at, unless that was a moment ago: a tool that the server now declares in
other words than the approved ones is refused as `tool.changed`, until it is approved anew or is what it was again. A
call is sent once; MCP knows no keys of callers, so a tool with an effect says that nobody can find out what became of
a lost one.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import MappingProxyType, TracebackType
from typing import Final, Self

from gateway.terms.aftercare import Finding, Unknowable, Watched
from gateway.terms.asks import ToolAsk, ToolDeclaration
from gateway.terms.caller import Caller
from gateway.terms.clock import Clock
from gateway.terms.evidence import Facts
from gateway.terms.ids import ToolName
from gateway.terms.money import Unit
from gateway.terms.operations import Demand, Failed, Failure, Outcome, Reservation, Tally
from gateway.terms.verdict import Kind, Refusal
from gateway.tools.backend import FactTypes
from gateway.tools.deadline import Deadline
from gateway.tools.egress import guard_of, guarded_session
from gateway.tools.mcp_binding import bound_tools
from gateway.tools.mcp_client import McpClient
from gateway.tools.mcp_config import McpServer, McpTool
from gateway.tools.mcp_outcomes import McpAnswers
from gateway.tools.openapi_request import thawed

_NO_FACTS: Final[Facts] = MappingProxyType({})
_NOBODY: Final = Unknowable(
    failure=Failure(reason="tool.no_look_up", message="An MCP server cannot be asked what became of a call.")
)
_CHANGED: Final = Refusal(
    kind=Kind.UNAVAILABLE,
    reason="tool.changed",
    sentence="The server declares this tool in other words than the operator approved; the operator must look at them.",
)
_CHANGED_SINCE: Final = Failed(
    failure=Failure(reason="tool.changed", message="The server changed the tool meanwhile; nothing was sent.")
)
_UNREACHABLE: Final = Refusal(
    kind=Kind.UNAVAILABLE,
    reason="upstream.unreachable",
    sentence="The tool's server does not say what its tools are now, so none is called; try again later.",
)


class McpTools:
    """A `Backend` while its `async with` block runs."""

    def __init__(self, server: McpServer, clock: Clock) -> None:
        """Make the tools of what was approved; nothing is opened yet. Raises ValueError with all that is wrong."""
        self._server = server
        self._clock = clock
        self._answers = McpAnswers(server=server.name, secrets=server.secrets)
        bound = bound_tools(server)
        self.declarations: Final = tuple(declaration for declaration, _ in bound)
        self._tools: Final[Mapping[tuple[ToolName, str], McpTool]] = {
            (declaration.name, declaration.version): tool for declaration, tool in bound
        }
        self.fact_types: Final[Mapping[ToolName, FactTypes]] = {}
        self.withdrawn: frozenset[ToolName] = frozenset()
        """Those that the server declares in other words, when it was last looked at."""
        self._looked_ns: int | None = None
        self._looking = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._client: McpClient

    async def __aenter__(self) -> Self:
        """Open the connections; the server is first asked for something by the first call."""
        guard = guard_of(self._server.url, self._server.networks)
        session = guarded_session(guard, connections_max=self._server.connections_max)
        await self._stack.enter_async_context(session)
        self._client = McpClient(self._server, session, self._clock)
        self._stack.push_async_callback(self._client.close)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the session and close the connections."""
        await self._stack.aclose()

    async def facts(self, caller: Caller, ask: ToolAsk, tally: Tally) -> Facts | Refusal:
        """Refuse a tool that is not what was approved; nothing else is known of the world."""
        del caller, tally
        if not await self._looked():
            return _UNREACHABLE
        return _CHANGED if ask.tool.name in self.withdrawn else _NO_FACTS

    def demand(self, caller: Caller, ask: ToolAsk, facts: Facts) -> Demand | Refusal:
        """Hold one call and its cost."""
        del caller, facts
        cost = self._of(ask.tool).cost
        amounts = {Unit.CALLS: 1, Unit.COST: cost} if cost else {Unit.CALLS: 1}
        return Demand(amounts=amounts, halts=(f"venue:{self._server.name}",))

    async def execute(self, ask: ToolAsk, reservation: Reservation) -> Outcome:
        """See `Backend`."""
        del reservation
        if self._client.list_changed:
            await self._looked()
        if ask.tool.name in self.withdrawn or self._client.list_changed:
            return _CHANGED_SINCE
        tool = self._of(ask.tool)
        deadline = Deadline(self._clock, ask.tool.timeout_ms)
        reply = await self._client.call(tool.tool, thawed(ask.arguments), deadline)
        return self._answers.outcome(ask.tool, tool, reply)

    async def look(self, watched: Watched) -> Finding:
        """See `Backend`: there is nobody to ask."""
        del watched
        return _NOBODY

    async def _looked(self) -> bool:
        """Whether the server's list is known and of now."""
        if self._fresh():
            return True
        async with self._looking:
            if self._fresh():
                return True
            began_ns = self._clock.monotonic_ns()
            listed = await self._client.tools()
            if not isinstance(listed, dict):
                return False
            self.withdrawn = frozenset(
                name
                for (name, _), tool in self._tools.items()
                if tool.tool not in listed or listed[tool.tool].pin != tool.pin
            )
            self._looked_ns = began_ns
        return True

    def _fresh(self) -> bool:
        if self._looked_ns is None or self._client.list_changed:
            return False
        return self._clock.monotonic_ns() - self._looked_ns < self._server.recheck_ms * 1_000_000

    def _of(self, tool: ToolDeclaration) -> McpTool:
        return self._tools[tool.name, tool.version]
