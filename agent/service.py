"""The agent's own service: a prompt comes in over HTTP, and what happens goes out as it happens.

    POST /ask  {"prompt": "...", "run_id": "..."}  ->  application/x-ndjson, one JSON object a line

Lines are `text`, `tool_call`, `tool_result`, `finish`, and `error` as the last one of a run that did not end well.
`again` says that the model's answer broke off and is given anew: what was told since the last `finish` is void, but
what tools did is done, and is told again. Who leaves ends the run. `run_id` may be left out; see `agent.loop` for what
it means to use one twice.

Its callers are the agent's users; who they are is for the edge before this service to check.
"""

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from agent.client.errors import GatewayError
from agent.lines import encoded, failure, line, stopped
from agent.loop import Agent, TurnsExceededError
from agent.runs import FullError, Runs, StoppedError
from agent.strict_json import json_object
from agent.tokens import TokenError

BODY_BYTES_MAX: Final = 256 * 1024
RUN_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
FIELDS: Final = frozenset({"prompt", "run_id"})
_LOG: Final = logging.getLogger("agent.service")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long the service waits. Seconds."""

    body_s: float = 10.0
    """For a question to arrive."""
    write_s: float = 30.0
    """For a user to take a line; who does not read for so long has left."""
    grace_s: float = 7.0
    """For runs to end by themselves when the process ends: Cloud Run gives it ten seconds in all."""
    end_s: float = 1.0
    """For runs that are ended then to say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    prompt: str
    run_id: str


class _NotTakenError(Exception):
    """A question that is not worked on: HTTP status, and why."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Answers the agent's users."""

    agent: Agent
    bounds: Bounds = Bounds()
    runs: Runs = field(default_factory=Runs)

    def runner(self) -> web.AppRunner:
        """The service, ready to be given a socket. Its clean-up lets runs come to their end, within the bounds."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_post("/ask", self._ask)
        app.router.add_get("/healthz", self._healthy)
        app.on_shutdown.append(self._stop)
        # Without `handler_cancellation`, a user who leaves is noticed when the next line is written, not before.
        return web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=self.bounds.end_s)

    async def _stop(self, _: web.Application) -> None:
        await self.runs.stop(self.bounds.grace_s, self.bounds.end_s)

    async def _healthy(self, _: web.Request) -> web.Response:
        status = "stopping" if self.runs.stopping else "ok"
        return web.json_response({"status": status}, status=503 if self.runs.stopping else 200)

    async def _ask(self, request: web.Request) -> web.StreamResponse:
        try:
            question = await self._received(request)
            return await self._replied(request, question)
        except _NotTakenError as error:
            told = encoded({"error": error.sentence})
            return web.Response(status=error.status, body=told, content_type="application/json")

    async def _received(self, request: web.Request) -> _Question:
        try:
            async with asyncio.timeout(self.bounds.body_s):
                return _question(await request.read())
        except ValueError as error:
            raise _NotTakenError(400, str(error)) from None
        except web.HTTPRequestEntityTooLarge:
            raise _NotTakenError(413, f"a question has at most {BODY_BYTES_MAX} bytes") from None
        except TimeoutError:
            raise _NotTakenError(408, "the question did not arrive in time") from None

    async def _replied(self, request: web.Request, question: _Question) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
        try:
            async with self.runs.place():
                await reply.prepare(request)
                await self._tell(question, reply)
        except FullError as error:
            raise _NotTakenError(503, str(error)) from None
        except StoppedError as error:
            if not reply.prepared:
                raise _NotTakenError(503, str(error)) from None
            await reply.write(stopped("agent.stopped", str(error)))
        except (ConnectionError, TimeoutError):
            # The user has left, or reads nothing any more: there is nobody to tell.
            if request.transport is not None:
                request.transport.abort()
            return reply
        await reply.write_eof()
        return reply

    async def _tell(self, question: _Question, reply: web.StreamResponse) -> None:
        async with aclosing(self._answer(question)) as lines:
            async for written in lines:
                async with asyncio.timeout(self.bounds.write_s):
                    await reply.write(written)

    async def _answer(self, question: _Question) -> AsyncGenerator[bytes, None]:
        """The lines of a run; whatever goes wrong inside is its last line, and no more than its users may know."""
        try:
            async with aclosing(self.agent.run(question.prompt, question.run_id)) as heard:
                async for event in heard:
                    yield line(event)
        except GatewayError as error:
            yield failure(error)
        except TokenError as error:
            yield stopped("agent.no_token", str(error))
        except TurnsExceededError as error:
            yield stopped("agent.turns_exceeded", str(error))
        except Exception:  # noqa: BLE001 - logged whole, and not shown
            _LOG.exception("run.failed", extra={"fields": {"run_id": question.run_id}})
            yield stopped(
                "agent.internal", f"internal error; quote run {question.run_id} to the operator of this agent"
            )


def _question(body: bytes) -> _Question:
    told = json_object(body)
    unknown = sorted(told.keys() - FIELDS)
    if unknown:
        raise ValueError(f"there is no field {unknown[0]!r}; send prompt, and run_id if you like")
    prompt, run_id = told.get("prompt"), told.get("run_id", f"run-{secrets.token_hex(8)}")
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError('send {"prompt": "..."} with some text')
    if not isinstance(run_id, str) or not RUN_ID.fullmatch(run_id):
        raise ValueError("run_id: use 1 to 64 characters of A-Z a-z 0-9 _ . : -")
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise ValueError("prompt: half of a surrogate pair is no text") from None
    return _Question(prompt=prompt, run_id=run_id)
