"""A refunds service as an OpenAPI 3.1 document, and the tools that an operator makes of it."""

import copy
import json
from dataclasses import replace

from toolcases import CALLER, asked, nothing_counted, reserved, says

from gateway.terms.aftercare import Watched
from gateway.terms.asks import Effect, Idempotency
from gateway.terms.clock import SystemClock, SystemIds
from gateway.terms.ids import OperationId, ToolName
from gateway.terms.operations import Demand, Operation, OperationKey, State
from gateway.tools.http import HttpTools
from gateway.tools.http_config import Credential, HttpService, HttpTool
from gateway.tools.tightening import Bounds
from gateway.tools.toolbox import Toolbox

SECRET = "s3cret/with+odd=chars"
TEXT = {"type": "string", "maxLength": 80}
DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "Refunds", "version": "7"},
    "servers": [{"url": "https://never.used.example.com"}],
    "paths": {
        "/v1/refunds": {
            "post": {
                "operationId": "createRefund",
                "description": "Gives money back\nfor an order.",
                "parameters": [{"name": "Idempotency-Key", "in": "header", "schema": TEXT}],
                "requestBody": {"$ref": "#/components/requestBodies/Refund"},
                "responses": {"201": {"description": "done"}},
            },
            "get": {
                "operationId": "listRefunds",
                "summary": "Lists refunds.",
                "parameters": [
                    {"name": "page[size]", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 50}},
                    {"$ref": "#/components/parameters/States"},
                    {
                        "name": "tags",
                        "in": "query",
                        "explode": False,
                        "schema": {"type": "array", "maxItems": 3, "items": TEXT},
                    },
                    {"name": "all", "in": "query", "schema": {"type": "boolean"}},
                    {"name": "X-Trace", "in": "header", "schema": TEXT},
                    {"name": "Accept", "in": "header", "schema": TEXT},
                    {"name": "session", "in": "cookie", "schema": TEXT},
                ],
            },
        },
        "/v1/refunds/{refund_id}": {
            "parameters": [{"name": "refund_id", "in": "path", "required": True, "schema": TEXT}],
            "get": {"operationId": "getRefund", "summary": "Shows a refund."},
            "delete": {"operationId": "cancelRefund", "summary": "Takes a refund back."},
            "put": {
                "operationId": "noteRefund",
                "summary": "Writes a note.",
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Note"}}}},
            },
        },
        "/v1/references/{reference}/events": {
            "get": {
                "operationId": "refundEvents",
                "parameters": [{"name": "reference", "in": "path", "required": True, "schema": TEXT}],
            }
        },
        "/v1/references/{reference}": {
            "get": {
                "operationId": "refundOf",
                "parameters": [{"name": "reference", "in": "path", "required": True, "schema": TEXT}],
            }
        },
    },
    "components": {
        "parameters": {
            "States": {
                "name": "state",
                "in": "query",
                "schema": {"type": "array", "maxItems": 3, "items": {"type": "string", "enum": ["open", "done"]}},
            }
        },
        "requestBodies": {
            "Refund": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Refund"}}},
            }
        },
        "schemas": {
            "Refund": {
                "type": "object",
                "required": ["order", "amount"],
                "properties": {
                    "order": {"$ref": "#/components/schemas/OrderId", "description": "Which order."},
                    "amount": {"type": "string", "pattern": "^[0-9]{1,6}\\.[0-9]{2}$", "maxLength": 9},
                    "cents": {"type": "integer", "format": "int32"},
                    "note": {"type": ["string", "null"], "maxLength": 40, "default": None},
                    "reference": TEXT,
                },
            },
            "OrderId": {"type": "string", "maxLength": 36},
            "Note": {"type": "object", "properties": {"text": TEXT}, "additionalProperties": False},
        },
    },
}
REFUND = {"body": {"order": "o-1", "amount": "12.50"}}

CREATE = HttpTool(
    operation="createRefund",
    name="create_refund",
    effect=Effect.IRREVERSIBLE,
    idempotency=Idempotency.NATIVE_KEY,
    key_header="Idempotency-Key",
    cost=250_000,
)
LOOKED_UP = replace(
    CREATE,
    name="refund_by_reference",
    idempotency=Idempotency.LOOKUP,
    key_header="",
    key_member="reference",
    lookup_operation="refundOf",
    lookup_argument="reference",
)
ONCE = replace(CREATE, name="refund_once", idempotency=Idempotency.NONE, key_header="")
LIST = HttpTool(operation="listRefunds", name="list_refunds", effect=Effect.READ, idempotency=Idempotency.NATURAL)
GET = HttpTool(operation="getRefund", name="get_refund", effect=Effect.READ, idempotency=Idempotency.NATURAL)
CANCEL = HttpTool(
    operation="cancelRefund", name="cancel_refund", effect=Effect.REVERSIBLE, idempotency=Idempotency.NATURAL
)
NOTE = HttpTool(operation="noteRefund", name="note_refund", effect=Effect.REVERSIBLE)
TOOLS = (CREATE, LOOKED_UP, ONCE, LIST, GET, CANCEL, NOTE)
SERVED = replace(CALLER, tools=frozenset(ToolName(tool.name) for tool in TOOLS))


def document(*changes):
    """The document, with `(path of keys, value)` put in."""
    changed = copy.deepcopy(DOCUMENT)
    for keys, value in changes:
        place = changed
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
    return json.dumps(changed).encode()


def service(url="https://refunds.example.com", **changed):
    """The service on this machine."""
    plain = HttpService(
        name="refunds",
        origin=url,
        document=document(),
        tools=TOOLS,
        networks=("127.0.0.0/8",),
        credentials=(Credential(header="X-Api-Key", secret=SECRET), Credential(query="token", secret="second-secret")),
        call_key=b"k" * 32,
        bounds=Bounds(),
    )
    return replace(plain, **changed)


def offered(**changed):
    """The tools of a service by name, without any connection."""
    return {tool.name: tool for tool in HttpTools(service(**changed), SystemClock()).declarations}


def toolbox_of(backend):
    return Toolbox([backend], SystemIds())


def status(code, words="no such order"):
    return says({"detail": words}, code)


async def act(tools, tool, arguments, key="key-1"):
    ask = asked(tools, tool, arguments, key, SERVED)
    demand = tools.demand(SERVED, ask, await tools.facts(SERVED, ask, nothing_counted))
    assert isinstance(demand, Demand), demand
    return await tools.execute(reserved(ask, demand.claims, SERVED))


def watched(tools, ask, memo, age_ms):
    """The operation of this call as the ledger gives it out, created so long ago."""
    key = OperationKey(tenant=SERVED.tenant, principal=SERVED.principal, tool=ask.name, key=ask.key)
    operation = Operation(
        id=OperationId("op-1"),
        key=key,
        version=ask.tool.version,
        fingerprint=ask.digest,
        state=State.RECONCILING,
        result=b"",
        failure=None,
        rules=(),
        policy_hash="",
        intent=reserved(ask).intent,
        outcome=None,
        created_unix_us=SystemClock().unix_us() - age_ms * 1_000,
        lease_until_unix_us=0,
    )
    return Watched(operation=operation, memo=memo, held=(), looks=0, withdraw=False, fence=2)
