"""The loop of an agent: the model asks for tools, the gateway decides and executes them, the model goes on.

Every tool call is named by its run, its turn and its place in the turn, and that name is its idempotency key. So a run
that is started again under its old name repeats no effect: a call that asks for the same as before gets the stored
answer, and one that asks for something else in the same place is refused. The limits of this:

- A run's name belongs to one task. Under a name that was used before, a new task gets the old one's answers.
- A model rarely says the same twice. A run that is started again may be refused where it went another way before; then
  look at what the first one did, and give what is left a new name.
- Keys are kept as long as the gateway keeps operations, and for one caller: another agent's run of the same name is
  another run.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from grpclib.const import Status

from agent.client.contract import (
    ChatRequest,
    Content,
    Effect,
    Finish,
    FinishReason,
    FunctionDeclaration,
    ListToolsResponse,
    Operation,
    Part,
    Resumable,
    Role,
    RunTools,
    ToolCall,
    ToolResult,
    ToolRun,
    Usage,
)
from agent.client.errors import GatewayError
from agent.client.gateway import CallReport, GatewayClient
from agent.outcome import told_error, told_operation
from agent.turn import Turn

CALLS_PER_TURN_MAX: Final = 32
"""What a model asks for beyond this in one turn is not sent, and it is told so."""

STREAM_TURNS_MAX: Final = 32
"""What the gateway gives one stream."""

_EXCEEDED: Final = "the model asked for tools in {} turns and did not come to an end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Words of the model, as they come."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The model asks for a tool."""

    call: ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What the gateway made of it: an operation, or an error, which is a refusal unless its `effect_unknown` is set."""

    call: ToolCall
    operation: Operation | None
    refusal: GatewayError | None
    report: CallReport


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEnded:
    """One answer of the model is complete."""

    finish: Finish
    usage: Usage | None
    report: CallReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What the gateway made of a call that it ran inside of the stream; `run` has an outcome or a refusal."""

    call: ToolCall
    run: ToolRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """The model's answer broke off and is given anew: what was heard since the last `TurnEnded` is void.

    What tools did is done: the gateway tells it again, and repeats nothing.
    """

    error: GatewayError


Heard = Said | Asked | Answered | Ran | Again | TurnEnded


class TurnsExceededError(Exception):
    """The model kept asking for tools."""


