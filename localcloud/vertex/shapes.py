"""The request messages of Vertex AI v1 as tables: which members exist, of which type, and which exclude each other.

Source: the public protos of google.cloud.aiplatform.v1; the contract tests compare these tables with the vendor's own
descriptors. A type is a scalar's name, `enum:NAME`, `map` (string to string), `struct` (a JSON object), `value` (any
JSON), `opaque` (a message that the double knows by name only and refuses to act on) or the name of another table;
`[]` marks a repeated member.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One member: its lowerCamelCase name, its original proto name, its type without `[]`, and its oneof, if any."""

    name: str
    proto_name: str
    type: str
    repeated: bool
    oneof: str


ENUMS: dict[str, tuple[str, ...]] = {
    "Type": ("TYPE_UNSPECIFIED", "STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT"),
    "Mode": ("MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED:5"),
    "HarmCategory": (
        "HARM_CATEGORY_UNSPECIFIED",
        "HARM_CATEGORY_HATE_SPEECH",
        "HARM_CATEGORY_DANGEROUS_CONTENT",
        "HARM_CATEGORY_HARASSMENT",
        "HARM_CATEGORY_SEXUALLY_EXPLICIT",
        "HARM_CATEGORY_CIVIC_INTEGRITY",
        "HARM_CATEGORY_JAILBREAK",
    ),
    "HarmBlockThreshold": (
        "HARM_BLOCK_THRESHOLD_UNSPECIFIED",
        "BLOCK_LOW_AND_ABOVE",
        "BLOCK_MEDIUM_AND_ABOVE",
        "BLOCK_ONLY_HIGH",
        "BLOCK_NONE",
        "OFF",
    ),
    "HarmBlockMethod": ("HARM_BLOCK_METHOD_UNSPECIFIED", "SEVERITY", "PROBABILITY"),
    "Modality": ("MODALITY_UNSPECIFIED", "TEXT", "IMAGE", "AUDIO"),
    "MediaResolution": (
        "MEDIA_RESOLUTION_UNSPECIFIED",
        "MEDIA_RESOLUTION_LOW",
        "MEDIA_RESOLUTION_MEDIUM",
        "MEDIA_RESOLUTION_HIGH",
    ),
    "ThinkingLevel": ("THINKING_LEVEL_UNSPECIFIED", "LOW", "MEDIUM", "HIGH", "MINIMAL"),
    "Language": ("LANGUAGE_UNSPECIFIED", "PYTHON"),
    "Outcome": ("OUTCOME_UNSPECIFIED", "OUTCOME_OK", "OUTCOME_FAILED", "OUTCOME_DEADLINE_EXCEEDED"),
    # Of answers only; needed where a client asks for numbers (`$alt=json;enum-encoding=int`).
    "FinishReason": (
        "FINISH_REASON_UNSPECIFIED",
        "STOP",
        "MAX_TOKENS",
        "SAFETY",
        "RECITATION",
        "OTHER",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "MALFORMED_FUNCTION_CALL",
        "MODEL_ARMOR",
    ),
    "BlockedReason": (
        "BLOCKED_REASON_UNSPECIFIED",
        "SAFETY",
        "OTHER",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "MODEL_ARMOR",
        "JAILBREAK",
    ),
    "HarmProbability": ("HARM_PROBABILITY_UNSPECIFIED", "NEGLIGIBLE", "LOW", "MEDIUM", "HIGH"),
    "ContentModality": ("MODALITY_UNSPECIFIED", "TEXT", "IMAGE", "VIDEO", "AUDIO", "DOCUMENT"),
    "TrafficType": (
        "TRAFFIC_TYPE_UNSPECIFIED",
        "ON_DEMAND",
        "PROVISIONED_THROUGHPUT",
        "ON_DEMAND_PRIORITY",
        "ON_DEMAND_FLEX",
    ),
}

