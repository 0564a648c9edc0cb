"""The model: a checked prompt to an answer, by rules that can be read here and by nothing else.

The same seed, model and prompt give the same answer; the request's own seed matters unless the temperature is 0.
More output tokens only ever extend an answer, as with a real model.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from localcloud.vertex.conform import conforming
from localcloud.vertex.directives import Directives
from localcloud.vertex.generation import family
from localcloud.vertex.grammar import Malformed, Step, steps
from localcloud.vertex.jsontypes import Json, as_object
from localcloud.vertex.prompt import Call, Prompt, Result
from localcloud.vertex.prose import Tape
from localcloud.vertex.signature import Seal
from localcloud.vertex.tokens import count_json, split

# Tokens of thought by level. Without a level the model thinks only where thoughts are asked for.
THOUGHT_TOKENS = {"": 0, "MINIMAL": 0, "LOW": 12, "MEDIUM": 24, "HIGH": 48}
SHOWN_VALUES = 40
# Finish reasons after which a chunk still carries text; every other one ends without content.
WITH_CONTENT = frozenset({"STOP", "MAX_TOKENS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the model says: tokens of thought, tokens of text or calls, and why it ended.

    `thoughts_shown`: the caller asked to see them; they count in any case. `signature` belongs to the last part of a
    text that was thought about; calls carry their own. A refused prompt has `blocked` set and nothing else.
    """

    thoughts: tuple[str, ...] = ()
    thoughts_shown: bool = False
    text: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    finish: str = "STOP"
    finish_message: str = ""
    signature: str = ""
    blocked: str = ""
    stopped: str = ""
    """The stop sequence that ended the text."""

    @property
    def output_tokens(self) -> int:
        """Tokens of the candidate, thoughts not included."""
        return len(self.text) + sum(map(_call_tokens, self.calls))


class Model:
    """A deterministic model with a seed of its own."""

    __slots__ = ("_seed", "_tape", "seal")

    def __init__(self, seed: int) -> None:
        """Prepare the prose and the signatures that belong to the seed."""
        self._seed = seed
        self._tape = Tape(seed)
        self.seal = Seal(seed)

    def answer(self, prompt: Prompt, directives: Directives) -> Answer:
        """The answer to a prompt; ApiError 400 where a schema asks for what cannot be."""
        mine = not prompt.turns[-1].results
        if directives.block and mine:
            return Answer(blocked=directives.block)
        digest = self._digest(prompt)
        answer = self._content(prompt, directives, digest)
        shown = prompt.settings.include_thoughts
        answer = replace(answer, thoughts=self._thoughts(prompt, digest), thoughts_shown=shown)
        answer = _limited(answer, prompt)
        if directives.finish and mine:
            kept = answer.text[: directives.finish_after]
            answer = replace(answer, text=kept, calls=(), finish=directives.finish)
        return self._signed(answer, prompt, digest)

    def _content(self, prompt: Prompt, directives: Directives, digest: int) -> Answer:
        mine = not prompt.turns[-1].results
        if directives.echo and mine:
            return Answer(text=tuple(split(directives.text)))
        wanted = self._calls(prompt, directives.text, digest)
        broken = next((item for item in wanted if isinstance(item, Malformed)), None)
        if broken is not None:
            told = f"Malformed function call: {broken.name}({broken.text[:200]})"
            return Answer(finish="MALFORMED_FUNCTION_CALL", finish_message=told)
        calls = tuple(item for item in wanted if isinstance(item, Call))
        if calls:
            return Answer(calls=calls)
        if prompt.settings.mime_type != "text/plain":
            return Answer(text=tuple(split(_structured(prompt, digest))))
        if not mine:
            return Answer(text=tuple(split(summary(prompt.turns[-1].results))))
        return Answer(text=tuple(self._prose(directives, digest)))

    def _calls(self, prompt: Prompt, text: str, digest: int) -> Step:
        """The calls of this step: what the grammar finds, or with mode ANY a generated one."""
        functions = prompt.tooling.callable_functions
        planned = steps(text, functions)
        if prompt.steps_done < len(planned):
            return planned[prompt.steps_done]
        if prompt.tooling.mode == "ANY" and functions:
            chosen = functions[digest % len(functions)]
            arguments = as_object(conforming(chosen.schema, digest)) if chosen.schema else {}
            return (Call(name=chosen.name, arguments=arguments),)
        return ()

    def _prose(self, directives: Directives, digest: int) -> list[str]:
        pace = directives.pace
        if pace.deltas:
            return self._tape.read(digest, pace.deltas * pace.size)
        return self._tape.read_sentences(digest, 3 + digest % 5)

    def _thoughts(self, prompt: Prompt, digest: int) -> tuple[str, ...]:
        settings = prompt.settings
        amount = THOUGHT_TOKENS[settings.thinking_level]
        if not settings.thinking_level and settings.include_thoughts:
            amount = THOUGHT_TOKENS["LOW"]
        if settings.thinking_budget is not None:
            amount = THOUGHT_TOKENS["MEDIUM"] if settings.thinking_budget < 0 else min(settings.thinking_budget, 48)
        return tuple(self._tape.read(digest >> 8, amount))

    def _signed(self, answer: Answer, prompt: Prompt, digest: int) -> Answer:
        """Calls of the newer models carry a signature on the first of them, thought-about texts on their last part."""
        if family(prompt.model) < 3 or not (answer.calls or answer.thoughts):
            return answer
        signature = self.seal.make(digest.to_bytes(8, "big"))
        if answer.calls:
            return replace(answer, calls=(replace(answer.calls[0], signature=signature), *answer.calls[1:]))
        return replace(answer, signature=signature)

    def _digest(self, prompt: Prompt) -> int:
        """A number that stands for all that the answer may depend on."""
        settings = prompt.settings
        drawn = settings.seed if settings.temperature != 0 else None
        told = (self._seed, prompt.model, prompt.system, prompt.turns, prompt.tooling, settings.schema, drawn)
        return int.from_bytes(hashlib.blake2b(msgspec.json.encode(told, order="sorted"), digest_size=8).digest(), "big")


