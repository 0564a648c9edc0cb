"""The loop of an agent: the model asks for tools, the gateway decides and executes them, the model goes on."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from agent.client.contract import (
    ChatRequest,
    Content,
    Finish,
    FinishReason,
    FunctionDeclaration,
    Operation,
    OperationState,
    Part,
    Role,
    ToolCall,
    ToolResult,
    Usage,
)
from agent.client.errors import GatewayError
from agent.client.gateway import CallReport, GatewayClient


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
    """What the gateway made of it: an operation, or a refusal."""

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


Heard = Said | Asked | Answered | TurnEnded


class TurnsExceededError(Exception):
    """The model kept asking for tools."""


@dataclass(slots=True, kw_only=True)
class _Turn:
    parts: list[Part] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    finish: Finish | None = None
    usage: Usage | None = None


class Agent:
    """One task at a time, over as many turns as it takes, within a bound."""

    def __init__(self, client: GatewayClient, *, model: str, instruction: str = "", turns_max: int = 8) -> None:
        self._client = client
        self._model = model
        self._instruction = instruction
        self._turns_max = turns_max

    async def run(self, prompt: str, run_id: str) -> AsyncGenerator[Heard, None]:
        """Work on a prompt. Tool calls are named by the run and their place, so a repeated run repeats no effect."""
        tools = await self._client.list_tools()
        functions = [
            FunctionDeclaration(
                name=tool.name, description=tool.description, parameters_json_schema=tool.arguments_json_schema
            )
            for tool in tools.tools
        ]
        contents = [Content(role=Role.USER, parts=[Part(text=prompt)])]
        for number in range(1, self._turns_max + 1):
            turn, report = _Turn(), CallReport()
            request = ChatRequest(
                model=self._model,
                system_instruction=self._instruction,
                contents=contents,
                functions=functions,
                run_id=run_id,
            )
            async with aclosing(self._listened(request, turn, report)) as heard:
                async for event in heard:
                    yield event
            if turn.finish is None or turn.finish.reason is not FinishReason.TOOL_CALLS:
                return
            results: list[Part] = []
            for place, call in enumerate(turn.calls, 1):
                answered = await self._executed(call, run_id, f"{run_id}:{number}:{place}")
                results.append(Part(tool_result=_result(answered)))
                yield answered
            contents += [Content(role=Role.MODEL, parts=turn.parts), Content(role=Role.USER, parts=results)]
        raise TurnsExceededError(f"the model asked for tools in {self._turns_max} turns and did not come to an end")

    async def _listened(self, request: ChatRequest, turn: _Turn, report: CallReport) -> AsyncGenerator[Heard, None]:
        async with aclosing(self._client.chat(request, report=report)) as events:
            async for event in events:
                if event.text is not None:
                    _append_text(turn.parts, event.text.text, event.text.signature)
                    yield Said(text=event.text.text)
                elif event.tool_call is not None and event.tool_call.call is not None:
                    call = event.tool_call.call
                    turn.parts.append(Part(tool_call=call, signature=event.tool_call.signature))
                    turn.calls.append(call)
                    yield Asked(call=call)
                elif event.usage is not None:
                    turn.usage = event.usage
                elif event.finish is not None:
                    turn.finish = event.finish
        # The call has ended: its trailing metadata is in the report now.
        if turn.finish is not None:
            yield TurnEnded(finish=turn.finish, usage=turn.usage, report=report)

    async def _executed(self, call: ToolCall, run_id: str, key: str) -> Answered:
        report = CallReport()
        try:
            operation = await self._client.execute_tool(
                call.name, call.arguments_json, key=key, run_id=run_id, report=report
            )
        except GatewayError as refusal:
            return Answered(call=call, operation=None, refusal=refusal, report=report)
        return Answered(call=call, operation=operation, refusal=None, report=report)


def _append_text(parts: list[Part], text: str, signature: bytes) -> None:
    """Join neighbouring deltas: the history holds what was said, not how it came."""
    last = parts[-1] if parts else None
    if last is not None and last.text is not None and not last.signature and not signature:
        last.text += text
    else:
        parts.append(Part(text=text, signature=signature))


def _result(answered: Answered) -> ToolResult:
    """What the model is told: data, never an instruction."""
    told: dict[str, object]
    operation, refusal = answered.operation, answered.refusal
    if refusal is not None:
        told = {"refused": {"reason": refusal.reason, "message": refusal.sentence, "rules": list(refusal.rules)}}
    elif operation is not None and operation.state is OperationState.SUCCEEDED:
        told = {"result": json.loads(operation.result_json)}
    elif operation is not None and operation.error is not None:
        state = operation.state.name or "UNKNOWN"
        told = {"state": state.lower(), "error": {"reason": operation.error.reason, "message": operation.error.message}}
    else:
        told = {"state": "unknown"}
    return ToolResult(call_id=answered.call.id, name=answered.call.name, result_json=json.dumps(told))
