"""The registered agents: whom the operator lets in, and what the operator says about them."""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.identity.token import EMAIL, SUBJECT, Claims
from gateway.terms.caller import Budget, Caller
from gateway.terms.ids import AgentName, ModelName, Principal, TeamName, TenantName, ToolName
from gateway.terms.limits import LimitProfile


class RegistryError(ValueError):
    """The registrations contradict each other; `faults` lists every contradiction, one sentence each."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__(" ".join(faults))
        self.faults = faults


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredAgent:
    """One agent as the operator registered it, by `sub`, by `email`, or by both."""

    agent: AgentName
    team: TeamName
    tenant: TenantName
    role: str
    sub: Principal | None = None
    """The service account's number, never given twice. With it, `email` only informs."""
    email: str = ""
    """Without `sub`, the verified address identifies; a deleted account's address can be given to a new account."""
    models: frozenset[ModelName] = frozenset()
    tools: frozenset[ToolName] = frozenset()
    budgets: tuple[Budget, ...] = ()
    limits: LimitProfile | None = None


class Registry:
    """The agents by what identifies them. Never changes: a new registration is a new registry."""

    __slots__ = ("_by_email", "_by_sub")

    def __init__(self, agents: Iterable[RegisteredAgent]) -> None:
        """Raises `RegistryError` for two agents of one name, number or address, and for an agent without either."""
        agents = tuple(agents)
        faults = (*_incomplete(agents), *_duplicates(agents))
        if faults:
            raise RegistryError(faults)
        self._by_sub = {agent.sub: agent for agent in agents if agent.sub is not None}
        self._by_email = {agent.email: agent for agent in agents if agent.sub is None}

    def find(self, claims: Claims) -> Caller | None:
        """The agent behind a verified token. Only an agent without a registered number is found by its address."""
        registered = self._by_sub.get(claims.subject) or self._by_email.get(claims.email)
        if registered is None:
            return None
        return Caller(
            principal=claims.subject,
            email=claims.email,
            agent=registered.agent,
            team=registered.team,
            tenant=registered.tenant,
            role=registered.role,
            models=registered.models,
            tools=registered.tools,
            budgets=registered.budgets,
            limits=registered.limits,
        )


def _incomplete(agents: tuple[RegisteredAgent, ...]) -> list[str]:
    faults: list[str] = []
    for agent in agents:
        if not agent.agent:
            faults.append("Give every agent a name.")
        if agent.sub is None and not agent.email:
            faults.append(f"Register agent {agent.agent!r} with the `sub` or the `email` of its service account.")
        if agent.sub is not None and SUBJECT.fullmatch(agent.sub) is None:
            faults.append(f"Write the `sub` of agent {agent.agent!r} as the account's number, digits only.")
        if agent.email and EMAIL.fullmatch(agent.email) is None:
            faults.append(f"Write the `email` of agent {agent.agent!r} as Google shows it, plain ASCII.")
    return faults


def _duplicates(agents: tuple[RegisteredAgent, ...]) -> list[str]:
    faults: list[str] = []
    names: dict[str, list[str]] = {
        "name": [agent.agent for agent in agents],
        "sub": [agent.sub for agent in agents if agent.sub],
        "email": [agent.email for agent in agents if agent.email],
    }
    for what, values in names.items():
        twice = sorted({value for value in values if values.count(value) > 1})
        faults.extend(f"Two agents have the {what} {value!r}: give each its own." for value in twice)
    return faults
