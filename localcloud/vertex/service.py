"""The service: the order of things in one call, from the caller's token to the last byte of the answer.

Token, then fault, then model, then body: the order in which the real front end refuses, so that a caller without
credentials learns nothing about models and a malformed body costs no quota.
"""

import asyncio
import base64
import datetime as dt
import hashlib
import logging
import math
from dataclasses import dataclass, replace

import msgspec
from aiohttp import web

from localcloud.vertex.address import METHODS, Address, AnswerForm, address_of, answer_form
from localcloud.vertex.answer import Model
from localcloud.vertex.bearer import Gate
from localcloud.vertex.chunks import Envelope, stream_documents, whole_document
from localcloud.vertex.claude.events import Message, stream_events, whole_message
from localcloud.vertex.claude.reading import check_method, read_messages
from localcloud.vertex.claude.reading import read_count as read_claude_count
from localcloud.vertex.claude.wire import CLAUDE, GOOGLES, error_document
from localcloud.vertex.config import VertexConfig
from localcloud.vertex.directives import read_directives
from localcloud.vertex.errors import ApiError
from localcloud.vertex.faults import Fault, FaultPlan
from localcloud.vertex.framing import Framing
from localcloud.vertex.journal import BROKEN, CLIENT_LEFT, COMPLETE, FAULT, REFUSED, SHUTDOWN, Entry, Journal
from localcloud.vertex.player import JSON_TYPE, answer_whole, play, reset
from localcloud.vertex.reading import read_count, read_generate
from localcloud.vertex.script import Ending, Script, spoil
from localcloud.vertex.usage import PrefixCache, measure, modality_details, traffic_type, usage_metadata
from localcloud.vertex.wire import Wire, google

LOG = logging.getLogger(__name__)
SLOW_MS = 1000
BODY_SECONDS = 60.0
# Where Claude's tokens are counted: not a model, but addressed like one.
COUNT_MODEL = "count-tokens"
NOT_FOUND_PAGE = "<!DOCTYPE html><html><title>Error 404 (Not Found)</title><p>404. That is an error.</html>\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Exchange:
    """One admitted call: the request, what it asks for, and what is to go wrong."""

    request: web.Request
    entry: Entry
    address: Address
    form: AnswerForm
    fault: Fault | None

    @property
    def wire(self) -> Wire:
        """Whose words the answer is in."""
        return CLAUDE if self.address.publisher == "anthropic" else google(self.form.framing)


