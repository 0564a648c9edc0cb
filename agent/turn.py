"""One answer of the model, collected while it streams: what it said, for the history, and what it asks for."""

from dataclasses import dataclass, field

from agent.client.contract import ChatEvent, Content, Finish, FinishReason, Part, Role, ToolCall, Usage


@dataclass(slots=True, kw_only=True)
class Turn:
    """Parts in their order; `finish` comes last."""

    parts: list[Part] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    usage: Usage | None = None
    finish: Finish | None = None
    _words: list[str] = field(default_factory=list)
    _thinking: bool = False

    def begin(self) -> None:
        """Forget everything: the answer broke off and is given anew."""
        self.parts, self.calls, self._words = [], [], []
        self.usage = self.finish = None
        self._thinking = False

    def add(self, event: ChatEvent) -> None:
        """Take in one event of the stream."""
        if event.text is not None:
            self._say(event.text.text, event.text.signature, thinking=False)
        elif event.thought is not None:
            self._say(event.thought.text, event.thought.signature, thinking=True)
        elif event.tool_call is not None and event.tool_call.call is not None:
            self._end_words(b"")
            self.parts.append(Part(tool_call=event.tool_call.call, signature=event.tool_call.signature))
            self.calls.append(event.tool_call.call)
        elif event.usage is not None:
            self.usage = event.usage
        elif event.finish is not None:
            self._end_words(b"")
            self.finish = event.finish

    @property
    def waits_for_tools(self) -> bool:
        """Whether the model wants to go on with the results of its calls. A cut-off answer asks for nothing."""
        return bool(self.calls) and self.finish is not None and self.finish.reason is FinishReason.TOOL_CALLS

    @property
    def content(self) -> Content:
        """The turn as the next request carries it."""
        return Content(role=Role.MODEL, parts=self.parts)

    def _say(self, text: str, signature: bytes, *, thinking: bool) -> None:
        """Join neighbouring deltas: the history holds what was said, not how it came.

        A signature belongs to the delta that it came with, and joins nothing: it is sent back unchanged.
        """
        if self._thinking is not thinking or signature:
            self._end_words(b"")
        self._thinking = thinking
        self._words.append(text)
        if signature:
            self._end_words(signature)

    def _end_words(self, signature: bytes) -> None:
        text = "".join(self._words)
        self._words.clear()
        if not text and not signature:
            return
        if self._thinking:
            self.parts.append(Part(thought=text, signature=signature))
        else:
            self.parts.append(Part(text=text, signature=signature))
