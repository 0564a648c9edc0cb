"""The user of the agent: asks its service over HTTP and hears what happens as it happens."""

import json
from dataclasses import dataclass, field
from typing import cast

from localcloud.demo.eyes import Eyes
from localcloud.demo.scene import Json, Stopwatch


@dataclass(slots=True, kw_only=True)
class Heard:
    """All lines of one answer, and when the words came."""

    lines: list[Json] = field(default_factory=list)
    first_text_ms: float = 0.0
    last_text_ms: float = 0.0

    @property
    def text(self) -> str:
        """All words together."""
        return "".join(str(line["text"]) for line in self.lines if "text" in line)

    @property
    def deltas(self) -> int:
        """How many pieces the words came in."""
        return sum("text" in line for line in self.lines)

    def named(self, kind: str) -> list[Json]:
        """The lines of a kind: `tool_call`, `tool_result`, `finish`, `error`."""
        return [cast(Json, line[kind]) for line in self.lines if kind in line]


async def asked(eyes: Eyes, prompt: str, run_id: str) -> Heard:
    """Ask the agent and listen to the end."""
    agent = eyes.town.agent
    if agent is None:
        raise ValueError("this town has no agent")
    heard, watch = Heard(), Stopwatch()
    async with eyes.session.post(agent.told("url") + "/ask", json={"prompt": prompt, "run_id": run_id}) as reply:
        reply.raise_for_status()
        async for line in reply.content:
            told: Json = json.loads(line)
            if "text" in told:
                heard.last_text_ms = watch.ms()
                heard.first_text_ms = heard.first_text_ms or heard.last_text_ms
            heard.lines.append(told)
    return heard