MESSAGES: dict[str, dict[str, str]] = {
    "GenerateContentRequest": {
        "model": "string",
        "contents": "Content[]",
        "systemInstruction": "Content",
        "cachedContent": "string",
        "tools": "Tool[]",
        "toolConfig": "ToolConfig",
        "labels": "map",
        "safetySettings": "SafetySetting[]",
        "modelArmorConfig": "opaque",
        "generationConfig": "GenerationConfig",
    },
    "CountTokensRequest": {
        "endpoint": "string",
        "model": "string",
        "instances": "value[]",
        "contents": "Content[]",
        "systemInstruction": "Content",
        "tools": "Tool[]",
        "generationConfig": "GenerationConfig",
    },
    "Content": {"role": "string", "parts": "Part[]"},
    "Part": {
        "text": "string",
        "inlineData": "Blob",
        "fileData": "FileData",
        "functionCall": "FunctionCall",
        "functionResponse": "FunctionResponse",
        "executableCode": "ExecutableCode",
        "codeExecutionResult": "CodeExecutionResult",
        "thought": "bool",
        "thoughtSignature": "bytes",
        "videoMetadata": "opaque",
        "mediaResolution": "opaque",
    },
    "Blob": {"mimeType": "string", "data": "bytes"},
    "FileData": {"mimeType": "string", "fileUri": "string"},
    "FunctionCall": {"name": "string", "args": "struct", "partialArgs": "opaque[]", "willContinue": "bool"},
    "FunctionResponse": {"name": "string", "response": "struct", "parts": "opaque[]"},
    "ExecutableCode": {"language": "enum:Language", "code": "string"},
    "CodeExecutionResult": {"outcome": "enum:Outcome", "output": "string"},
    "Tool": {
        "functionDeclarations": "FunctionDeclaration[]",
        "retrieval": "opaque",
        "googleSearch": "opaque",
        "googleSearchRetrieval": "opaque",
        "googleMaps": "opaque",
        "enterpriseWebSearch": "opaque",
        "parallelAiSearch": "opaque",
        "exaAiSearch": "opaque",
        "codeExecution": "opaque",
        "urlContext": "opaque",
        "computerUse": "opaque",
    },
    "FunctionDeclaration": {
        "name": "string",
        "description": "string",
        "parameters": "Schema",
        "parametersJsonSchema": "value",
        "response": "Schema",
        "responseJsonSchema": "value",
    },
    "Schema": {
        "type": "enum:Type",
        "format": "string",
        "title": "string",
        "description": "string",
        "nullable": "bool",
        "default": "value",
        "items": "Schema",
        "minItems": "int64",
        "maxItems": "int64",
        "enum": "string[]",
        "properties": "map:Schema",
        "propertyOrdering": "string[]",
        "required": "string[]",
        "minProperties": "int64",
        "maxProperties": "int64",
        "minimum": "number",
        "maximum": "number",
        "minLength": "int64",
        "maxLength": "int64",
        "pattern": "string",
        "example": "value",
        "anyOf": "Schema[]",
        "additionalProperties": "value",
        "ref": "string",
        "defs": "map:Schema",
    },
    "ToolConfig": {"functionCallingConfig": "FunctionCallingConfig", "retrievalConfig": "opaque"},
    "FunctionCallingConfig": {
        "mode": "enum:Mode",
        "allowedFunctionNames": "string[]",
        "streamFunctionCallArguments": "bool",
    },
    "SafetySetting": {
        "category": "enum:HarmCategory",
        "threshold": "enum:HarmBlockThreshold",
        "method": "enum:HarmBlockMethod",
    },
    "GenerationConfig": {
        "temperature": "number",
        "topP": "number",
        "topK": "number",
        "candidateCount": "int32",
        "maxOutputTokens": "int32",
        "stopSequences": "string[]",
        "responseLogprobs": "bool",
        "logprobs": "int32",
        "presencePenalty": "number",
        "frequencyPenalty": "number",
        "seed": "int32",
        "responseMimeType": "string",
        "responseSchema": "Schema",
        "responseJsonSchema": "value",
        "routingConfig": "opaque",
        "audioTimestamp": "bool",
        "responseModalities": "enum:Modality[]",
        "mediaResolution": "enum:MediaResolution",
        "speechConfig": "opaque",
        "thinkingConfig": "ThinkingConfig",
        "imageConfig": "opaque",
    },
    "ThinkingConfig": {
        "includeThoughts": "bool",
        "thinkingBudget": "int32",
        "thinkingLevel": "enum:ThinkingLevel",
    },
}

# Members that v1beta1 has and v1 has not.
BETA: dict[str, dict[str, str]] = {"FunctionCall": {"id": "string"}, "FunctionResponse": {"id": "string"}}

PART_DATA = (
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
)
ONEOFS: dict[str, dict[str, str]] = {"Part": dict.fromkeys(PART_DATA, "data")}

# JSON Schema's own spelling of two members of Schema.
ALIASES = {"Schema": {"$ref": "ref", "$defs": "defs"}}


def snake_case(name: str) -> str:
    """The original proto name of a lowerCamelCase member."""
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name)


def _table(message: str, members: dict[str, str]) -> dict[str, Field]:
    oneofs = ONEOFS.get(message, {})
    table: dict[str, Field] = {}
    for name, declared in members.items():
        field = Field(
            name=name,
            proto_name=snake_case(name),
            type=declared.removesuffix("[]"),
            repeated=declared.endswith("[]"),
            oneof=oneofs.get(name, ""),
        )
        table[name] = table[field.proto_name] = field
    for alias, name in ALIASES.get(message, {}).items():
        table[alias] = table[name]
    return table


# Version -> message -> accepted member name (both spellings) -> Field.
TABLES: dict[str, dict[str, dict[str, Field]]] = {
    "v1": {message: _table(message, members) for message, members in MESSAGES.items()},
    "v1beta1": {message: _table(message, members | BETA.get(message, {})) for message, members in MESSAGES.items()},
}


def _numbers(names: tuple[str, ...]) -> dict[str, int]:
    numbered: dict[str, int] = {}
    for position, entry in enumerate(names):
        name, _, explicit = entry.partition(":")
        numbered[name] = int(explicit) if explicit else position
    return numbered


# Enum -> value's name -> its number. Numbers count from 0 unless the name carries its own after a colon.
ENUM_NUMBERS: dict[str, dict[str, int]] = {enum: _numbers(names) for enum, names in ENUMS.items()}
ENUM_NAMES: dict[str, dict[int, str]] = {
    enum: {value: name for name, value in numbers.items()} for enum, numbers in ENUM_NUMBERS.items()
}
