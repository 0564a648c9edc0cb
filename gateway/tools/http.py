"""Tools from OpenAPI 3.1 documents: operations of one HTTP service that the operator chose.

An operation is sent once. Where its reply is lost and the service can be asked by our own key, it is asked once within
the call's time; a tool that has no key, no natural repeat and no look-up says in its description that nobody can.
"""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from types import MappingProxyType, TracebackType
from typing import Final, Self
from urllib.parse import quote

import aiohttp

from gateway.terms.aftercare import Finding, NotYet, Unknowable, Watched
from gateway.terms.asks import Effect, ToolAsk, ToolDeclaration
from gateway.terms.caller import Caller
from gateway.terms.clock import Clock
from gateway.terms.evidence import Facts
from gateway.terms.ids import ToolName
from gateway.terms.money import Unit
from gateway.terms.operations import (
    Demand,
    Failed,
    Failure,
    OperationKey,
    Outcome,
    Reservation,
    Succeeded,
    Tally,
    Unknown,
)
from gateway.terms.verdict import Kind, Refusal, Violation
from gateway.tools.backend import FactTypes
from gateway.tools.client_order_id import client_order_id
from gateway.tools.deadline import Deadline
from gateway.tools.egress import guard_of, guarded_session
from gateway.tools.http_binding import Bound, bound_tools
from gateway.tools.http_config import HttpService
from gateway.tools.http_lookup import denies, shows
from gateway.tools.http_outcomes import REPLY_LOST, Answers
from gateway.tools.openapi import Operation
from gateway.tools.openapi_request import Call, UnencodableError, call_of, written
from gateway.tools.roundtrip import NoAnswer, Outgoing, Patience, Received, round_trip

SENDING_SHARE: Final = 0.7
"""Of the time of a call that can be looked up; the rest is for the look-up."""

CLOCKS_APART_MS: Final = 5_000
"""How far the clocks of two instances may be apart."""

_TAKEN: Final = frozenset({409, 422})
"""What services answer to a key that they have seen."""

_NOBODY: Final = Unknowable(
    failure=Failure(reason="tool.no_look_up", message="The service cannot be asked what became of a call.")
)
_NOT_YET: Final = NotYet(
    failure=Failure(reason="service.not_found_yet", message="The service does not show it; it may still arrive.")
)
_NEVER_ARRIVED: Final = Failed(
    failure=Failure(
        reason="service.never_arrived", message="The service does not know it, so late after it was sent: it never was."
    )
)
_NO_FACTS: Final[Facts] = MappingProxyType({})


