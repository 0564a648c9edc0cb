"""A policy set's own tests: cases with the verdict that the rules must give, in a file beside them.

A set that fails one of its tests is not loaded, so a rule cannot be changed without saying what it is meant to do.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

import msgspec

from gateway.policy.question import Examination
from gateway.policy.rule_set import FILE_BYTES_MAX, PolicyFault, PolicyLoadError
from gateway.policy.rules import Answer
from gateway.terms.asks import (
    Ask,
    ChatAsk,
    CountAsk,
    DryRunAsk,
    ReadAsk,
    ToolAsk,
    ToolDeclaration,
    tool_digest,
)
from gateway.terms.caller import Caller
from gateway.terms.conversation import Conversation, Function
from gateway.terms.evidence import Facts
from gateway.terms.ids import (
    AgentName,
    IdempotencyKey,
    ModelName,
    OperationId,
    Principal,
    RuleId,
    RunId,
    TeamName,
    TenantName,
    ToolName,
)
from gateway.terms.limits import ARGUMENTS_BYTES_MAX
from gateway.terms.strict_json import frozen, strict_object
from gateway.terms.verdict import Hold, Permit, Refusal

TESTS_FILE: Final = "tests.toml"
CASES_MAX: Final = 5_000

Expected = Literal["permit", "hold", "refuse"]


class _Table(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A table of the file; a misspelt key is refused."""


class _Agent(_Table, frozen=True, kw_only=True):
    """`[principals.NAME]`: an agent as it would be registered."""

    role: str
    agent: str = "agent"
    team: str = "team"
    tenant: str = "tenant"
    email: str = "agent@project.iam.gserviceaccount.com"
    models: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()


class _Case(_Table, frozen=True, kw_only=True):
    """`[[cases]]`: one call and its verdict. Exactly one of `tool`, `dry_run`, `chat`, `count_tokens` and `read`."""

    name: str
    principal: str
    tool: str = ""
    version: str = ""
    arguments: dict[str, object] = {}
    facts: dict[str, int | str | bool] = {}
    chat: str = ""
    functions: tuple[str, ...] = ()
    max_output_tokens: int = 1_024
    input_tokens_bound: int = 1_024
    count_tokens: str = ""
    dry_run: str = ""
    """The tool that is rehearsed; a rule sees no arguments of it."""
    read: Literal["", "list_tools", "list_models", "get_operation"] = ""
    expect: Expected
    rules: tuple[str, ...]
    reason: str = ""