def _limited(answer: Answer, prompt: Prompt) -> Answer:
    """The answer up to its first stop sequence and its token limit, which thoughts count against too."""
    if prompt.settings.stop_sequences:
        text = "".join(answer.text)
        ends = [(text.find(stop), stop) for stop in prompt.settings.stop_sequences]
        found = [end for end in ends if end[0] >= 0]
        if found:
            at, stop = min(found)
            answer = replace(answer, text=tuple(split(text[:at])), stopped=stop)
    most = prompt.settings.max_output_tokens
    if most is None or len(answer.thoughts) + answer.output_tokens <= most:
        return answer
    thoughts = answer.thoughts[:most]
    room = most - len(thoughts)
    return replace(answer, thoughts=thoughts, text=answer.text[:room], calls=(), finish="MAX_TOKENS")


def _call_tokens(call: Call) -> int:
    return count_json([call.name, call.arguments])


def _structured(prompt: Prompt, digest: int) -> str:
    """A JSON text that conforms to the asked schema, or one of the values of an enum as plain text."""
    schema = prompt.settings.schema
    value = conforming(schema if schema is not None else {"type": "object", "required": ["answer"]}, digest)
    if prompt.settings.mime_type == "text/x.enum":
        return str(value)
    return msgspec.json.encode(value).decode()


def summary(results: Sequence[Result]) -> str:
    """What the called functions gave, in one sentence each, with the real values of their responses."""
    return " ".join(_told(result) for result in results)


def _told(result: Result) -> str:
    error = result.response.get("error")
    if error is not None:
        return f"{result.name} was refused: {_shown(error)}."
    refused = as_object(result.response.get("refused"))
    if refused:
        return f"{result.name} was refused ({_shown(refused.get('reason'))}): {_shown(refused.get('message'))}"
    values = list(_leaves({name: value for name, value in result.response.items() if name != "notice"}, ""))
    more = f", and {len(values) - SHOWN_VALUES} more values" if len(values) > SHOWN_VALUES else ""
    return f"{result.name} answered: {', '.join(values[:SHOWN_VALUES]) or 'nothing'}{more}."


def _leaves(value: Json, path: str) -> list[str]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _leaves(item, f"{path}.{key}" if path else key)]
    if isinstance(value, list):
        return [leaf for place, item in enumerate(value) for leaf in _leaves(item, f"{path}[{place}]")]
    return [f"{path} = {_shown(value)}"]


def _shown(value: Json) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
