"""The tools station: one catalogue over several backends, and the last look at an ask before it leaves."""

import hmac
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from gateway.terms.aftercare import Finding, Unknowable, Watched
from gateway.terms.asks import ToolAsk, ToolDeclaration, ToolRequest, tool_digest
from gateway.terms.caller import Caller
from gateway.terms.clock import IdSource
from gateway.terms.evidence import Facts
from gateway.terms.ids import ToolName
from gateway.terms.limits import ARGUMENTS_BYTES_MAX
from gateway.terms.operations import Demand, Failed, Failure, Outcome, Reservation, Tally
from gateway.terms.strict_json import JsonRefusedError, frozen, strict_object
from gateway.terms.verdict import Refusal
from gateway.tools.backend import Backend, FactTypes
from gateway.tools.catalogue import Catalogue
from gateway.tools.repeats import latched

_CHANGED: Final = Failed(
    failure=Failure(
        reason="arguments.changed",
        message="The arguments are not the ones that were decided on; nothing was sent.",
    )
)
_WITHDRAWN: Final = Failed(
    failure=Failure(
        reason="tool.changed",
        message="The tool is not the one that was decided on; nothing was sent.",
    )
)
_NOBODY: Final = Unknowable(
    failure=Failure(
        reason="tool.no_look_up",
        message="The tool cannot be asked what became of a call, or is not configured any more.",
    )
)


class Toolbox:
    """Implements `gateway.call.stations.Tools`."""

    def __init__(self, backends: Iterable[Backend], ids: IdSource, pins: Mapping[ToolName, str] | None = None) -> None:
        """Join the backends' tools; see `Catalogue` for what is refused."""
        self._backends: Final = tuple(backends)
        backends = self._backends
        self._catalogue: Final = Catalogue(
            (tool for backend in backends for tool in backend.declarations), ids, pins=pins
        )
        self._owners: Final = {
            (tool.name, tool.version): backend for backend in backends for tool in backend.declarations
        }
        self.fact_types: Final[Mapping[ToolName, FactTypes]] = {
            name: types for backend in backends for name, types in backend.fact_types.items()
        }
        self.declarations: Final = tuple(tool for backend in backends for tool in backend.declarations)
        self.upstreams: Final = tuple(_of_each(backends))

    def offered(self, caller: Caller) -> tuple[ToolDeclaration, ...]:
        """See the Protocol."""
        withdrawn = {name for backend in self._backends for name in backend.withdrawn}
        return tuple(tool for tool in self._catalogue.offered(caller) if tool.name not in withdrawn)

    def ask(self, caller: Caller, request: ToolRequest) -> ToolAsk | Refusal:
        """See the Protocol."""
        return self._catalogue.ask(caller, request)

    async def facts(self, caller: Caller, ask: ToolAsk, tally: Tally) -> Facts | Refusal:
        """See the Protocol."""
        return await self._owner(ask).facts(caller, ask, tally)

    def demand(self, caller: Caller, ask: ToolAsk, facts: Facts) -> Demand | Refusal:
        """See the Protocol."""
        demand = self._owner(ask).demand(caller, ask, facts)
        return demand if isinstance(demand, Refusal) else latched(caller, ask, demand)

    async def execute(self, reservation: Reservation) -> Outcome:
        """See the Protocol. What is not byte for byte what was decided on is not sent (attack row 21)."""
        ask = reservation.permit.ask
        if not isinstance(ask, ToolAsk) or not _unchanged(ask):
            return _CHANGED
        if not self._catalogue.holds(ask.tool):
            return _WITHDRAWN
        return await self._owner(ask).execute(ask, reservation)

    async def look(self, watched: Watched) -> Finding:
        """See the Protocol."""
        operation = watched.operation
        backend = self._owners.get((ToolName(operation.key.tool), operation.version))
        if backend is None or not watched.memo:
            return _NOBODY
        return await backend.look(watched)

    def _owner(self, ask: ToolAsk) -> Backend:
        return self._owners[ask.tool.name, ask.tool.version]


def _of_each(backends: Iterable[Backend]) -> Iterator[tuple[ToolName, ...]]:
    """The names of each backend's tools. Of two that have versions of one tool, the first has its name."""
    named: set[ToolName] = set()
    for backend in backends:
        names = {tool.name for tool in backend.declarations} - named
        named |= names
        yield tuple(sorted(names))


def _unchanged(ask: ToolAsk) -> bool:
    """Whether the bytes are those of the digest and the arguments those of the bytes."""
    digest = tool_digest(ask.tool.name, ask.tool.version, ask.arguments_bytes)
    if not hmac.compare_digest(digest, ask.digest):
        return False
    try:
        arguments = strict_object(ask.arguments_bytes, size_max=ARGUMENTS_BYTES_MAX)
    except JsonRefusedError:
        return False
    return {name: frozen(value) for name, value in arguments.items()} == dict(ask.arguments)
