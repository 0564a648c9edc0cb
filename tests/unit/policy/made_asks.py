"""Callers, tools and asks for the policy's tests, and policies out of a few lines of Cedar."""

import json
from types import MappingProxyType

from gateway.policy.cedar import CedarPolicy
from gateway.policy.rule_set import PolicyFile
from gateway.policy.schema import PolicyInputs
from gateway.terms.asks import (
    ChatAsk,
    CountAsk,
    Effect,
    Idempotency,
    ReadAsk,
    ToolAsk,
    ToolDeclaration,
    tool_digest,
)
from gateway.terms.caller import Caller
from gateway.terms.conversation import Conversation, Function
from gateway.terms.ids import (
    AgentName,
    IdempotencyKey,
    ModelName,
    OperationId,
    Principal,
    RunId,
    TeamName,
    TenantName,
    ToolName,
)
from gateway.terms.strict_json import frozen, strict_object


def tool(name="pay", properties=None, *, effect=Effect.IRREVERSIBLE, version="1", **schema):
    """A tool whose schema is exactly what is given, linted by nobody."""
    given = {"type": "object", "additionalProperties": False, "properties": properties or {}} | schema
    return ToolDeclaration(
        name=ToolName(name),
        version=version,
        description="",
        arguments_schema=json.dumps(given),
        effect=effect,
        idempotency=Idempotency.NONE,
        timeout_ms=1000,
        redacted=frozenset(),
        hash="",
    )


PAY = tool(
    properties={
        "to": {"type": "string"},
        "amount": {"type": "integer"},
        "urgent": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "place": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
    required=["to"],
)
LOOK = tool("look", effect=Effect.READ)
INPUTS = PolicyInputs(tools=(PAY, LOOK), facts={ToolName("pay"): {"worth": int, "known": bool, "region": str}})
FACTS = MappingProxyType({"worth": 5, "known": True, "region": "eu"})


def caller(**changes):
    given = {
        "principal": Principal("100"),
        "email": "a@demo.iam.gserviceaccount.com",
        "agent": AgentName("payer"),
        "team": TeamName("desk"),
        "tenant": TenantName("demo"),
        "role": "clerk",
        "models": frozenset({ModelName("gemini")}),
        "tools": frozenset({ToolName("pay"), ToolName("look")}),
        "budgets": (),
        "limits": None,
    }
    return Caller(**(given | changes))


def tool_ask(arguments='{"to": "bob"}', declaration=PAY):
    """An ask over these JSON arguments, read strictly as the tools station reads them."""
    data = arguments.encode()
    return ToolAsk(
        tool=declaration,
        arguments_bytes=data,
        arguments={name: frozen(value) for name, value in strict_object(data, size_max=65536).items()},
        key=IdempotencyKey("k"),
        run=RunId(""),
        digest=tool_digest(declaration.name, declaration.version, data),
    )


def chat_ask(model="gemini", functions=("look",)):
    made = tuple(Function(name=name, description="", parameters_json_schema="{}") for name in functions)
    return ChatAsk(
        model=ModelName(model),
        conversation=Conversation(system_instruction="", turns=(), functions=made),
        max_output_tokens=100,
        input_tokens_bound=200,
        run=RunId(""),
        digest=b"",
    )


def count_ask(model="gemini"):
    conversation = Conversation(system_instruction="", turns=())
    return CountAsk(model=ModelName(model), conversation=conversation, digest=b"")


def read_ask(what="list_tools"):
    return ReadAsk(what=what, operation=OperationId(""))


def policy(text, inputs=INPUTS):
    """The rules of one file, validated."""
    return CedarPolicy.compile((PolicyFile(name="rules.cedar", text=text),), inputs)


ANYTHING = '@id("anything") permit (principal, action, resource);'
