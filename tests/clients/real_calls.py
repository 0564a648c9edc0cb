"""What every client is asked to do, and what it must have heard: one streamed chat, one order, one refused order."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.json_format import MessageToDict, ParseDict
from google.rpc import error_details_pb2

ROOT = Path(__file__).resolve().parents[2]
CHAT = "agentic.gateway.v1.ModelService/Chat"
EXECUTE = "agentic.gateway.v1.ToolService/ExecuteTool"
DEADLINE_S = 20
DELTAS = 3
ERROR_INFO = "google.rpc.ErrorInfo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What one client does. Requests are in canonical JSON; the client turns them into what it sends."""

    target: str
    token: str
    name: str
    """Makes the keys of this client its own."""

    @property
    def url(self):
        return f"http://{self.target}"

    @property
    def authorization(self):
        return f"Bearer {self.token}"

    @property
    def chat(self):
        text = f"@pace deltas={DELTAS} interval_ms=1\nHello"
        contents = [{"role": "ROLE_USER", "parts": [{"text": text}]}]
        return {"model": "flash", "contents": contents, "runId": self.name}

    def order(self, quantity, purpose):
        arguments = {"symbol": "AAPL", "side": "buy", "type": "market", "quantity": quantity, "time_in_force": "day"}
        key = f"{self.name}-{purpose}"
        text = json.dumps(arguments)
        return {"tool": "place_order", "argumentsJson": text, "idempotencyKey": key, "runId": self.name}

    @property
    def small_order(self):
        return self.order("1", "small")

    @property
    def great_order(self):
        """More than the agent may spend on one order."""
        return self.order("80", "great")

    def as_json(self, **more):
        """For a client that is a program of its own."""
        own = {"target": self.target, "authorization": self.authorization, "timeoutMs": DEADLINE_S * 1000}
        calls = {"chat": self.chat, "smallOrder": self.small_order, "greatOrder": self.great_order}
        return json.dumps({**own, **calls, **more}).encode()


@dataclass(slots=True, kw_only=True)
class Heard:
    """What a client heard, in canonical JSON."""

    events: list[dict] = field(default_factory=list)
    operation: dict = field(default_factory=dict)
    code: str = ""
    """The code of the refusal by its name, such as permission_denied."""
    error_info: dict = field(default_factory=dict)


class Contract:
    """The contract's message classes of google.protobuf, made at run time from the descriptors."""

    def __init__(self):
        files = descriptor_pb2.FileDescriptorSet.FromString((ROOT / "generated" / "descriptors.bin").read_bytes())
        self._pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            self._pool.Add(file)

    def kind(self, name):
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(f"agentic.gateway.v1.{name}"))

    def request(self, name, content):
        return ParseDict(content, self.kind(name)())


def error_info(content):
    """Canonical JSON of an ErrorInfo's bytes."""
    return MessageToDict(error_details_pb2.ErrorInfo.FromString(content))


def judge(heard):
    """The chat was whole and in order, the small order was filled, the great one refused, with the reason."""
    assert [int(event["sequence"]) for event in heard.events] == list(range(1, len(heard.events) + 1))
    assert len([event for event in heard.events if event.get("text", {}).get("text")]) == DELTAS
    finish = heard.events[-1]["finish"]
    assert finish["reason"] == "FINISH_REASON_STOP"
    assert finish["decision"]["verdict"] == "VERDICT_PERMITTED"
    assert finish["outcome"]["leafHash"]
    assert heard.operation["state"] == "OPERATION_STATE_SUCCEEDED"
    assert not heard.operation.get("replayed")
    result = json.loads(heard.operation["resultJson"])
    assert (result["symbol"], result["status"]) == ("AAPL", "filled")
    assert heard.code == "permission_denied"
    assert heard.error_info["reason"] == "limit.notional"
    assert heard.error_info["domain"] == "agentic.gateway"
    assert heard.error_info["metadata"]["rules"] == "limit.notional"
