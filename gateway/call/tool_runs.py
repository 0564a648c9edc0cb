"""The tool calls of one turn of a model: each a governed call of its own, told step by step."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.call.act import Answer, decided, done
from gateway.call.governed import Governed
from gateway.call.told import Pending, Permitted, Ran, ToolStep
from gateway.call.told_result import is_pending, told
from gateway.terms.asks import Effect, ToolDeclaration, ToolRequest, Unformed
from gateway.terms.conversation import FunctionCall
from gateway.terms.operations import Admission
from gateway.terms.passage import Stages
from gateway.terms.verdict import Kind, Refusal, RefusedError

CALLS_PER_TURN_MAX: Final = 32
"""What a model asks for beyond this in one turn is not sent, and it is told so."""

_PAUSES_S: Final = (0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.0, 5.0)
"""Longer together than a tool may take."""

_ENDING: Final = frozenset({"ledger.outcome_unrecorded"})
"""Refusals after which nobody may go on as if nothing had happened."""

_TOO_MANY: Final = Refusal(
    kind=Kind.EXHAUSTED,
    reason="chat.too_many_calls",
    sentence=f"This call was not sent: {CALLS_PER_TURN_MAX} calls in one turn are the most.",
)

_UNKNOWN: Final = Refusal(
    kind=Kind.NOT_FOUND,
    reason="tool.unknown",
    sentence="This call was not sent: no function of this name is declared. Call only those that are.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One call of a turn."""

    call: FunctionCall
    tool: ToolDeclaration | None
    """None for a name that the model invented: it is told so."""
    place: int
    """Among all calls of the turn, from 1."""


@dataclass(slots=True, kw_only=True)
class ToolRuns:
    """Runs the calls of one turn for the caller of a stream; `ran` holds what each came to, in the model's order."""

    stream: Governed
    run: str
    """The run id that every call of the stream has."""
    key: str
    """Begins the idempotency keys."""
    turn: int
    ran: dict[int, tuple[Wanted, Ran]] = field(default_factory=dict)
    _error: Exception | None = None

    async def steps(self, wanted: Sequence[Wanted]) -> AsyncGenerator[ToolStep, None]:
        """Run them and yield their steps. Raises `RefusedError` and the ledger's errors where nothing may go on.

        Closed early, or cancelled, it begins no further call; an effect that was begun comes to its end without it.
        """
        for batch in _batches(wanted):
            steps: asyncio.Queue[ToolStep | None] = asyncio.Queue()
            left = False
            with self.stream.passage.stages.stage("tools"):
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._run(one, steps)) for one in batch]
                    running = len(tasks)
                    while running and not left:
                        step = await steps.get()
                        if step is None:
                            running -= 1
                            continue
                        try:
                            yield step
                        except GeneratorExit:
                            # Not through the group: it would wrap it, and `aclose` would not know it again.
                            left = True
                            for task in tasks:
                                task.cancel()
            if left:
                return
            if self._error is not None:
                raise self._error

    async def _run(self, one: Wanted, steps: "asyncio.Queue[ToolStep | None]") -> None:
        """One call, from its form to its outcome; what it raises waits for the end of its neighbours."""

        def tell(step: Permitted | Pending | Ran) -> None:
            if isinstance(step, Ran):
                self.ran[one.place] = (one, step)
            place, tool = one.place, one.call.name
            steps.put_nowait(ToolStep(call_id=one.call.id, tool=tool, turn=self.turn, place=place, step=step))

        stages = Stages(self.stream.passage.clock)
        try:
            answer = await self._answer(one, stages, tell)
            tell(Ran(answer=answer, told=told(answer), timing=stages.server_timing()))
        except RefusedError as error:
            if error.refusal.reason in _ENDING:
                self._error = error
                return
            if is_pending(error.refusal):
                tell(Pending(refusal=error.refusal))
            tell(Ran(answer=error.refusal, told=told(error.refusal), timing=stages.server_timing()))
        except Exception as error:  # noqa: BLE001 - in the group it would cut its neighbours; raised after them
            self._error = error
        finally:
            steps.put_nowait(None)

    async def _answer(self, one: Wanted, stages: Stages, tell: Callable[[Permitted], None]) -> Answer:
        """Do it; where an earlier attempt at this stream is still at it, wait for what comes of that one."""
        if one.place > CALLS_PER_TURN_MAX:
            raise RefusedError(_TOO_MANY)
        for pause_s in _PAUSES_S:
            try:
                return await self._attempt(one, stages, tell)
            except RefusedError as error:
                if error.refusal.kind is not Kind.IN_PROGRESS:
                    raise
            await asyncio.sleep(pause_s)
        return await self._attempt(one, stages, tell)

    async def _attempt(self, one: Wanted, stages: Stages, tell: Callable[[Permitted], None]) -> Answer:
        stream = self.stream
        passage = replace(stream.passage, stages=stages, reply_headers={})
        ask = Unformed(what="execute_tool", about=one.call.name)
        call = Governed(at=stream.at, passage=passage, caller=stream.caller, ask=ask)
        if one.tool is None:
            async with call.recorded():
                raise RefusedError(_UNKNOWN)
        decision = await decided(
            call,
            ToolRequest(
                tool=one.tool.name,
                version=one.tool.version,
                arguments_json=one.call.arguments_json,
                idempotency_key=f"chat:{self.key}:{self.turn}:{one.place}",
                run_id=self.run,
            ),
        )
        if isinstance(decision, Admission):
            tell(Permitted(rules=decision.permit.rules, policy_hash=decision.permit.policy_hash))
        return await done(call, decision)


def _batches(wanted: Sequence[Wanted]) -> Iterator[list[Wanted]]:
    """Neighbours that only read go together; what has an effect goes alone, in its order."""
    batch: list[Wanted] = []
    for one in wanted:
        if batch and not (_reads(one) and _reads(batch[-1])):
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def _reads(one: Wanted) -> bool:
    return one.tool is None or one.tool.effect is Effect.READ


def wanted(
    calls: Sequence[FunctionCall], tools: Mapping[str, ToolDeclaration], functions: Collection[str]
) -> list[Wanted]:
    """The calls that the gateway answers: of its tools, and of names that nobody declared.

    `functions` are all that were declared; those that are no tools are the caller's, and so are their calls.
    """
    return [
        Wanted(call=call, tool=tools.get(call.name), place=place)
        for place, call in enumerate(calls, 1)
        if call.name in tools or call.name not in functions
    ]
