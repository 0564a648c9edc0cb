"""The tables of HTTP services and MCP servers: the documented ones are good, and every fault says what to write."""

import re
import tomllib

import pytest
from example_file import TEXT, VARIABLES, faults

from gateway.settings.file import File
from gateway.settings.reading import read_settings
from gateway.settings.tool_tables import McpToolTable

SECRETS = {"REFUNDS_CALL_KEY": "c" * 32, "REFUNDS_TOKEN": "refunds-token", "TICKETS_TOKEN": "tickets-token"}


BEGIN, END = TEXT.index("# [[http_services]]"), TEXT.index("# What an agent with these limits")
PROSE = re.compile(r"# (An MCP|pins, and|others; when).*\n")


def uncommented():
    """The example with its two services in force."""
    block = re.sub(r"^# ", "", PROSE.sub("", TEXT[BEGIN:END]), flags=re.MULTILINE)
    return TEXT[:BEGIN] + block + TEXT[END:]


def changed(old, new):
    text = uncommented()
    assert old in text[BEGIN:], old
    return text[:BEGIN] + text[BEGIN:].replace(old, new, 1)


def test_the_documented_services_are_good(tmp_path):
    assert faults(tmp_path, uncommented(), **SECRETS) == []
    file = read_settings(tmp_path / "gateway.toml", VARIABLES | SECRETS).file
    assert isinstance(file, File)
    assert [tool.name for tool in file.http_services[0].tools] == ["create_refund", "get_refund"]
    assert file.mcp_servers[0].recheck_ms == 5_000
    assert len(tomllib.loads(uncommented())["http_services"]) == 1


@pytest.mark.parametrize(
    "old, new, sentence",
    [
        ('origin = "https://refunds.example.com"', 'origin = "http://refunds.example.com"', "write https://"),
        ('origin = "https://refunds.example.com"', 'origin = "https://2130706433"', "four decimal numbers"),
        ('origin = "https://refunds.example.com"', 'origin = "https://metadata.google.internal"', "metadata server"),
        ('url = "https://tickets.example.com/mcp"', 'url = "https://169.254.169.254/mcp"', "metadata server"),
        ('networks = ["10.20.0.0/16"]', 'networks = ["0.0.0.0/0"]', "too wide"),
        ('name = "refunds"', 'name = "tickets"', "http_services and mcp_servers: the name 'tickets' stands twice"),
        ('name = "get_refund"', 'name = "create_refund"', "stands twice"),
        ('name = "get_refund"', 'name = "Get-Refund"', "is no tool name"),
        ('idempotency = "native-key"', 'idempotency = "maybe"', "write one of"),
        ('effect = "reversible"', 'effect = "harmless"', "write one of"),
        ('call_key = "env:REFUNDS_CALL_KEY"\n', "", "call_key: is missing"),
        ('call_key = "env:REFUNDS_CALL_KEY"', 'call_key = "plain"', "never stands in this file"),
        ('header = "Authorization"', 'header = "A"\nquery = "b"', "one of them"),
        ('secret = "env:REFUNDS_TOKEN"', 'secret = "env:NOT_SET"', "http_services.refunds.credentials#1.secret"),
        ('cost_usd = "0.01"', 'cost_usd = "a"', "cost_usd"),
        ("recheck_ms = 5000", "recheck_ms = -1", "write 0 to 300000"),
        ("string_length = 200\n", "string_length = 100000\n", "write 0 to 65536"),
        ('document = "refunds.openapi.json"', 'document = ""', "document: is empty"),
        ('pins = "tickets.pins.json"', 'pins = ""', "pins: is empty"),
        ('protocol = "2025-11-25"', 'protocol = "2024-11-05"', "write one of"),
        ("errors_are_final = false", 'errors_are_final = "yes"', "errors_are_final: write true or false"),
        ("errors_are_final = false", "errors_are_final = 1", "errors_are_final: write true or false"),
        ("timeout_ms = 10000", "timeout_ms = 0", "write 1 to 300000"),
        ("timeout_ms = 10000", "retries = 3", "is not known here"),
    ],
)
def test_a_fault_says_what_to_write(tmp_path, old, new, sentence):
    told = faults(tmp_path, changed(old, new), **SECRETS)
    assert any(sentence in fault for fault in told), told


def test_a_reading_tool_needs_no_word_about_its_errors():
    (told,) = McpToolTable(tool="t", name="n", effect="read", errors_are_final=True).faults()
    assert told == "errors_are_final: says nothing of a tool that only reads: leave it out"
    assert list(McpToolTable(tool="t", name="n", errors_are_final=True).faults()) == []


def test_a_key_for_calls_must_be_long(tmp_path):
    told = faults(tmp_path, uncommented(), **SECRETS | {"REFUNDS_CALL_KEY": "short"})
    assert told == ["http_services.refunds.call_key: give it a secret of at least 32 characters"]
    assert "short" not in "".join(told)
