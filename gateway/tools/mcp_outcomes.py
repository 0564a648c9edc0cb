"""What an answer of an MCP server says about an effect.

Errors of JSON-RPC that come before a tool is run are definite. `isError` says that the tool ran into an error, and MCP
has no word for whether that was before its effect or after: servers tell wrong arguments and a timeout of what they
call the same way. So for a tool with an effect it is no proof that nothing happened, and neither is a question back,
unless the operator says of the tool that it is (`errors_are_final`). All other errors, and a lost reply, never are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.terms.asks import Effect, ToolDeclaration
from gateway.terms.money import Unit
from gateway.terms.operations import Failed, Failure, Outcome, Unknown
from gateway.terms.strict_json import JsonValue
from gateway.tools.http_outcomes import REPLY_LOST, UNREADABLE, charges_of, indefinite, not_sent, succeeded
from gateway.tools.mcp_config import McpTool
from gateway.tools.mcp_wire import Garbled, HttpFailed, Replied, Reply, RpcFailed
from gateway.tools.roundtrip import NoAnswer
from gateway.tools.words import harmless, scrubbed

_BEFORE_THE_TOOL: Final = frozenset({-32700, -32600, -32601, -32602, -32020, -32021, -32022})
"""Parse error, invalid request, no such method, invalid params, and what the protocol of 2026-07-28 adds of headers,
capabilities and versions."""
_INDEFINITE: Final = frozenset({408, 425, 499})
_NO_PROOF: Final = "Nobody knows whether something of it happened before."

Charges = tuple[tuple[Unit, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class McpAnswers:
    """Reads the answers of one server."""

    server: str
    secrets: tuple[str, ...]

    def outcome(self, tool: ToolDeclaration, said: McpTool, reply: Reply) -> Outcome:
        """What a reply to a call of this tool says about its effect; `said` is what the operator says of the tool."""
        charges = charges_of(said.cost)
        if isinstance(reply, NoAnswer):
            return not_sent(reply) or indefinite(tool, charges, REPLY_LOST)
        if isinstance(reply, Replied):
            final = said.errors_are_final or tool.effect is Effect.READ
            return _as_final(self._replied(tool, charges, reply.result), final=final)
        lost = UNREADABLE if isinstance(reply, Garbled) else REPLY_LOST
        return self._definite(reply, charges) or indefinite(tool, charges, lost)

    def _definite(self, reply: RpcFailed | HttpFailed | Garbled, charges: Charges) -> Failed | None:
        """The failure of a call that the server refused before it ran the tool; None where nobody can say."""
        match reply:
            case RpcFailed(code=code) if code in _BEFORE_THE_TOOL:
                return _failed("tool.refused", f"The server refused ({code})", self._harmless(reply.message), charges)
            case HttpFailed(status=404):
                message = "The server has no such session any more; nothing happened. Call again with another key."
                return Failed(failure=Failure(reason="upstream.session_lost", message=message), charges=charges)
            case HttpFailed(status=status) if 400 <= status < 500 and status not in _INDEFINITE:
                return _failed("service.refused", f"The server refused ({status})", "", charges)
        return None

    def _replied(self, tool: ToolDeclaration, charges: Charges, result: Mapping[str, JsonValue]) -> Outcome:
        if result.get("resultType", "complete") == "input_required":
            message = "The tool asks for more than its arguments, which this gateway does not give; it did not end."
            return Failed(failure=Failure(reason="tool.needs_input", message=message), charges=charges)
        content, told = result.get("content"), result.get("isError", False)
        if (
            result.get("resultType", "complete") != "complete"
            or not isinstance(content, list)
            or type(told) is not bool
        ):
            return indefinite(tool, charges, UNREADABLE)
        shown = [_block(block) for block in content]
        if told:
            words = " ".join(str(block["text"]) for block in shown if "text" in block)
            return _failed("tool.error", "The tool failed", self._harmless(words), charges)
        members: dict[str, JsonValue] = {"server": self.server, "content": [*shown]}
        if isinstance(structured := result.get("structuredContent"), dict):
            members["structured"] = structured
        return succeeded(tool, charges, scrubbed(members, self.secrets))

    def _harmless(self, text: str) -> str:
        return harmless(text, self.secrets)


def _as_final(outcome: Outcome, *, final: bool) -> Outcome:
    """What the tool itself says in the way of a failure counts as one only where that is final."""
    if final or not isinstance(outcome, Failed):
        return outcome
    failure = outcome.failure
    return Unknown(failure=Failure(reason=failure.reason, message=f"{_NO_PROOF} {failure.message}"))


def _block(block: JsonValue) -> dict[str, JsonValue]:
    """A block of content: a text as it is, of anything else only that it was there."""
    members = block if isinstance(block, dict) else {}
    kind = members.get("type")
    if kind == "text" and isinstance(text := members.get("text"), str):
        return {"type": "text", "text": text}
    return {"type": kind[:32] if isinstance(kind, str) else "unknown", "omitted": True}


def _failed(reason: str, told: str, words: str, charges: Charges) -> Failed:
    return Failed(failure=Failure(reason=reason, message=f"{told}: {words}" if words else f"{told}."), charges=charges)
