"""What a model can be asked for: refused up front, in one place for all upstreams, from what each says of itself."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.llm.constraint import constraint_refusal
from gateway.terms.conversation import Choosing, Conversation, Generation, Part, Thinking
from gateway.terms.inputs import FileData, InlineData
from gateway.terms.models import Model, ThinkingForm
from gateway.terms.verdict import Kind, Refusal, malformed


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What an upstream's wire has words for; what is not here is refused, because it could only be dropped."""

    settings: frozenset[str]
    """Of the fields of `Generation`: the optional ones that it takes."""
    choosing: frozenset[Choosing] = field(default_factory=lambda: frozenset(Choosing))
    guards: bool = False
    cached_content: bool = False
    references: frozenset[str] = frozenset()
    """Schemes of files by reference."""
    media: frozenset[str] | None = None
    """MIME types of files; None: whatever the operator says. All text is one of them."""
    function_name: re.Pattern[str] | None = None
    """The form of functions' names, where it is narrower than ours."""
    temperature_max: float = 2
    stop_sequences_max: int = 5

    def refusal(self, model: Model, conversation: Conversation) -> Refusal | None:
        """The first thing that this model cannot do, or None."""
        for refusal in self._refusals(model, conversation):
            return refusal
        return constraint_refusal(model, conversation.constraint)

    def _refusals(self, model: Model, conversation: Conversation) -> Iterator[Refusal]:
        yield from self._settings(model, conversation.generation)
        if conversation.functions and conversation.choosing not in self.choosing:
            yield unsupported(model, f"function_calling.mode {conversation.choosing.name}")
        for place, function in enumerate(conversation.functions):
            if self.function_name is not None and not self.function_name.fullmatch(function.name):
                told = f"{model.name} takes names of {self.function_name.pattern}"
                yield malformed(f"functions[{place}].name", told)
        for turn, said in enumerate(conversation.turns):
            for place, part in enumerate(said.parts):
                yield from self._file(model, part, f"contents[{turn}].parts[{place}]")
        yield from self._guards(model, conversation)
        yield from self._cached(model, conversation)

    def _settings(self, model: Model, generation: Generation) -> Iterator[Refusal]:
        asked = {
            "top_p": generation.top_p is not None,
            "top_k": generation.top_k is not None,
            "stop_sequences": bool(generation.stop_sequences),
            "seed": generation.seed is not None,
            "presence_penalty": generation.presence_penalty is not None,
            "frequency_penalty": generation.frequency_penalty is not None,
            "temperature": generation.temperature is not None,
        }
        for name, is_asked in asked.items():
            if is_asked and name not in self.settings:
                yield unsupported(model, f"settings.{name}")
        if (generation.temperature or 0) > self.temperature_max:
            yield malformed("settings.temperature", f"{model.name} takes at most {self.temperature_max:g}")
        if len(generation.stop_sequences) > self.stop_sequences_max:
            yield malformed("settings.stop_sequences", f"{model.name} takes at most {self.stop_sequences_max}")
        if generation.thinking is not Thinking.UNSPECIFIED and model.thinking is ThinkingForm.NONE:
            yield unsupported(model, "settings.thinking_level")

    def _file(self, model: Model, part: Part, field: str) -> Iterator[Refusal]:
        if not isinstance(part, InlineData | FileData):
            return
        known = sorted(kind for kind in model.inputs.media if self._reads(kind))
        if part.mime_type not in known:
            told = f"it reads: {', '.join(known) or 'no files'}"
            yield unsupported(model, f"a file of type {part.mime_type}", told)
        if not isinstance(part, FileData):
            return
        if part.mime_type.startswith("text/"):
            yield malformed(f"{field}.file_data", "send text inline: nothing bounds how long it is elsewhere")
        allowed = [prefix for prefix in model.inputs.file_prefixes if prefix.partition(":")[0] in self.references]
        if not part.uri.startswith(tuple(allowed)):
            told = f"files for {model.name} begin with: {', '.join(allowed) or 'none, send them inline'}"
            yield malformed(f"{field}.file_data.uri", told)

    def _reads(self, mime_type: str) -> bool:
        return self.media is None or mime_type in self.media or mime_type.startswith("text/")

    def _guards(self, model: Model, conversation: Conversation) -> Iterator[Refusal]:
        if conversation.guards and not self.guards:
            yield unsupported(model, "safety_settings")
        for harm, guard in conversation.guards.items():
            loosest = model.inputs.guards.get(harm)
            if loosest is not None and guard.value > loosest.value:
                told = f"{harm.name} may be {loosest.name} or stricter for {model.name}"
                yield Refusal(
                    kind=Kind.FORBIDDEN, reason="model.safety_too_loose", sentence=f"safety_settings: {told}."
                )

    def _cached(self, model: Model, conversation: Conversation) -> Iterator[Refusal]:
        if not conversation.cached_content:
            return
        if not self.cached_content or conversation.cached_content not in model.inputs.cached:
            known = ", ".join(sorted(model.inputs.cached)) if self.cached_content else ""
            yield malformed("cached_content", f"{model.name} has: {known or 'none'}")
        if conversation.system_instruction or conversation.functions:
            yield malformed("cached_content", "has its own system instruction and functions: send none beside it")


def unsupported(model: Model, what: str, able: str = "leave it out, or ask another model") -> Refusal:
    """The refusal of something that the model's upstream has no words for."""
    return Refusal(
        kind=Kind.UNSUPPORTED, reason="model.unsupported", sentence=f"{model.name} does not take {what}; {able}."
    )
