"""The server itself: chat/completions, models and vLLM's tokenize on one loopback port, faults on another."""

import asyncio
import logging
import math
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import msgspec
from aiohttp import web

from localcloud.compatible.events import Completion, stream_chunks, whole_completion
from localcloud.compatible.reading import Reading, read_chat, read_tokenize
from localcloud.compatible.wire import COMPATIBLE, error_document
from localcloud.vertex.admin import admin_application
from localcloud.vertex.answer import Model
from localcloud.vertex.config import Pace
from localcloud.vertex.directives import read_directives
from localcloud.vertex.errors import ApiError
from localcloud.vertex.faults import Fault, FaultPlan
from localcloud.vertex.journal import BROKEN, CLIENT_LEFT, COMPLETE, FAULT, REFUSED, SHUTDOWN, Entry, Journal
from localcloud.vertex.player import answer_whole, play, reset
from localcloud.vertex.script import Ending, Script, spoil
from localcloud.vertex.usage import PrefixCache, measure

LOG = logging.getLogger(__name__)
SLOW_MS = 1000
SHUTDOWN_SECONDS = 0.2
BACKLOG = 1024
NATURAL = Pace()
METHODS = {"/v1/chat/completions": "chatCompletions", "/tokenize": "tokenize"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CompatibleConfig:
    """The server's settings. `keys`: the API keys that it takes; none means that it asks for none."""

    host: str = "127.0.0.1"
    port: int = 0
    admin_port: int = 0
    seed: int = 1
    models: tuple[str, ...] = ("llama-4-maverick", "gpt-oss-120b")
    keys: frozenset[str] = frozenset()
    pace: Pace = NATURAL
    tells_usage: bool = True
    """Whether it knows `stream_options`; older servers pass over it."""
    cache_from: int = 1024
    max_body_bytes: int = 32 * 1024 * 1024
    journal_size: int = 1000


class CompatibleDouble:
    """A running server: `async with CompatibleDouble(config) as server`, then `server.url`, which ends in `/v1`."""

    def __init__(self, config: CompatibleConfig = CompatibleConfig()) -> None:
        """Take the configuration."""
        self.config = config
        self.faults = FaultPlan()
        self.journal = Journal(config.journal_size)
        self.url = ""
        self.admin_url = ""
        self._model = Model(config.seed)
        self._cache = PrefixCache(config.cache_from)
        self._stopping = False
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Bind both ports; OSError if one cannot be had."""
        async with AsyncExitStack() as stack:
            application = web.Application(client_max_size=self.config.max_body_bytes)
            application.router.add_route("*", "/{path:.*}", self._handle)
            self.url = await self._listen(stack, application, self.config.port) + "/v1"
            admin = admin_application(self.faults, self.journal)
            self.admin_url = await self._listen(stack, admin, self.config.admin_port)
            stack.callback(setattr, self, "_stopping", True)  # noqa: FBT003 - setattr's own signature
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close both ports; streams that are still open are cut after a moment."""
        await self._stack.__aexit__(kind, fault, trace)

    async def _listen(self, stack: AsyncExitStack, application: web.Application, port: int) -> str:
        # See `localcloud.vertex.server`: a client that leaves cancels its request's task at once.
        runner = web.AppRunner(
            application, handler_cancellation=True, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, self.config.host, port, backlog=BACKLOG).start()
        host, bound = runner.addresses[0][:2]
        return f"http://{host}:{bound}"

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, and note in the journal how it ended, whatever the ending."""
        authorization = request.headers.get("Authorization", "")
        entry = self.journal.open(request.method, request.path, authorization=bool(authorization))
        try:
            response = await self._answer(request, authorization, entry)
        except ApiError as error:
            entry.status = error.code
            self.journal.close(entry, FAULT if entry.fault else REFUSED)
            return _refusal(error)
        except asyncio.CancelledError:
            self.journal.close(entry, SHUTDOWN if self._stopping else CLIENT_LEFT)
            raise
        except ConnectionError:
            self.journal.close(entry, CLIENT_LEFT)
            raise
        except Exception:
            # A defect of the double must neither leave an open entry behind nor show its traceback to a caller.
            LOG.exception("a request could not be answered")
            self.journal.close(entry, BROKEN)
            return _refusal(ApiError(500, "Internal server error"))
        entry.status = response.status
        self.journal.close(entry, COMPLETE)
        return response

    async def _answer(self, request: web.Request, authorization: str, entry: Entry) -> web.StreamResponse:
        scheme, _, key = authorization.partition(" ")
        if self.config.keys and (scheme.lower() != "bearer" or key not in self.config.keys):
            raise ApiError(401, "Incorrect API key provided.")
        if (request.method, request.path) == ("GET", "/v1/models"):
            listed = [{"id": name, "object": "model", "created": 0, "owned_by": "local"} for name in self.config.models]
            return web.json_response({"object": "list", "data": listed})
        method = METHODS.get(request.path)
        if method is None or request.method != "POST":
            raise ApiError(404, "Not Found")
        fault = self.faults.claim(method, "")
        if fault is not None:
            entry.fault = fault.kind
            await self._before(request, fault, entry)
        body = await request.read()
        entry.body_bytes = len(body)
        if method == "tokenize":
            return await self._tokenize(request, body, entry, fault)
        return await self._chat(request, read_chat(body, self._model.seal), entry, fault)

    async def _before(self, request: web.Request, fault: Fault, entry: Entry) -> None:
        """Faults that strike before the call is looked at."""
        if fault.kind == "status":
            raise fault.error()
        if fault.kind == "slow_first_byte":
            await asyncio.sleep((SLOW_MS if fault.params.ms is None else fault.params.ms) / 1000)
        if fault.kind == "reset_before":
            self.journal.close(entry, FAULT)
            reset(request)
            raise ConnectionResetError("reset by a fault")

    async def _tokenize(
        self, request: web.Request, body: bytes, entry: Entry, fault: Fault | None
    ) -> web.StreamResponse:
        prompt = read_tokenize(body)
        tokens = measure(prompt).tokens
        document = msgspec.json.encode({"count": tokens, "max_model_len": 131_072, "tokens": list(range(tokens))})
        return await self._whole(request, Script(documents=[document]), entry, fault)

    async def _chat(
        self, request: web.Request, reading: Reading, entry: Entry, fault: Fault | None
    ) -> web.StreamResponse:
        prompt = reading.prompt
        entry.model = prompt.model
        if prompt.model not in self.config.models:
            raise ApiError(404, f"The model `{prompt.model}` does not exist.")
        directives = read_directives(prompt.last_request, self.config.pace)
        answer = self._model.answer(prompt, directives)
        size = measure(prompt)
        completion = Completion(
            id=f"chatcmpl-{entry.number:012}",
            model=prompt.model,
            created=entry.started_us // 1_000_000,
            size=replace(size, cached=self._cache.cached_tokens(prompt, size)),
            include_usage=reading.include_usage and self.config.tells_usage,
        )
        pace = directives.pace
        if not reading.stream:
            whole = Script(documents=[whole_completion(answer, completion)], first_s=pace.first_ms / 1000)
            return await self._whole(request, whole, entry, fault)
        script = Script(
            documents=stream_chunks(answer, completion, pace.size),
            first_s=pace.first_ms / 1000,
            interval_s=pace.interval_ms / 1000,
        )
        script = script if fault is None else spoil(script, fault, COMPATIBLE)
        self.journal.stream_opened(entry)
        response = await play(request, script, COMPATIBLE.framing, entry)
        if script.ending is not Ending.CLEAN:
            self.journal.close(entry, FAULT)
        return response

    async def _whole(
        self, request: web.Request, script: Script, entry: Entry, fault: Fault | None
    ) -> web.StreamResponse:
        document = script.documents[0]
        script = script if fault is None else spoil(script, fault, COMPATIBLE)
        body = script.documents[0] if script.ending is Ending.CLEAN else document
        response = await answer_whole(request, body, script, entry)
        if script.ending is not Ending.CLEAN:
            self.journal.close(entry, FAULT)
        return response


def _refusal(error: ApiError) -> web.Response:
    headers = {"Content-Type": "application/json"}
    delays = [str(detail["retryDelay"]) for detail in error.details if "retryDelay" in detail]
    if delays:
        headers["Retry-After"] = str(math.ceil(float(delays[0].removesuffix("s"))))
    return web.Response(status=error.code, body=error_document(error), headers=headers)