class HttpTools:
    """A `Backend` while its `async with` block runs."""

    def __init__(self, service: HttpService, clock: Clock) -> None:
        """Declare the tools; nothing is opened yet. Raises ValueError with everything that is wrong with them."""
        self._service = service
        self._clock = clock
        self._answers = Answers(service=service.name, secrets=service.secrets)
        self._tools: Final = {(one.declaration.name, one.declaration.version): one for one in bound_tools(service)}
        self.declarations: Final = tuple(one.declaration for one in self._tools.values())
        self.fact_types: Final[Mapping[ToolName, FactTypes]] = {}
        self.withdrawn: Final[frozenset[ToolName]] = frozenset()
        self._stack = AsyncExitStack()
        self._reads: aiohttp.ClientSession
        self._effects: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        """Open the connections."""
        service = self._service
        guard = guard_of(service.origin, service.networks)
        most = service.connections_max
        self._reads = await self._stack.enter_async_context(guarded_session(guard, connections_max=most))
        fresh = guarded_session(guard, connections_max=most, keepalive_s=0)
        self._effects = await self._stack.enter_async_context(fresh)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close them."""
        await self._stack.aclose()

    async def facts(self, caller: Caller, ask: ToolAsk, tally: Tally) -> Facts | Refusal:
        """See `Backend`: nothing is known of the world but the arguments."""
        del caller, ask, tally
        return _NO_FACTS

    def demand(self, caller: Caller, ask: ToolAsk, facts: Facts) -> Demand | Refusal:
        """Refuse arguments that their positions cannot carry; hold one call and its cost."""
        del facts
        bound = self._of(ask)
        try:
            call_of(bound.operation, ask.arguments)
        except UnencodableError as error:
            return _unencodable(error)
        cost = {Unit.COST: bound.tool.cost} if bound.tool.cost else {}
        key = OperationKey(tenant=caller.tenant, principal=caller.principal, tool=ask.name, key=ask.key)
        memo = b"" if bound.lookup is None else self._our_key(key).encode()
        return Demand(amounts={Unit.CALLS: 1, **cost}, halts=(f"venue:{self._service.name}",), memo=memo)

    async def execute(self, ask: ToolAsk, reservation: Reservation) -> Outcome:
        """See `Backend`."""
        bound = self._of(ask)
        deadline = Deadline(self._clock, ask.tool.timeout_ms)
        call = call_of(bound.operation, ask.arguments)
        outgoing = self._outgoing(bound.operation, call, self._key(bound, reservation.key))
        share = 1.0 if bound.lookup is None else SENDING_SHARE
        reply = await self._send(ask.tool, outgoing, deadline.left_s(share))
        outcome = self._answers.outcome(ask.tool, bound.tool.cost, reply)
        if bound.lookup is None or not _may_be_there(reply, outcome):
            return outcome
        return await self._cleared_up(bound, self._our_key(reservation.key), outcome, deadline)

    async def look(self, watched: Watched) -> Finding:
        """See `Backend`: ask by our key. "Not found" is proof only after the time in which it may still arrive."""
        bound = self._tools.get((ToolName(watched.operation.key.tool), watched.operation.version))
        if bound is None or bound.lookup is None:
            return _NOBODY
        tool, key = bound.declaration, watched.memo.decode()
        reply = await self._asked(bound, bound.lookup, key, Deadline(self._clock, tool.timeout_ms))
        found = self._found(bound, key, reply)
        if found is not None:
            return found
        window_ms = tool.timeout_ms + self._service.acceptance_ms + CLOCKS_APART_MS
        late = self._clock.unix_us() - watched.operation.created_unix_us > window_ms * 1_000
        return _NEVER_ARRIVED if late and denies(bound.lookup, bound.tool.lookup_argument, reply) else _NOT_YET

    async def _cleared_up(self, bound: Bound, key: str, outcome: Outcome, deadline: Deadline) -> Outcome:
        """What our key made, if the service shows it.

        "Not found" right after a lost reply proves nothing; after a refusal it proves that this was one.
        """
        if bound.lookup is None:
            return outcome
        reply = await self._asked(bound, bound.lookup, key, deadline)
        found = self._found(bound, key, reply)
        if found is not None:
            return found
        proven = isinstance(outcome, Unknown) or denies(bound.lookup, bound.tool.lookup_argument, reply)
        return outcome if proven else REPLY_LOST

    def _found(self, bound: Bound, key: str, reply: Received | NoAnswer) -> Succeeded | None:
        if not shows(bound.tool, key, reply):
            return None
        found = self._answers.outcome(bound.declaration, bound.tool.cost, reply)
        return found if isinstance(found, Succeeded) else None

    async def _asked(self, bound: Bound, lookup: Operation, key: str, deadline: Deadline) -> Received | NoAnswer:
        call = call_of(lookup, {bound.tool.lookup_argument: key})
        return await round_trip(self._reads, self._outgoing(lookup, call, _Key()), self._patience(deadline.left_s()))

    async def _send(self, tool: ToolDeclaration, outgoing: Outgoing, total_s: float) -> Received | NoAnswer:
        if tool.effect is Effect.READ:
            return await round_trip(self._reads, replace(outgoing, repeatable=True), self._patience(total_s))
        return await round_trip(self._effects, outgoing, self._patience(total_s))

    def _patience(self, total_s: float) -> Patience:
        service = self._service
        return Patience(total_s=total_s, connect_s=service.connect_ms / 1000, idle_s=service.idle_ms / 1000)

    def _outgoing(self, operation: Operation, call: Call, key: "_Key") -> Outgoing:
        """The request in its final form; credentials are added last, and nothing else knows them (attack row 33)."""
        body, headers = call.body, {"Accept": "application/json, text/plain;q=0.5", **call.headers}
        if key.member and isinstance(body, dict):
            body = {**body, key.member: key.value}
        if call.has_body:
            headers["Content-Type"] = "application/json"
        if key.header:
            headers[key.header] = key.value
        url = self._service.origin.rstrip("/") + call.target
        for credential in self._service.credentials:
            if credential.header:
                headers[credential.header] = credential.prefix + credential.secret
            else:
                pair = f"{quote(credential.query, safe='')}={quote(credential.prefix + credential.secret, safe='')}"
                url += ("&" if "?" in url else "?") + pair
        data = written(body) if call.has_body else None
        return Outgoing(method=operation.method, url=url, headers=headers, body=data)

    def _key(self, bound: Bound, key: OperationKey) -> "_Key":
        """Our key for this call and where it goes: derived, never the agent's."""
        tool = bound.tool
        if not tool.key_header and not tool.key_member:
            return _Key()
        return _Key(header=tool.key_header, member=tool.key_member, value=self._our_key(key))

    def _our_key(self, key: OperationKey) -> str:
        return client_order_id(self._service.call_key, key)

    def _of(self, ask: ToolAsk) -> Bound:
        return self._tools[ask.tool.name, ask.tool.version]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    """A key of ours on its way; empty where the tool sends none."""

    header: str = ""
    member: str = ""
    value: str = ""


def _may_be_there(reply: Received | NoAnswer, outcome: Outcome) -> bool:
    """Whether only a look-up can say more: nobody knows, or it is refused as something that is there already.

    Whatever stands between may have sent our one request twice; the second is refused because of the first.
    """
    taken = isinstance(reply, Received) and reply.status in _TAKEN
    return isinstance(outcome, Unknown) or taken


def _unencodable(error: UnencodableError) -> Refusal:
    return Refusal(
        kind=Kind.MALFORMED,
        reason="arguments.unencodable",
        sentence=f"{error.argument} {error.description}.",
        violations=(Violation(field=error.argument, description=error.description),),
    )
