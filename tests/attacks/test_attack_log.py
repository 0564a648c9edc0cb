"""Attack row 45: whatever a caller writes, the log stays one JSON object a line and the record one line a record."""

import asyncio
import base64
import contextlib
import json
import os
import signal
import sqlite3
import sys
import time
from pathlib import Path

import grpc.aio
from click.testing import CliRunner

from gateway.commands.audit import audit
from generated.agentic.gateway.v1 import ChatRequest, Content, ExecuteToolRequest, GetOperationRequest, Part, Role
from generated.agentic.gateway.v1.codec import CODECS
from generated.agentic.gateway.v1.services import METHODS

ROOT = Path(__file__).resolve().parents[2]
AUDIENCE = "https://gateway-service-123456789012.us-central1.run.app"
BY_NAME = {method.name: method for method in METHODS}

FAKE = '{"severity":"CRITICAL","message":"fake.event"}'
HOSTILE = {
    "a new line": f"AAPL\n{FAKE}",
    "a carriage return": f"AAPL\r{FAKE}",
    "other line ends": f"AAPL\x0b{FAKE}\x0c{FAKE}\x85{FAKE}\u2028{FAKE}\u2029{FAKE}",
    "a terminal's sequences": "\x1b[2J\x1b[31mAAPL\x1b]0;owned\x07\x9b31m",
    "reversed reading": "\u202eLPAA\u2066\u200f",
    "hidden characters": "A\u200bA\u00adPL\ufeff\U000e0041",
    "an object's end": '"}}\n' + FAKE,
    "half a surrogate pair, escaped": "\\ud800",
    "nothing but zeros": "\x00" * 10,
}


def stripped_token():
    """A token as Cloud Run's edge forwards it: its signature is off, and only this gateway's setting makes it count."""
    now = int(time.time())
    claims = {
        "iss": "https://accounts.google.com",
        "aud": AUDIENCE,
        "sub": "100000000000000000001",
        "email": "sa-agent@acme-agents.iam.gserviceaccount.com",
        "email_verified": True,
        "iat": now - 10,
        "exp": now + 3_000,
    }
    parts = ({"alg": "RS256", "kid": "k1", "typ": "JWT"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join((*encoded, "SIGNATURE_REMOVED_BY_GOOGLE"))


@contextlib.asynccontextmanager
async def serving(folder):
    """A gateway process in a world without Google and without an exchange; gives its address."""
    text = (ROOT / "docs" / "gateway.example.toml").read_text().replace("../policies", str(ROOT / "policies"))
    for old in ("https://paper-api.alpaca.markets", "https://data.alpaca.markets"):
        text = text.replace(old, "http://127.0.0.1:9")
    text = text.replace("# certs_url", 'certs_url = "http://127.0.0.1:9/certs"\n#')
    text = text.replace("# endpoint", 'endpoint = "http://127.0.0.1:9"\n#')
    config, ready = folder / "gateway.toml", folder / "ready.json"
    config.write_text(text)
    variables = {
        **{f"EXCHANGE_{name}": "x" * 32 for name in ("KEY_ID", "SECRET_KEY", "ORDER_KEY")},
        "PORT": "0",
        "GATEWAY_HOST": "127.0.0.1",
        "GCE_METADATA_HOST": "127.0.0.1:9",
        "K_SERVICE": "gateway",
        "GATEWAY_EDGE_IAM": "required",
        "GATEWAY_LEDGER_MAY_BE_LOST": "accepted",
    }
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "serve", "--config", config, "--ready-file", ready),
            env=os.environ | variables,
            stderr=log,
        )
    try:
        async with asyncio.timeout(30):
            while not ready.exists():
                assert process.returncode is None, (folder / "log").read_text()
                await asyncio.sleep(0.005)
        yield json.loads(ready.read_text())["url"].removeprefix("http://")
    finally:
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def call(channel, name, request, **metadata):
    """Make a call and let it end as it will."""
    method = BY_NAME[name]
    make = channel.unary_stream if method.cardinality.reply_streams else channel.unary_unary
    serializers = {
        "request_serializer": CODECS[method.request].encode,
        "response_deserializer": CODECS[method.reply].decode,
    }
    sent = {"authorization": f"Bearer {stripped_token()}"} | metadata
    answer = make(method.path, **serializers)(request, metadata=tuple(sent.items()), timeout=10)
    with contextlib.suppress(grpc.aio.AioRpcError):
        _ = [event async for event in answer] if method.cardinality.reply_streams else await answer


async def everything_hostile(channel, text):
    """Send the text in every place that takes one."""
    contents = [Content(role=Role.USER, parts=[Part(text=text)])]
    order = {"symbol": text, "side": "buy", "type": "market", "quantity": "1", "time_in_force": "day", text: text}
    arguments = json.dumps(order, ensure_ascii=False)
    requests = (
        ("ExecuteTool", ExecuteToolRequest(tool=text, arguments_json="{}", idempotency_key="k")),
        ("ExecuteTool", ExecuteToolRequest(tool="place_order", version=text, idempotency_key="k")),
        ("ExecuteTool", ExecuteToolRequest(tool="place_order", arguments_json=arguments, idempotency_key="k")),
        ("ExecuteTool", ExecuteToolRequest(tool="place_order", arguments_json=text, idempotency_key="k")),
        ("ExecuteTool", ExecuteToolRequest(tool="get_quote", arguments_json='{"symbol":"A"}', idempotency_key=text)),
        ("ExecuteTool", ExecuteToolRequest(tool="get_quote", arguments_json='{"symbol":"A"}', run_id=text)),
        ("GetOperation", GetOperationRequest(operation_id=text)),
        ("Chat", ChatRequest(model=text, contents=contents)),
        ("Chat", ChatRequest(model="flash", system_instruction=text, contents=contents)),
        ("Chat", ChatRequest(model="flash", contents=contents, run_id=text)),
    )
    for name, request in requests:
        await call(channel, name, request)
    return len(requests)


async def test_no_caller_writes_into_the_log_or_the_record(tmp_path):
    async with serving(tmp_path) as address, grpc.aio.insecure_channel(address) as channel:
        sent = 0
        for text in HOSTILE.values():
            sent += await everything_hostile(channel, text)
        printable = {"x-note": FAKE, "user-agent": FAKE, "x-serverless-authorization": f"Bearer {FAKE}"}
        await call(channel, "GetOperation", GetOperationRequest(operation_id="op-1"), **printable)
        sent += 1
    raw = (tmp_path / "log").read_bytes()
    assert set(raw) <= {*range(0x20, 0x7F), 0x0A}
    events = [json.loads(line) for line in raw.decode().splitlines()]
    assert all(isinstance(event, dict) for event in events)
    assert {event["severity"] for event in events} <= {"INFO", "NOTICE", "WARNING"}
    assert "fake.event" not in {event["message"] for event in events}
    assert "ledger.may_be_lost" in {event["message"] for event in events}
    assert [event["message"] for event in events].count("call.ended") == sent
    assert_record_is_whole(tmp_path / "gateway.db")


def assert_record_is_whole(path):
    with contextlib.closing(sqlite3.connect(path)) as ledger:
        records = [record.decode() for (record,) in ledger.execute("SELECT record FROM audit")]
    assert len(records) > len(HOSTILE)
    assert [record for record in records if not record.isprintable()] == []
    assert "fake.event" in "".join(records)
    for command in ("verify", "show"):
        done = CliRunner().invoke(audit, [command, str(path)])
        assert done.exit_code == 0
        assert all(line.isprintable() for line in done.stdout.split("\n"))
