"""The names of things: one type for each kind of name, so that they cannot be mixed up."""

import re
from typing import Final, NewType

RequestId = NewType("RequestId", str)
"""One attempt of a caller, also if it is refused. Chosen by the gateway."""

OperationId = NewType("OperationId", str)
"""One admitted call: it has one intent and one outcome."""

RunId = NewType("RunId", str)
"""One task of an agent, over many calls. Chosen by the agent, or empty."""

Principal = NewType("Principal", str)
"""The `sub` of a verified token: a stable number, never reused."""

AgentName = NewType("AgentName", str)
OperatorName = NewType("OperatorName", str)
TeamName = NewType("TeamName", str)
TenantName = NewType("TenantName", str)
ToolName = NewType("ToolName", str)
ModelName = NewType("ModelName", str)
RuleId = NewType("RuleId", str)
IdempotencyKey = NewType("IdempotencyKey", str)

InstanceId = NewType("InstanceId", str)
"""A gateway process's host for its records; survives restarts where the disk does."""

BootId = NewType("BootId", str)
"""One start of a gateway process."""

RUN_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
TOOL_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
OPERATION_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
"""Matched with `fullmatch` only: `$` would accept a trailing newline."""