class _File(_Table, frozen=True, kw_only=True):
    """The whole file."""

    principals: dict[str, _Agent]
    cases: tuple[_Case, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One call, and what the rules must say of it."""

    name: str
    caller: Caller
    ask: Ask
    facts: Facts
    expect: Expected
    rules: tuple[RuleId, ...]
    reason: str
    """Of a refusal; empty otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFailure:
    """A case that came out otherwise."""

    name: str
    expected: str
    got: str

    def fault(self) -> PolicyFault:
        """The same as a fault of the set."""
        message = f"test {self.name!r}: expected {self.expected}, got {self.got}"
        return PolicyFault(file=TESTS_FILE, rule="", message=message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A decision for people: what was put to the rules, and what they said."""

    verdict: Expected
    reason: str
    sentence: str
    rules: tuple[RuleId, ...]
    policy_hash: str
    put: Mapping[str, object]
    """Principal, action, resource and context in Cedar's JSON; empty when the call could not be put."""
    answer: Answer
    """What the engine said, with its errors, which callers never see."""


class Examiner(Protocol):
    """Rules that can be asked."""

    def examine(self, caller: Caller, ask: Ask, facts: Facts) -> Examination:
        """Decide, and keep what was asked and answered."""
        ...


def read_tests(path: Path, tools: Iterable[ToolDeclaration]) -> tuple[Case, ...]:
    """The cases of a file, over these tools, or raise `PolicyLoadError` with every fault. None at all is a fault."""
    try:
        data = path.read_bytes()
        if len(data) > FILE_BYTES_MAX:
            raise PolicyLoadError((_fault(f"is longer than {FILE_BYTES_MAX} bytes"),))
        file = msgspec.toml.decode(data, type=_File)
    except OSError as error:
        what = f"cannot be read: {error.strerror}; a policy set says in {TESTS_FILE} what it is meant to do"
        raise PolicyLoadError((_fault(what),)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PolicyLoadError((_fault(f"is refused: {error}"),)) from None
    if not 0 < len(file.cases) <= CASES_MAX:
        raise PolicyLoadError((_fault(f"has {len(file.cases)} cases; write 1 to {CASES_MAX}"),))
    return _cases(file, {(tool.name, tool.version): tool for tool in tools})


def run_tests(policy: Examiner, cases: Iterable[Case]) -> tuple[CaseFailure, ...]:
    """The cases that came out otherwise than expected."""
    failures = []
    for case in cases:
        explanation = explain(policy, case.caller, case.ask, case.facts)
        got = _said(explanation.verdict, explanation.rules, explanation.reason)
        expected = _said(case.expect, case.rules, case.reason)
        if got != expected:
            failures.append(CaseFailure(name=case.name, expected=expected, got=got))
    return tuple(failures)


def explain(policy: Examiner, caller: Caller, ask: Ask, facts: Facts) -> Explanation:
    """Decide on a call that is not made, and say how."""
    examined = policy.examine(caller, ask, facts)
    asked, verdict = examined.question, examined.verdict
    put: dict[str, object] = {}
    if asked is not None:
        put = {
            "principal": asked.principal.entity(),
            "action": asked.action,
            "resource": asked.resource.entity(),
            "context": asked.context,
        }
    return Explanation(
        verdict=_name(verdict),
        reason=verdict.reason if isinstance(verdict, Refusal) else "",
        sentence=verdict.sentence if isinstance(verdict, Refusal) else "",
        rules=verdict.rules,
        policy_hash=verdict.policy_hash,
        put=put,
        answer=examined.answer,
    )


def _name(verdict: Permit | Hold | Refusal) -> Expected:
    match verdict:
        case Permit():
            return "permit"
        case Hold():
            return "hold"
        case Refusal():
            return "refuse"


def _said(verdict: str, rules: Iterable[str], reason: str) -> str:
    return f"{verdict}{f' ({reason})' if reason else ''} by {', '.join(sorted(rules)) or 'no rule'}"


def _cases(file: _File, tools: Mapping[tuple[ToolName, str], ToolDeclaration]) -> tuple[Case, ...]:
    cases: list[Case] = []
    faults: list[PolicyFault] = []
    for written in file.cases:
        try:
            cases.append(_case(written, file.principals, tools))
        except ValueError as error:
            faults.append(_fault(f"test {written.name!r}: {error}"))
    names = [written.name for written in file.cases]
    faults.extend(
        _fault(f"two tests have the name {name!r}") for name in sorted({n for n in names if names.count(n) > 1})
    )
    if faults:
        raise PolicyLoadError(tuple(faults))
    return tuple(cases)


def _case(written: _Case, agents: Mapping[str, _Agent], tools: Mapping[tuple[ToolName, str], ToolDeclaration]) -> Case:
    agent = agents.get(written.principal)
    if agent is None:
        raise ValueError(f"there is no [principals.{written.principal}]")
    # A case that only says "refuse" must not pass because the call could not even be put to the rules.
    default = ("policy.denied" if written.rules else "policy.no_permit") if written.expect == "refuse" else ""
    return Case(
        name=written.name,
        caller=_caller(agent),
        ask=_ask(written, tools),
        facts=written.facts,
        expect=written.expect,
        rules=tuple(RuleId(name) for name in sorted(written.rules)),
        reason=written.reason or default,
    )


def _caller(agent: _Agent) -> Caller:
    return Caller(
        principal=Principal("0"),
        email=agent.email,
        agent=AgentName(agent.agent),
        team=TeamName(agent.team),
        tenant=TenantName(agent.tenant),
        role=agent.role,
        models=frozenset(ModelName(name) for name in agent.models),
        tools=frozenset(ToolName(name) for name in agent.tools),
        budgets=(),
        limits=None,
    )


def _ask(written: _Case, tools: Mapping[tuple[ToolName, str], ToolDeclaration]) -> Ask:
    ways: dict[str, Callable[[], Ask]] = {
        written.tool: lambda: _tool_ask(written, written.tool, tools),
        written.dry_run: lambda: DryRunAsk(rehearsed=_tool_ask(written, written.dry_run, tools)),
        written.chat: lambda: _chat_ask(written),
        written.count_tokens: lambda: CountAsk(
            model=ModelName(written.count_tokens), conversation=_NOTHING_SAID, digest=b""
        ),
        written.read: lambda: ReadAsk(what=written.read, operation=OperationId("")),
    }
    named = (written.tool, written.dry_run, written.chat, written.count_tokens, written.read)
    given = [text for text in named if text]
    if len(given) != 1:
        raise ValueError("name exactly one of tool, dry_run, chat, count_tokens and read")
    return ways[given[0]]()


def _tool_ask(written: _Case, wanted: str, tools: Mapping[tuple[ToolName, str], ToolDeclaration]) -> ToolAsk:
    found = [tool for (name, _), tool in tools.items() if name == wanted]
    if written.version:
        found = [tool for tool in found if tool.version == written.version]
    if len(found) != 1:
        raise ValueError(f"{len(found)} tools {wanted!r} are declared; name one of them, with its version")
    try:
        data = json.dumps(written.arguments, allow_nan=False).encode()
    except TypeError:
        raise ValueError("write arguments as texts, whole numbers, booleans, arrays and tables") from None
    arguments = strict_object(data, size_max=ARGUMENTS_BYTES_MAX)
    return ToolAsk(
        tool=found[0],
        arguments_bytes=data,
        arguments={name: frozen(value) for name, value in arguments.items()},
        key=IdempotencyKey("test"),
        run=RunId(""),
        digest=tool_digest(found[0].name, found[0].version, data),
    )


_NOTHING_SAID: Final = Conversation(system_instruction="", turns=())


def _chat_ask(written: _Case) -> ChatAsk:
    functions = tuple(Function(name=name, description="", parameters_json_schema="{}") for name in written.functions)
    return ChatAsk(
        model=ModelName(written.chat),
        conversation=Conversation(system_instruction="", turns=(), functions=functions),
        max_output_tokens=written.max_output_tokens,
        input_tokens_bound=written.input_tokens_bound,
        run=RunId(""),
        digest=b"",
    )


def _fault(message: str) -> PolicyFault:
    return PolicyFault(file=TESTS_FILE, rule="", message=message)
