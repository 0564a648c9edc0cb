"""A conversation in the words of Vertex AI's generateContent (REST v1), as bytes."""

import base64
from typing import Final

import msgspec

from gateway.llm.history import in_order_of_calls
from gateway.llm.signatures import for_gemini, written_geminis
from gateway.llm.thinking import BUDGETS
from gateway.terms.asks import ChatAsk
from gateway.terms.conversation import (
    ChoiceConstraint,
    Choosing,
    Constraint,
    Conversation,
    Function,
    FunctionCall,
    FunctionResult,
    Generation,
    JsonSchemaConstraint,
    Part,
    RegexConstraint,
    Text,
    Thinking,
    Thought,
    Turn,
)
from gateway.terms.inputs import FileData, InlineData
from gateway.terms.models import Model, ThinkingForm

JsonObject = dict[str, object]

ENFORCED: Final = frozenset({"json_schema", "choice"})
"""The response constraints that Vertex itself enforces."""

_MODES: Final = {Choosing.AUTO: "AUTO", Choosing.ANY: "ANY", Choosing.NONE: "NONE"}
_encoder: Final = msgspec.json.Encoder()


def chat_body(model: Model, ask: ChatAsk, place: str) -> bytes:
    """The body of streamGenerateContent; `place` is `projects/P/locations/L`, where cached contents are kept."""
    body = _prompt(model, ask.conversation)
    body["generationConfig"] = _generation(model, ask)
    guards = {**model.inputs.guards, **ask.conversation.guards}
    if guards:
        body["safetySettings"] = [
            {"category": f"HARM_CATEGORY_{harm.name}", "threshold": guard.name} for harm, guard in guards.items()
        ]
    if ask.conversation.cached_content:
        cached = model.inputs.cached[ask.conversation.cached_content]
        body["cachedContent"] = f"{place}/cachedContents/{cached.upstream_id}"
    if ask.conversation.functions:
        body["toolConfig"] = {"functionCallingConfig": _calling(ask.conversation)}
    return _encoder.encode(body)


def count_body(model: Model, conversation: Conversation) -> bytes:
    """The body of countTokens."""
    return _encoder.encode(_prompt(model, conversation))


def _prompt(model: Model, conversation: Conversation) -> JsonObject:
    # Vertex knows no ids of calls: the first result belongs to the first call, whatever the caller's order was.
    turns = [for_gemini(turn, model.thinking) for turn in in_order_of_calls(conversation.turns)]
    body: JsonObject = {"contents": [_content(turn) for turn in turns]}
    if conversation.system_instruction:
        body["systemInstruction"] = {"parts": [{"text": conversation.system_instruction}]}
    if conversation.functions:
        declared = [_declaration(function) for function in conversation.functions]
        body["tools"] = [{"functionDeclarations": declared}]
    return body


def _content(turn: Turn) -> JsonObject:
    return {"role": turn.speaker.value, "parts": [_part(part) for part in turn.parts]}


def _part(part: Part) -> JsonObject:
    match part:
        case Text():
            return _signed({"text": part.text}, part.signature)
        case Thought():
            return _signed({"text": part.text, "thought": True}, part.signature)
        case FunctionCall():
            call = {"name": part.name, "args": _json(part.arguments_json)}
            return _signed({"functionCall": call}, part.signature)
        case FunctionResult():
            return {"functionResponse": {"name": part.name, "response": _json(part.result_json)}}
        case InlineData():
            return {"inlineData": {"mimeType": part.mime_type, "data": base64.b64encode(part.data).decode()}}
        case FileData():
            return {"fileData": {"mimeType": part.mime_type, "fileUri": part.uri}}


def _signed(part: JsonObject, signature: bytes) -> JsonObject:
    if signature:
        part["thoughtSignature"] = written_geminis(signature)
    return part


def _json(text: str) -> msgspec.Raw:
    """A JSON text that `services` has read strictly, put in as it stands."""
    return msgspec.Raw(text.encode())


def _declaration(function: Function) -> JsonObject:
    declared: JsonObject = {"name": function.name, "parametersJsonSchema": _json(function.parameters_json_schema)}
    if function.description:
        declared["description"] = function.description
    return declared


def _calling(conversation: Conversation) -> JsonObject:
    calling: JsonObject = {"mode": _MODES[conversation.choosing]}
    if conversation.allowed_functions:
        calling["allowedFunctionNames"] = list(conversation.allowed_functions)
    return calling


def _generation(model: Model, ask: ChatAsk) -> JsonObject:
    generation = ask.conversation.generation
    config: JsonObject = {"maxOutputTokens": ask.max_output_tokens, "candidateCount": 1}
    chosen: JsonObject = {
        "temperature": generation.temperature,
        "topP": generation.top_p,
        "topK": generation.top_k,
        "seed": generation.seed,
        "presencePenalty": generation.presence_penalty,
        "frequencyPenalty": generation.frequency_penalty,
    }
    config.update({name: value for name, value in chosen.items() if value is not None})
    if generation.stop_sequences:
        config["stopSequences"] = list(generation.stop_sequences)
    thinking = _thinking(model.thinking, generation)
    if thinking:
        config["thinkingConfig"] = thinking
    config.update(_constraint(ask.conversation.constraint))
    return config


def _thinking(form: ThinkingForm, generation: Generation) -> JsonObject:
    thinking: JsonObject = {}
    if generation.include_thoughts:
        thinking["includeThoughts"] = True
    if generation.thinking is Thinking.UNSPECIFIED:
        return thinking
    if form is ThinkingForm.BUDGET:
        thinking["thinkingBudget"] = BUDGETS[generation.thinking]
    else:
        thinking["thinkingLevel"] = generation.thinking.value.upper()
    return thinking


def _constraint(constraint: Constraint | None) -> JsonObject:
    match constraint:
        case None:
            return {}
        case JsonSchemaConstraint():
            return {"responseMimeType": "application/json", "responseJsonSchema": _json(constraint.schema_json)}
        case ChoiceConstraint():
            return {
                "responseMimeType": "text/x.enum",
                "responseSchema": {"type": "STRING", "enum": list(constraint.texts)},
            }
        case RegexConstraint():
            # Nothing of Vertex AI's enforces one: only verified at the end, where the operator allows that.
            return {}
