"""Who is calling: what a verified token says, joined with what the operator registered."""

from dataclasses import dataclass
from datetime import UTC, tzinfo

from gateway.terms.ids import AgentName, ModelName, OperatorName, Principal, TeamName, TenantName, ToolName
from gateway.terms.limits import LimitProfile
from gateway.terms.money import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a call brought to show who it is: header values exactly as received, in order, all of them."""

    authorization: tuple[str, ...] = ()
    serverless_authorization: tuple[str, ...] = ()
    """`x-serverless-authorization`: where present, the edge checked this one only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """At most `amount` of `unit` in each `window` for everything in `scope`."""

    scope: str
    """`tenant:NAME`, `team:NAME`, `agent:NAME`, `account:NAME`, or `run` (one for each run id)."""
    unit: Unit
    window: str
    """`hour`, `day`, `month` or `total`."""
    amount: int
    zone: tzinfo = UTC
    """Whose hours, days and months they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A registered agent. Everything about it is the operator's word, nothing the agent's."""

    principal: Principal
    email: str
    agent: AgentName
    team: TeamName
    tenant: TenantName
    role: str
    models: frozenset[ModelName]
    tools: frozenset[ToolName]
    budgets: tuple[Budget, ...]
    """In the order in which they are held: tenant, team, agent, run."""
    limits: LimitProfile | None
    """Without one, the agent only reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """A registered person or program that runs the gateway. Never an agent too: who trades does not hold the switch."""

    principal: Principal
    email: str
    name: OperatorName
