"""Services become backends, or the start is refused with the place and what to do."""

import json

import pytest
from made_settings import VARIABLES, made

from gateway.assembly.parts import AssemblyError, parts_of, policy_inputs
from gateway.assembly.tool_services import _http_tool, _mcp_tool
from gateway.settings.faults import SettingsError
from gateway.settings.reading import read_settings
from gateway.settings.tool_tables import HttpToolTable, McpToolTable

SERVICES = """
[[http_services]]
name = "things"
document = "things.json"
origin = "https://things.example.com"
[[http_services.credentials]]
header = "X-Api-Key"
secret = "env:THINGS_KEY"
[[http_services.tools]]
operation = "show"
name = "show_thing"
effect = "read"

[[mcp_servers]]
name = "tickets"
url = "https://tickets.example.com/mcp"
pins = "tickets.json"
"""
TICKET = """
[[mcp_servers.tools]]
tool = "open"
name = "open_ticket"
"""
DOCUMENT = {
    "openapi": "3.1.0",
    "paths": {
        "/things": {
            "get": {
                "operationId": "show",
                "parameters": [{"name": "q", "in": "query", "schema": {"type": "string", "maxLength": 9}}],
            }
        }
    },
}
TEXT = json.dumps(DOCUMENT)


def settings(folder, services=SERVICES, document=TEXT):
    made(folder)
    path = folder / "gateway.toml"
    text = path.read_text()
    path.write_text(text.replace("[limits.desk]", services + "\n[limits.desk]", 1))
    if document is not None:
        (folder / "things.json").write_text(document)
    return read_settings(path, VARIABLES | {"THINGS_KEY": "thing-secret"})


def test_services_stand_beside_the_exchange(tmp_path):
    read = settings(tmp_path)
    parts = parts_of(read)
    names = [tool.name for tool in parts.toolbox.declarations]
    assert names[-1] == "show_thing"
    assert "place_order" in names
    assert len(parts.services) == 2
    assert policy_inputs(read.file, read.base).tools == parts.toolbox.declarations


def test_what_the_operator_says_of_proofs_reaches_the_tools():
    looked_up = {"idempotency": "lookup", "key_header": "K", "lookup_operation": "find", "lookup_argument": "q"}
    http = _http_tool(HttpToolTable(operation="o", name="n", **looked_up, lookup_found="/a/0/q"))
    assert (http.lookup_operation, http.lookup_argument, http.lookup_found) == ("find", "q", "/a/0/q")
    for final in (False, True):
        assert _mcp_tool(McpToolTable(tool="t", name="n", errors_are_final=final)).errors_are_final is final


def test_a_document_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"http_services\.things cannot be used:\n  .*things\.json cannot be read"):
        parts_of(settings(tmp_path, document=None))


@pytest.mark.parametrize(
    "document, sentence",
    [
        ("{}", r'the service things: its document: it does not say "openapi": "3\.1\.x"'),
        ('{"openapi": "3.1.0"}', r"the tool show_thing: 0 operations have the operationId 'show'"),
        (json.dumps(DOCUMENT).replace(', "maxLength": 9', ""), r"the tool show_thing: .*\n.*maxLength must be there"),
    ],
)
def test_a_document_without_the_tool_is_refused_with_the_place(tmp_path, document, sentence):
    with pytest.raises(AssemblyError, match=sentence):
        parts_of(settings(tmp_path, document=document))


def test_a_document_beyond_every_bound_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="is longer than 4194304 bytes"):
        parts_of(settings(tmp_path, document=" " * (4 * 1024 * 1024 + 1)))


def test_a_tool_that_nobody_approved_keeps_the_gateway_from_starting(tmp_path):
    with pytest.raises(AssemblyError, match="run `gateway tools pin`"):
        parts_of(settings(tmp_path, SERVICES + TICKET))
    (tmp_path / "tickets.json").write_text("nonsense")
    with pytest.raises(SettingsError, match=r"mcp_servers\.tickets cannot be used:\n  it is not what"):
        parts_of(settings(tmp_path, SERVICES + TICKET))


def test_a_name_that_is_taken_is_refused(tmp_path):
    with pytest.raises(AssemblyError, match="tool get_quote is declared twice in version 1"):
        parts_of(settings(tmp_path, SERVICES.replace('"show_thing"', '"get_quote"')))


def test_no_secret_is_in_what_is_shown(tmp_path):
    read = settings(tmp_path)
    assert "thing-secret" not in repr(read)
    assert "thing-secret" not in repr(parts_of(read).services[0]._service)