class Agent:
    """Works on one task in each run, over as many turns as it takes, within a bound. Runs share nothing.

    With `in_stream` the gateway runs the tools inside of one stream, and this hears of it; else it sends each call.
    """

    def __init__(
        self, client: GatewayClient, *, model: str, instruction: str = "", turns_max: int = 8, in_stream: bool = False
    ) -> None:
        if turns_max < 1 or (in_stream and turns_max > STREAM_TURNS_MAX):
            raise ValueError(f"turns_max: 1 or more, and in a stream at most {STREAM_TURNS_MAX}")
        self._in_stream = in_stream
        self._client = client
        self._model = model
        self._instruction = instruction
        self._turns_max = turns_max

    async def run(self, prompt: str, run_id: str) -> AsyncGenerator[Heard, None]:
        """Work on a prompt and tell what happens as it happens.

        Refused and unknown tool calls go to the model as data. Raises `GatewayError` when the model cannot be asked,
        `TokenError` without a token, `TurnsExceededError` when the model comes to no end.
        """
        told = self._one_stream(prompt, run_id) if self._in_stream else self._turn_by_turn(prompt, run_id)
        async with aclosing(told) as heard:
            async for event in heard:
                yield event

    async def _one_stream(self, prompt: str, run_id: str) -> AsyncGenerator[Heard, None]:
        """The gateway runs the tools. A connection that breaks, or a gateway that restarts, is no end of it."""
        request = ChatRequest(
            model=self._model,
            system_instruction=self._instruction,
            contents=[Content(role=Role.USER, parts=[Part(text=prompt)])],
            run_id=run_id,
            run_tools=RunTools(turns_max=self._turns_max, idempotency_key=run_id),
            resumable=Resumable.CANCELLED,
        )
        turn, report = Turn(), CallReport()
        async with aclosing(self._listened(request, turn, report)) as heard:
            async for told in heard:
                yield told
        if turn.finish is not None:
            yield TurnEnded(finish=turn.finish, usage=turn.usage, report=report)
            if turn.finish.reason is FinishReason.TURNS_SPENT:
                raise TurnsExceededError(_EXCEEDED.format(self._turns_max))

    async def _turn_by_turn(self, prompt: str, run_id: str) -> AsyncGenerator[Heard, None]:
        offered = await self._client.list_tools()
        contents = [Content(role=Role.USER, parts=[Part(text=prompt)])]
        for number in range(1, self._turns_max + 1):
            turn, report = Turn(), CallReport()
            request = self._request(contents, offered, run_id)
            async with aclosing(self._listened(request, turn, report)) as heard:
                async for told in heard:
                    yield told
            # The call has ended: its trailing metadata is in the report now.
            if turn.finish is not None:
                yield TurnEnded(finish=turn.finish, usage=turn.usage, report=report)
            if not turn.waits_for_tools:
                return
            results: list[Part] = []
            for batch in _batches(turn.calls, offered):
                for answered in await self._executed(batch, run_id, number):
                    results.append(Part(tool_result=_result(answered)))
                    yield answered
            contents += [turn.content, Content(role=Role.USER, parts=results)]
        raise TurnsExceededError(_EXCEEDED.format(self._turns_max))

    async def _listened(
        self, request: ChatRequest, turn: Turn, report: CallReport
    ) -> AsyncGenerator[Said | Asked | Ran | Again, None]:
        """One stream as it comes, collected in `turn`. One that breaks off and cannot be resumed is asked for anew."""
        broken: list[GatewayError] = []
        async with aclosing(self._client.chat(request, report=report, anew=broken.append)) as events:
            async for event in events:
                if broken:
                    turn.begin()
                    yield Again(error=broken.pop())
                turn.add(event)
                if event.text is not None and event.text.text:
                    yield Said(text=event.text.text)
                elif event.tool_call is not None and event.tool_call.call is not None:
                    yield Asked(call=event.tool_call.call)
                elif event.tool_run is not None and event.tool_run.verdict is None:
                    call = next(call for call in turn.calls if call.id == event.tool_run.call_id)
                    yield Ran(call=call, run=event.tool_run)

    def _request(self, contents: list[Content], offered: ListToolsResponse, run_id: str) -> ChatRequest:
        return ChatRequest(
            model=self._model,
            system_instruction=self._instruction,
            contents=contents,
            functions=[
                FunctionDeclaration(
                    name=tool.name, description=tool.description, parameters_json_schema=tool.arguments_json_schema
                )
                for tool in offered.tools
            ],
            run_id=run_id,
        )

    async def _executed(self, batch: list[tuple[int, ToolCall]], run_id: str, number: int) -> list[Answered]:
        """The answers of calls that are made at the same time, in the model's order."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._execute(call, run_id, f"{run_id}:{number}:{place}", place))
                    for place, call in batch
                ]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _execute(self, call: ToolCall, run_id: str, key: str, place: int) -> Answered:
        report = CallReport()
        if place > CALLS_PER_TURN_MAX:
            return Answered(call=call, operation=None, refusal=_too_many(), report=report)
        try:
            operation = await self._client.execute_tool(
                call.name, call.arguments_json, key=key, run_id=run_id, report=report
            )
        except GatewayError as error:
            return Answered(call=call, operation=None, refusal=error, report=report)
        return Answered(call=call, operation=operation, refusal=None, report=report)


def _batches(calls: list[ToolCall], offered: ListToolsResponse) -> list[list[tuple[int, ToolCall]]]:
    """Calls with their places: neighbours that only read go together, what has an effect goes alone, in its order."""
    reads = {tool.name for tool in offered.tools if tool.effect is Effect.READ}
    batches: list[list[tuple[int, ToolCall]]] = []
    reading = False
    for place, call in enumerate(calls, 1):
        if reading and call.name in reads:
            batches[-1].append((place, call))
        else:
            batches.append([(place, call)])
        reading = call.name in reads
    return batches


def _result(answered: Answered) -> ToolResult:
    if answered.operation is not None:
        told = told_operation(answered.operation)
    else:
        told = told_error(answered.refusal or _too_many())
    return ToolResult(call_id=answered.call.id, name=answered.call.name, result_json=told)


def _too_many() -> GatewayError:
    return GatewayError(
        status=Status.RESOURCE_EXHAUSTED,
        reason="agent.too_many_calls",
        sentence=f"This call was not sent: {CALLS_PER_TURN_MAX} calls in one turn are the most.",
    )
