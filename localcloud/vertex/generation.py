"""The rules of `generationConfig`: ranges, combinations, and what a generation of models understands."""

import re

from localcloud.vertex.errors import invalid
from localcloud.vertex.jsontypes import JsonObject, as_object, as_text, integer, number, strings
from localcloud.vertex.prompt import Settings

MAX_OUTPUT_TOKENS = 65_536
MAX_STOP_SEQUENCES = 5
MAX_THINKING_BUDGET = 32_768
# Named in the request's messages, not provided by this server: refused rather than dropped.
REFUSED = ("responseLogprobs", "logprobs", "routingConfig", "speechConfig", "imageConfig", "audioTimestamp")
MIME_TYPES = ("text/plain", "application/json", "text/x.enum")


def family(model: str) -> int:
    """The generation of a Gemini model by its name; names that say none count as the newest rules, 3."""
    found = re.match(r"gemini-(\d+)", model)
    return int(found[1]) if found else 3


def read_settings(members: JsonObject, model: str) -> Settings:
    """The settings of a request, checked for the model; 400 with a sentence that names the value and its range."""
    config = as_object(members.get("generationConfig"))
    for name in REFUSED:
        if config.get(name):
            raise invalid(f"{name} is not enabled for {model}.")
    _check_ranges(config, model)
    thinking = as_object(config.get("thinkingConfig"))
    _check_thinking(thinking, model)
    schema = _schema(config)
    return Settings(
        temperature=number(config, "temperature"),
        max_output_tokens=integer(config, "maxOutputTokens"),
        stop_sequences=strings(config.get("stopSequences")),
        seed=integer(config, "seed"),
        mime_type=as_text(config.get("responseMimeType")) or "text/plain",
        schema=schema,
        include_thoughts=thinking.get("includeThoughts") is True,
        thinking_level=as_text(thinking.get("thinkingLevel")).removesuffix("THINKING_LEVEL_UNSPECIFIED"),
        thinking_budget=integer(thinking, "thinkingBudget"),
    )


def _check_ranges(config: JsonObject, model: str) -> None:
    _between(config, "temperature", 0, 2)
    _between(config, "topP", 0, 1)
    _between(config, "topK", 1, 1000)
    _between(config, "maxOutputTokens", 1, MAX_OUTPUT_TOKENS)
    _between(config, "presencePenalty", -2, 2)
    _between(config, "frequencyPenalty", -2, 2)
    if integer(config, "candidateCount") not in (None, 1):
        raise invalid(f"Multiple candidates is not enabled for {model}.")
    stops = strings(config.get("stopSequences"))
    if len(stops) > MAX_STOP_SEQUENCES:
        raise invalid(f"At most {MAX_STOP_SEQUENCES} stopSequences are supported, got {len(stops)}.")
    if "" in stops:
        raise invalid("A stop sequence must not be empty.")
    if set(strings(config.get("responseModalities"))) - {"TEXT"}:
        raise invalid(f"{model} answers in the modality TEXT only.")


def _between(config: JsonObject, name: str, least: int, most: int) -> None:
    value = number(config, name)
    if value is not None and not least <= value <= most:
        told = f"it has a {name} value of {value:g} but the supported range is from {least} to {most}"
        raise invalid(f"Unable to submit request because {told}. Update the value and try again.")


def _check_thinking(thinking: JsonObject, model: str) -> None:
    budget, level = integer(thinking, "thinkingBudget"), as_text(thinking.get("thinkingLevel"))
    if budget is not None and level:
        raise invalid("You can only set only one of thinking budget and thinking level.")
    if budget is not None and family(model) >= 3:
        raise invalid(f"Thinking budget is not supported for {model}; set the thinking level.")
    if level and family(model) < 3:
        raise invalid(f"Thinking level is not supported for {model}; set the thinking budget.")
    if budget is not None and not -1 <= budget <= MAX_THINKING_BUDGET:
        raise invalid(f"The thinking budget {budget} is invalid. Please choose -1 to {MAX_THINKING_BUDGET}.")


def _schema(config: JsonObject) -> JsonObject | None:
    given = [name for name in ("responseSchema", "responseJsonSchema") if config.get(name) is not None]
    mime_type = as_text(config.get("responseMimeType")) or "text/plain"
    if mime_type not in MIME_TYPES:
        raise invalid(f"Response mime type '{mime_type}' is not supported; use one of {', '.join(MIME_TYPES)}.")
    if len(given) == 2:
        raise invalid("Only one of responseSchema and responseJsonSchema may be set.")
    if given and mime_type == "text/plain":
        raise invalid(f"{given[0]} needs a responseMimeType of application/json or text/x.enum.")
    if not given:
        if mime_type == "text/x.enum":
            raise invalid("A responseMimeType of text/x.enum needs a responseSchema with an enum.")
        return None
    schema = config[given[0]]
    if not isinstance(schema, dict):
        raise invalid(f"{given[0]} must be a JSON object.")
    if mime_type == "text/x.enum" and not strings(schema.get("enum")):
        raise invalid("A responseMimeType of text/x.enum needs a responseSchema with an enum.")
    return schema