class VertexService:
    """Answers the requests of the API's port."""

    def __init__(self, config: VertexConfig, gate: Gate, faults: FaultPlan, journal: Journal) -> None:
        """Take what the service decides with; it starts nothing by itself."""
        self._config = config
        self._gate = gate
        self._faults = faults
        self._journal = journal
        self._model = Model(config.seed)
        self._cache = PrefixCache(config.cache_from)
        self.stopping = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, and note in the journal how it ended, whatever the ending."""
        authorization = request.headers.getall("Authorization", [])
        entry = self._journal.open(request.method, request.path, authorization=bool(authorization))
        try:
            response = await self._answer(request, authorization, entry)
        except ApiError as error:
            entry.status = error.code
            self._journal.close(entry, FAULT if entry.fault else REFUSED)
            return _refusal(error, request)
        except asyncio.CancelledError:
            self._journal.close(entry, SHUTDOWN if self.stopping else CLIENT_LEFT)
            raise
        except ConnectionError:
            self._journal.close(entry, CLIENT_LEFT)
            raise
        except Exception:
            # A defect of the double must neither leave an open entry behind nor show its traceback to a caller.
            LOG.exception("a request could not be answered")
            entry.status = 500
            self._journal.close(entry, BROKEN)
            return _refusal(ApiError(500, "Internal error encountered."), request)
        entry.status = response.status
        self._journal.close(entry, COMPLETE)
        return response

    async def _answer(self, request: web.Request, authorization: list[str], entry: Entry) -> web.StreamResponse:
        address = address_of(request.method, request.path)
        if address is None:
            return web.Response(status=404, text=NOT_FOUND_PAGE, content_type="text/html")
        entry.model = address.model
        principal = await self._gate.admit(authorization, address.rpc, address.resource)
        entry.caller = principal.email
        form = answer_form(request.query)
        fault = self._faults.claim(address.method, address.model)
        exchange = _Exchange(request=request, entry=entry, address=address, form=form, fault=fault)
        if fault is not None:
            entry.fault = fault.kind
            await self._before(request, fault, entry)
        self._check_model(address)
        body = await _body(request)
        entry.body_bytes = len(body)
        if address.publisher == "anthropic":
            return await (self._count_claude if address.model == COUNT_MODEL else self._claude)(exchange, body)
        return await (self._count if address.method == "countTokens" else self._generate)(exchange, body)

    async def _before(self, request: web.Request, fault: Fault, entry: Entry) -> None:
        """Faults that strike before the call is looked at."""
        if fault.kind == "status":
            raise fault.error()
        if fault.kind == "slow_first_byte":
            await asyncio.sleep((SLOW_MS if fault.params.ms is None else fault.params.ms) / 1000)
        if fault.kind == "reset_before":
            self._journal.close(entry, FAULT)
            reset(request)
            raise ConnectionResetError("reset by a fault")

    def _check_model(self, address: Address) -> None:
        models = {"google": self._config.models, "anthropic": (*self._config.claude_models, COUNT_MODEL)}
        known = models.get(address.publisher, ())
        if address.model not in known or address.method not in METHODS[address.publisher]:
            told = f"Publisher Model `{address.resource}` was not found or your project does not have access to it."
            raise ApiError(404, f"{told} Please ensure you are using a valid model version.")

    async def _count(self, exchange: _Exchange, body: bytes) -> web.StreamResponse:
        size = measure(read_count(body, exchange.address))
        document = msgspec.json.encode(
            {
                "totalTokens": size.tokens,
                "totalBillableCharacters": size.characters,
                "promptTokensDetails": modality_details(size.by_modality, exchange.form.spell),
            }
        )
        return await self._whole(exchange, document, first_ms=0)

    async def _count_claude(self, exchange: _Exchange, body: bytes) -> web.StreamResponse:
        document = msgspec.json.encode({"input_tokens": measure(read_claude_count(body)).tokens})
        return await self._whole(exchange, document, first_ms=0)

    async def _claude(self, exchange: _Exchange, body: bytes) -> web.StreamResponse:
        reading = read_messages(body, exchange.address.model, self._model.seal)
        check_method(reading, streams=exchange.address.streams)
        prompt = reading.prompt
        directives = read_directives(prompt.last_request, self._config.pace)
        answer = self._model.answer(prompt, directives)
        size = measure(prompt)
        message = Message(
            id=f"msg_vrtx_{exchange.entry.number}",
            model=exchange.address.model,
            size=replace(size, cached=self._cache.cached_tokens(prompt, size)),
            thinks=bool(answer.thoughts),
            stopped_by=answer.stopped or None,
        )
        pace = directives.pace
        if not exchange.address.streams:
            return await self._whole(exchange, whole_message(answer, message), first_ms=pace.first_ms)
        script = Script(
            documents=stream_events(answer, message, pace.size),
            first_s=pace.first_ms / 1000,
            interval_s=pace.interval_ms / 1000,
        )
        return await self._stream(exchange, script)

    async def _generate(self, exchange: _Exchange, body: bytes) -> web.StreamResponse:
        prompt = read_generate(body, exchange.address, self._model.seal, self._config.cached_contents)
        directives = read_directives(prompt.last_request, self._config.pace)
        answer = self._model.answer(prompt, directives)
        size = measure(prompt)
        size = replace(size, cached=self._cache.cached_tokens(prompt, size))
        kept = self._config.cached_contents.get(prompt.cached_content, 0)
        size = replace(size, tokens=size.tokens + kept, cached=size.cached + kept)
        spell = exchange.form.spell
        envelope = Envelope(
            model=exchange.address.model,
            response_id=_response_id(self._config.seed, exchange.entry),
            create_time=_timestamp(exchange.entry.started_us),
            usage=usage_metadata(size, answer, traffic_type(exchange.request.headers), spell),
            spell=spell,
        )
        pace = directives.pace
        if not exchange.address.streams:
            return await self._whole(exchange, whole_document(answer, envelope), first_ms=pace.first_ms)
        script = Script(
            documents=stream_documents(answer, envelope, pace.size),
            first_s=pace.first_ms / 1000,
            interval_s=pace.interval_ms / 1000,
        )
        return await self._stream(exchange, script)

    async def _stream(self, exchange: _Exchange, script: Script) -> web.StreamResponse:
        if exchange.request.version < (1, 1):
            raise ApiError(400, "Streams need HTTP/1.1.")
        if exchange.fault is not None:
            script = spoil(script, exchange.fault, exchange.wire)
        entry = exchange.entry
        self._journal.stream_opened(entry)
        response = await play(exchange.request, script, exchange.wire.framing, entry)
        if script.ending is not Ending.CLEAN:
            self._journal.close(entry, FAULT)
        return response

    async def _whole(self, exchange: _Exchange, document: bytes, first_ms: int) -> web.StreamResponse:
        script = Script(documents=[document], first_s=first_ms / 1000)
        if exchange.fault is not None:
            script = spoil(script, exchange.fault, exchange.wire)
        body = script.documents[0] if script.ending is Ending.CLEAN else document
        response = await answer_whole(exchange.request, body, script, exchange.entry)
        if script.ending is not Ending.CLEAN:
            self._journal.close(exchange.entry, FAULT)
        return response


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise ApiError(413, "The request is too large.") from None
    except TimeoutError:
        raise ApiError(504, "The request's body did not arrive in time.") from None


def _refusal(error: ApiError, request: web.Request) -> web.Response:
    """The error's answer; a stream without `alt=sse` wraps it in its array, as the real API does."""
    headers = {"Content-Type": JSON_TYPE}
    if "/publishers/anthropic/" in request.path and error.code not in GOOGLES:
        delays = [str(detail["retryDelay"]) for detail in error.details if "retryDelay" in detail]
        if delays:
            headers["Retry-After"] = str(math.ceil(float(delays[0].removesuffix("s"))))
        return web.Response(status=error.code, body=error_document(error), headers=headers)
    document = error.document()
    streams = request.path.endswith(":streamGenerateContent")
    if streams and request.query.get("alt") != "sse":
        document = b"".join(Framing.ARRAY.frames([document], complete=True))
    if error.code == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="https://accounts.google.com/"'
    return web.Response(status=error.code, body=document, headers=headers)


def _response_id(seed: int, entry: Entry) -> str:
    told = f"{seed}:{entry.number}:{entry.started_us}".encode()
    return base64.urlsafe_b64encode(hashlib.blake2b(told, digest_size=16).digest()).decode().rstrip("=")


def _timestamp(microseconds: int) -> str:
    """A protobuf Timestamp in its JSON form."""
    moment = dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(microseconds=microseconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
