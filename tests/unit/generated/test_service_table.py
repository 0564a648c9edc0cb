"""The table that every wire protocol drives."""

import re
import subprocess
import sys
from pathlib import Path

from generated.agentic.gateway.v1 import ChatEvent, ChatRequest, ExecuteToolRequest, Operation, services
from generated.agentic.gateway.v1.codec import CODECS
from generated.grpc.health.v1 import services as health_services
from generated.service_table import Cardinality, Method

PROTOS = Path(__file__).resolve().parents[3] / "protos/agentic/gateway/v1"


def written_methods():
    """Path to whether it is free of side effects, of every rpc that stands in the contract's files."""
    found = {}
    for file in sorted(PROTOS.glob("*.proto")):
        service = ""
        for line in file.read_text().splitlines():
            if named := re.match(r"service (\w+)", line):
                service = named[1]
            elif named := re.match(r"  rpc (\w+)\(", line):
                path = f"/agentic.gateway.v1.{service}/{named[1]}"
                found[path] = False
            elif "idempotency_level = NO_SIDE_EFFECTS" in line:
                found[path] = True
    return found


def test_the_contracts_methods_are_all_there():
    methods = {method.path: method for method in services.METHODS}
    assert {path: method.side_effect_free for path, method in methods.items()} == written_methods()
    assert len(methods) >= 6
    assert methods["/agentic.gateway.v1.ModelService/Chat"] == Method(
        path="/agentic.gateway.v1.ModelService/Chat",
        cardinality=Cardinality.UNARY_STREAM,
        request=ChatRequest,
        reply=ChatEvent,
        side_effect_free=False,
    )
    execute = methods["/agentic.gateway.v1.ToolService/ExecuteTool"]
    assert (execute.request, execute.reply) == (ExecuteToolRequest, Operation)
    assert (execute.service, execute.name) == ("agentic.gateway.v1.ToolService", "ExecuteTool")


def test_every_message_of_a_method_has_a_codec():
    for method in services.METHODS:
        for message in (method.request, method.reply):
            assert CODECS[message].decode(CODECS[message].encode(message())) == message()


def test_health_is_in_a_table_of_its_own():
    assert [(method.path, method.cardinality) for method in health_services.METHODS] == [
        ("/grpc.health.v1.Health/Check", Cardinality.UNARY_UNARY),
        ("/grpc.health.v1.Health/Watch", Cardinality.UNARY_STREAM),
    ]


def test_every_cardinality_and_types_of_other_packages(probe):
    assert [
        (method.name, method.cardinality.request_streams, method.cardinality.reply_streams, method.side_effect_free)
        for method in probe.METHODS
    ] == [
        ("One", False, False, True),
        ("Many", False, True, False),
        ("Take", True, False, False),
        ("Both", True, True, False),
    ]
    assert probe.METHODS[1].reply is probe.Point


def test_codecs_import_neither_google_protobuf_nor_a_server():
    script = (
        "import sys, generated.agentic.gateway.v1.codec, generated.agentic.gateway.v1.services; print(*sys.modules)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=root)
    loaded = set(done.stdout.split())
    assert not loaded & {"google.protobuf", "grpclib", "grpc", "h2", "asyncio", "aiohttp"}
