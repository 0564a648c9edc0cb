"""What a tool upstream is, seen from the toolbox."""

from collections.abc import Mapping
from typing import Protocol

from gateway.terms.aftercare import Finding, Watched
from gateway.terms.asks import ToolAsk, ToolDeclaration
from gateway.terms.caller import Caller
from gateway.terms.evidence import Facts
from gateway.terms.ids import ToolName
from gateway.terms.operations import Demand, Outcome, Reservation, Tally
from gateway.terms.verdict import Refusal

FactTypes = Mapping[str, type]
"""Names of facts to `int`, `str` or `bool`."""


class Backend(Protocol):
    """One service that executes some tools."""

    @property
    def declarations(self) -> tuple[ToolDeclaration, ...]:
        """The tools that it executes."""
        ...

    @property
    def fact_types(self) -> Mapping[ToolName, FactTypes]:
        """What `facts` tells for each tool; a tool that is absent has none."""
        ...

    @property
    def withdrawn(self) -> frozenset[ToolName]:
        """The tools that are not what the operator approved, as far as it is known now; they are not shown."""
        ...

    async def facts(self, caller: Caller, ask: ToolAsk, tally: Tally) -> Facts | Refusal:
        """See `gateway.call.stations.Tools`."""
        ...

    def demand(self, caller: Caller, ask: ToolAsk, facts: Facts) -> Demand | Refusal:
        """See `gateway.call.stations.Tools`."""
        ...

    async def execute(self, ask: ToolAsk, reservation: Reservation) -> Outcome:
        """Do it, at most once, within the tool's timeout. The ask is the reservation's own, found unchanged."""
        ...

    async def look(self, watched: Watched) -> Finding:
        """Ask by our id what became of an effect, and cancel what is open of it if it is to be withdrawn.

        Never raises for anything that the service did. Called only for operations whose demand had a memo.
        """
        ...
