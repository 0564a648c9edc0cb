"""How a model is to answer: settings and constraint read into terms, every field honoured or refused."""

from typing import Final

from gateway.services.form import json_object, malformed
from gateway.terms.conversation import (
    ChoiceConstraint,
    Constraint,
    Generation,
    JsonSchemaConstraint,
    RegexConstraint,
    Thinking,
)
from gateway.terms.inputs import Guard, Harm
from gateway.terms.limits import SCHEMA_BYTES_MAX
from generated.agentic.gateway.v1 import (
    GenerationSettings,
    ResponseConstraint,
    SafetySetting,
    SafetySettingCategory,
    SafetySettingThreshold,
    ThinkingLevel,
)

_THINKING: Final = {
    ThinkingLevel.UNSPECIFIED: Thinking.UNSPECIFIED,
    ThinkingLevel.MINIMAL: Thinking.MINIMAL,
    ThinkingLevel.LOW: Thinking.LOW,
    ThinkingLevel.MEDIUM: Thinking.MEDIUM,
    ThinkingLevel.HIGH: Thinking.HIGH,
}
_HARMS: Final = {
    SafetySettingCategory.HATE_SPEECH: Harm.HATE_SPEECH,
    SafetySettingCategory.DANGEROUS_CONTENT: Harm.DANGEROUS_CONTENT,
    SafetySettingCategory.HARASSMENT: Harm.HARASSMENT,
    SafetySettingCategory.SEXUALLY_EXPLICIT: Harm.SEXUALLY_EXPLICIT,
}
_GUARDS: Final = {
    SafetySettingThreshold.BLOCK_LOW_AND_ABOVE: Guard.BLOCK_LOW_AND_ABOVE,
    SafetySettingThreshold.BLOCK_MEDIUM_AND_ABOVE: Guard.BLOCK_MEDIUM_AND_ABOVE,
    SafetySettingThreshold.BLOCK_ONLY_HIGH: Guard.BLOCK_ONLY_HIGH,
    SafetySettingThreshold.BLOCK_NONE: Guard.BLOCK_NONE,
    SafetySettingThreshold.OFF: Guard.OFF,
}
STOP_SEQUENCES_MAX: Final = 5
STOP_SEQUENCE_LENGTH_MAX: Final = 64
CHOICES_MAX: Final = 100


def generation(settings: GenerationSettings | None) -> Generation:
    """The settings, or the upstream's own where there are none."""
    if settings is None:
        return Generation()
    _within("temperature", settings.temperature, 0, 2)
    _within("presence_penalty", settings.presence_penalty, -2, 2)
    _within("frequency_penalty", settings.frequency_penalty, -2, 2)
    _within("top_k", settings.top_k, 1, 1000)
    _within("max_output_tokens", settings.max_output_tokens, 1, 2**31 - 1)
    if settings.top_p is not None and not 0 < settings.top_p <= 1:
        raise malformed("settings.top_p", "must be above 0 and at most 1")
    thinking = _THINKING.get(settings.thinking_level)
    if thinking is None:
        raise malformed("settings.thinking_level", "unknown level")
    return Generation(
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        max_output_tokens=settings.max_output_tokens,
        stop_sequences=_stop_sequences(settings.stop_sequences),
        seed=settings.seed,
        presence_penalty=settings.presence_penalty,
        frequency_penalty=settings.frequency_penalty,
        thinking=thinking,
        include_thoughts=settings.include_thoughts,
    )


def constraint(asked: ResponseConstraint | None) -> Constraint | None:
    """The form that the answer must have; whether the model can be held to it is the model's to say."""
    if asked is None:
        return None
    if asked.json_schema is not None:
        json_object(asked.json_schema, "constraint.json_schema", SCHEMA_BYTES_MAX)
        return JsonSchemaConstraint(schema_json=asked.json_schema)
    if asked.regex is not None:
        if not asked.regex:
            raise malformed("constraint.regex", "must not be empty: only the empty answer would match")
        return RegexConstraint(pattern=asked.regex)
    if asked.choice is not None:
        texts = asked.choice.texts
        if not 1 <= len(texts) <= CHOICES_MAX or len(set(texts)) != len(texts) or "" in texts:
            raise malformed("constraint.choice.texts", f"send 1 to {CHOICES_MAX} different, non-empty texts")
        return ChoiceConstraint(texts=tuple(texts))
    raise malformed("constraint", "needs json_schema, regex or choice")


def guards(settings: list[SafetySetting]) -> dict[Harm, Guard]:
    """How strictly the upstream is to guard; whether it may be that loose is the model's to say."""
    found: dict[Harm, Guard] = {}
    for place, setting in enumerate(settings):
        harm, guard = _HARMS.get(setting.category), _GUARDS.get(setting.threshold)
        if harm is None or harm in found:
            raise malformed(f"safety_settings[{place}].category", "say which, and each at most once")
        if guard is None:
            raise malformed(f"safety_settings[{place}].threshold", "say which")
        found[harm] = guard
    return found


def _within(name: str, value: float | None, least: int, most: int) -> None:
    """Refuse what is not between the two; NaN is between no numbers."""
    if value is not None and not least <= value <= most:
        raise malformed(f"settings.{name}", f"must be between {least} and {most}")


def _stop_sequences(sequences: list[str]) -> tuple[str, ...]:
    if len(sequences) > STOP_SEQUENCES_MAX:
        raise malformed("settings.stop_sequences", f"send at most {STOP_SEQUENCES_MAX}")
    for place, sequence in enumerate(sequences):
        if not 1 <= len(sequence) <= STOP_SEQUENCE_LENGTH_MAX:
            raise malformed(
                f"settings.stop_sequences[{place}]", f"must have 1 to {STOP_SEQUENCE_LENGTH_MAX} characters"
            )
    return tuple(sequences)
