"""What a call used: tokens of the prompt by modality, what of it was cached, and `usageMetadata` in its JSON form."""

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from localcloud.vertex.answer import Answer
from localcloud.vertex.jsontypes import Json, JsonObject
from localcloud.vertex.prompt import Call, Media, Part, Prompt, Result, Text, Turn
from localcloud.vertex.spelling import Spelling
from localcloud.vertex.tokens import MEDIA_TOKENS, count, count_json

REMEMBERED = 4096
MODALITIES = {"image": "IMAGE", "video": "VIDEO", "audio": "AUDIO", "application": "DOCUMENT", "text": "DOCUMENT"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSize:
    """Tokens of a prompt: all, by modality, and how many of them came from the cache; billable characters."""

    tokens: int
    by_modality: dict[str, int]
    cached: int = 0
    characters: int = 0


def measure(prompt: Prompt) -> PromptSize:
    """The size of a prompt: texts, declarations, calls and results by the tokenizer, media at a flat rate."""
    found: Counter[str] = Counter(TEXT=0)
    found["TEXT"] += count(prompt.system) + sum(
        count(f"{function.name} {function.description}") + (count_json(function.schema) if function.schema else 0)
        for function in prompt.tooling.functions
    )
    for turn in prompt.turns:
        for part in turn.parts:
            found[_modality(part)] += _tokens(part)
    texts = [prompt.system, *(turn.text for turn in prompt.turns)]
    characters = sum(len("".join(text.split())) for text in texts)
    return PromptSize(tokens=found.total(), by_modality=dict(found), characters=characters)


def _modality(part: Part) -> str:
    return MODALITIES.get(part.mime_type.partition("/")[0], "DOCUMENT") if isinstance(part, Media) else "TEXT"


def _tokens(part: Part) -> int:
    match part:
        case Text():
            return count(part.text)
        case Call():
            return count_json([part.name, part.arguments])
        case Result():
            return count_json([part.name, part.response])
    return MEDIA_TOKENS


class PrefixCache:
    """Remembers beginnings of prompts, as the service does by itself: a repeated beginning is counted as cached.

    Only beginnings of at least `least` tokens are remembered, and only at the borders of turns.
    """

    def __init__(self, least: int) -> None:
        """Take the least number of tokens that is worth remembering."""
        self._least = least
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def cached_tokens(self, prompt: Prompt, size: PromptSize) -> int:
        """Tokens of the longest beginning of this prompt that was seen before; remembers this prompt's own."""
        if size.tokens < self._least:
            return 0
        opening = Prompt(
            model=prompt.model, system=prompt.system, turns=(), tooling=prompt.tooling, settings=prompt.settings
        )
        so_far = measure(opening).tokens
        state = hashlib.blake2b(msgspec.json.encode((opening.model, opening.system, opening.tooling)))
        best = self._known(state.digest(), so_far)
        for turn in prompt.turns:
            so_far += _turn_tokens(turn)
            state.update(msgspec.json.encode(turn))
            best = max(best, self._known(state.digest(), so_far))
        return best

    def _known(self, beginning: bytes, tokens: int) -> int:
        """The tokens if the beginning was seen before and is long enough; remembers it."""
        if tokens < self._least:
            return 0
        seen = beginning in self._seen
        self._seen[beginning] = None
        self._seen.move_to_end(beginning)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return tokens if seen else 0


def _turn_tokens(turn: Turn) -> int:
    return sum(map(_tokens, turn.parts))


def traffic_type(headers: Mapping[str, str]) -> str:
    """Which throughput a request asked for by Vertex's two request-type headers; the mapping ignores case."""
    kind = headers.get("x-vertex-ai-llm-request-type", "").lower()
    shared = headers.get("x-vertex-ai-llm-shared-request-type", "").lower()
    if kind == "dedicated":
        return "PROVISIONED_THROUGHPUT"
    return {"priority": "ON_DEMAND_PRIORITY", "flex": "ON_DEMAND_FLEX"}.get(shared, "ON_DEMAND")


def modality_details(by_modality: dict[str, int], spell: Spelling) -> list[Json]:
    """Token counts by modality in JSON form, modalities without tokens left out."""
    return [
        {"modality": spell("ContentModality", modality), "tokenCount": tokens}
        for modality, tokens in by_modality.items()
        if tokens
    ]


def usage_metadata(size: PromptSize, answer: Answer, traffic: str, spell: Spelling) -> JsonObject:
    """The final `usageMetadata`; counts that are zero are absent, as in protobuf's JSON."""
    thoughts, output = len(answer.thoughts), answer.output_tokens
    usage: JsonObject = {"promptTokenCount": size.tokens}
    if output:
        usage["candidatesTokenCount"] = output
        usage["candidatesTokensDetails"] = modality_details({"TEXT": output}, spell)
    if thoughts:
        usage["thoughtsTokenCount"] = thoughts
    if size.cached:
        usage["cachedContentTokenCount"] = size.cached
        usage["cacheTokensDetails"] = modality_details({"TEXT": size.cached}, spell)
    usage["totalTokenCount"] = size.tokens + output + thoughts
    usage["promptTokensDetails"] = modality_details(size.by_modality, spell)
    usage["trafficType"] = spell("TrafficType", traffic)
    return usage
