"""The registered agents and operators: who is let in, and what the configuration says about them."""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.identity.token import EMAIL, SUBJECT, Claims
from gateway.terms.caller import Budget, Caller, Operator
from gateway.terms.ids import AgentName, ModelName, OperatorName, Principal, TeamName, TenantName, ToolName
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredOperator:
    """One operator, identified as an agent is."""

    name: OperatorName
    sub: Principal | None = None
    email: str = ""


class Registry:
    """The agents and operators by what identifies them. Never changes: a new registration is a new registry."""

    __slots__ = ("_by_email", "_by_sub")

    def __init__(self, agents: Iterable[RegisteredAgent], operators: Iterable[RegisteredOperator] = ()) -> None:
        """Raises `RegistryError` for two of one name, number or address, and for anyone without both of the latter."""
        accounts = (*map(_agent_account, agents), *map(_operator_account, operators))
        faults = (*_incomplete(accounts), *_duplicates(accounts))
        if faults:
            raise RegistryError(faults)
        self._by_sub = {account.sub: account.who for account in accounts if account.sub is not None}
        self._by_email = {account.email: account.who for account in accounts if account.sub is None}

    def find(self, claims: Claims) -> Caller | Operator | None:
        """Who is behind a verified token. Only who has no registered number is found by the address.

        An account that is an agent by its number and an operator by its address, or the other way round, is nobody.
        """
        by_sub, by_email = self._by_sub.get(claims.subject), self._by_email.get(claims.email)
        if by_sub is not None and by_email is not None and type(by_sub) is not type(by_email):
            return None
        registered = by_sub or by_email
        if isinstance(registered, RegisteredOperator):
            return Operator(principal=claims.subject, email=claims.email, name=registered.name)
        return None if registered is None else _caller(registered, claims)


def _caller(registered: RegisteredAgent, claims: Claims) -> Caller:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Account:
    """What identifies somebody, whoever it is."""

    kind: str
    name: str
    sub: Principal | None
    email: str
    who: RegisteredAgent | RegisteredOperator


def _agent_account(who: RegisteredAgent) -> _Account:
    return _Account(kind="agent", name=who.agent, sub=who.sub, email=who.email, who=who)


def _operator_account(who: RegisteredOperator) -> _Account:
    return _Account(kind="operator", name=who.name, sub=who.sub, email=who.email, who=who)


def _incomplete(accounts: tuple[_Account, ...]) -> list[str]:
    faults: list[str] = []
    for one in accounts:
        named = f"{one.kind} {one.name!r}"
        if not one.name:
            faults.append(f"Give every {one.kind} a name.")
        if one.sub is None and not one.email:
            faults.append(f"Register {named} with the `sub` or the `email` of its service account.")
        if one.sub is not None and SUBJECT.fullmatch(one.sub) is None:
            faults.append(f"Write the `sub` of {named} as the account's number, digits only.")
        if one.email and EMAIL.fullmatch(one.email) is None:
            faults.append(f"Write the `email` of {named} as Google shows it, plain ASCII.")
    return faults


def _duplicates(accounts: tuple[_Account, ...]) -> list[str]:
    """An account is one agent or one operator: who trades must not hold the switch that stops it."""
    named: dict[tuple[str, str], list[str]] = {}
    for one in accounts:
        for what, value in ((f"name of {one.kind}s", one.name), ("sub", one.sub), ("email", one.email)):
            if value:
                named.setdefault((what, value), []).append(one.kind)
    faults: list[str] = []
    for (what, value), kinds in sorted(named.items()):
        who = f"Two {kinds[0]}s have" if len(set(kinds)) == 1 else "An agent and an operator have"
        if len(kinds) > 1:
            faults.append(f"{who} the {what.partition(' ')[0]} {value!r}: give each its own.")
    return faults
