"""The tool loop inside of a model stream: the model asks, the gateway runs what is its own, and the model goes on.

Every turn is an operation of its own, with its own permit, reservation, intent and outcome (invariants 5 and 6); what
links them is the run, the request, and the first turn's operation, which each later record names.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.call.governed import Governed
from gateway.call.spoken import Spoken, extended
from gateway.call.told import Closed, Spent, Told, TurnEnded
from gateway.call.tool_runs import ToolRuns, Wanted, wanted
from gateway.terms.asks import ChatAsk, RunTools, ToolDeclaration
from gateway.terms.conversation import (
    Choosing,
    Conversation,
    Finish,
    FunctionCall,
    FunctionResult,
    Speaker,
    Text,
    Thought,
    Turn,
    Usage,
    counted_tokens_bound,
    estimated_tokens,
    prompt_tokens_bound,
)
from gateway.terms.ids import OperationId, RunId
from gateway.terms.limits import MESSAGE_BYTES_MAX
from gateway.terms.money import MicroUsd
from gateway.terms.verdict import Kind, Refusal, RefusedError

AskModel = Callable[[Governed, ChatAsk], AsyncGenerator[Told, None]]
"""One turn, from its permit to its `Closed`."""

_NOTHING: Final = Spent(usage=Usage(), cost=MicroUsd(0))

_TOO_LONG: Final = Refusal(
    kind=Kind.EXHAUSTED,
    reason="chat.history_full",
    sentence="Calls and results of this stream have grown beyond what one request may hold. Begin a new one, with what "
    "of it is still needed.",
)


@dataclass(slots=True, kw_only=True)
class ToolLoop:
    """One stream of several turns."""

    stream: Governed
    ask: ChatAsk
    """What the model is asked in its first turn."""
    run_tools: RunTools
    tools: Mapping[str, ToolDeclaration]
    ask_model: AskModel
    one_tokenizer: bool = False
    """Whether every turn is counted alike, whichever target answers."""
    _chat: OperationId = field(default=OperationId(""))
    _spent: Spent = _NOTHING
    _grown: int = 0
    """Upper bound of the bytes that were added to the conversation."""

    async def told(self) -> AsyncGenerator[Told, None]:
        """Everything that the caller hears, turn after turn, ending with one `Closed`."""
        ask = replace(self.ask, turn=1)
        while True:
            heard = _Heard(before=self._spent)
            async with aclosing(self._turn(ask, heard)) as events:
                async for event in events:
                    yield event
            closed, self._spent = heard.end, heard.total
            self._chat = self._chat or closed.operation.id
            runs = self._wanted(heard)
            goes_on = bool(runs) and len(runs) == len(heard.spoken.calls)
            if goes_on and ask.turn == self.run_tools.turns_max:
                ending = replace(closed.ending, finish=Finish.TURNS_SPENT)
                yield replace(closed, ending=ending, turns=ask.turn)
                return
            if goes_on:
                yield TurnEnded(turn=ask.turn, spent=heard.spent, closed=closed)
            ran = ToolRuns(stream=self.stream, run=self._run, key=self.run_tools.key or self._chat, turn=ask.turn)
            async with aclosing(ran.steps(runs)) as steps:
                async for step in steps:
                    yield step
            if not goes_on:
                yield replace(closed, turns=ask.turn)
                return
            ask = self._next(ask, heard, ran)

    async def _turn(self, ask: ChatAsk, heard: "_Heard") -> AsyncGenerator[Told, None]:
        """One turn. Its parts go to the caller as they come; its end is for `told` to tell."""
        call = self.stream if ask.turn == 1 else self._later()
        async with call.recorded():
            if self._grown > MESSAGE_BYTES_MAX:
                raise RefusedError(_TOO_LONG)
        async with aclosing(self.ask_model(call, ask)) as events:
            async for event in events:
                match event:
                    case Text() | Thought() | FunctionCall():
                        heard.spoken.take(event)
                        yield event
                    case Spent():
                        heard.spent = event
                        yield heard.total
                    case Closed():
                        heard.closed = event
                    case _:
                        yield event

    def _later(self) -> Governed:
        """A turn after the first: the same caller on the same way, under an operation of its own."""
        stream = self.stream
        passage = replace(stream.passage, reply_headers={})
        return Governed(at=stream.at, passage=passage, caller=stream.caller, ask=stream.ask)

    @property
    def _run(self) -> RunId:
        """What links all calls of the stream: the caller's run, or one that is named like the first operation.

        A budget for each run counts a call without a run under its operation's id: so all of them are one run there.
        """
        return self.ask.run or RunId(self._chat)

    def _wanted(self, heard: "_Heard") -> list[Wanted]:
        """The calls to answer. An answer that was cut off asks for nothing."""
        if heard.end.ending.finish is not Finish.TOOL_CALLS:
            return []
        functions = {function.name for function in self.ask.conversation.functions}
        return wanted(heard.spoken.calls, self.tools, functions)

    def _next(self, ask: ChatAsk, heard: "_Heard", ran: ToolRuns) -> ChatAsk:
        """What the model is asked after its tools have run."""
        results = tuple(
            FunctionResult(call_id=one.call.id, name=one.call.name, result_json=step.told)
            for one, step in (ran.ran[place] for place in sorted(ran.ran))
        )
        added = (heard.spoken.turn(), Turn(speaker=Speaker.USER, parts=results))
        # Who must call a function in every turn would never come to an end.
        choosing = Choosing.AUTO if ask.conversation.choosing is Choosing.ANY else ask.conversation.choosing
        turns = ask.conversation.turns + added
        conversation = replace(ask.conversation, turns=turns, choosing=choosing, allowed_functions=())
        grown = prompt_tokens_bound(Conversation(system_instruction="", turns=added))
        self._grown += grown
        bound, counted = ask.input_tokens_bound + grown, None
        told = self._told_tokens(ask, heard)
        if told:
            answers = prompt_tokens_bound(Conversation(system_instruction="", turns=added[1:]))
            bound = min(bound, counted_tokens_bound(told) + answers)
            counted = told + estimated_tokens(answers)
        return replace(
            ask,
            conversation=conversation,
            input_tokens_bound=bound,
            input_tokens_counted=counted,
            run=self._run,
            digest=extended(ask.digest, added),
            turn=ask.turn + 1,
            chat=self._chat,
        )

    def _told_tokens(self, ask: ChatAsk, heard: "_Heard") -> int:
        """What the upstream told of this turn, its prompt and its answer: the next prompt's beginning.

        0 where that is not certain: another tokenizer may be next, the usage is estimated, or the turn was shown fewer
        functions than the next one will be.
        """
        usage = heard.spent.usage
        if not self.one_tokenizer or usage.estimated or ask.conversation.allowed_functions:
            return 0
        return usage.input_tokens and usage.input_tokens + usage.output_tokens


@dataclass(slots=True, kw_only=True)
class _Heard:
    """What came of one turn."""

    before: Spent
    """Of all turns before it."""
    spoken: Spoken = field(default_factory=Spoken)
    spent: Spent = _NOTHING
    closed: Closed | None = None

    @property
    def end(self) -> Closed:
        """How it ended; a turn that did not end well has raised."""
        if self.closed is None:
            raise TypeError("a turn ended without its end")
        return self.closed

    @property
    def total(self) -> Spent:
        """What all turns took until now."""
        usages = (self.before.usage, self.spent.usage)
        return Spent(
            usage=Usage(
                input_tokens=sum(usage.input_tokens for usage in usages),
                output_tokens=sum(usage.output_tokens for usage in usages),
                thinking_tokens=sum(usage.thinking_tokens for usage in usages),
                cached_tokens=sum(usage.cached_tokens for usage in usages),
                estimated=any(usage.estimated for usage in usages),
            ),
            cost=MicroUsd(self.before.cost + self.spent.cost),
        )
