"""The files of a prompt: bytes that are what they are said to be, and references that can be read in one way only."""

import pytest

from gateway.services.prompts import chat_prompt, count_prompt
from gateway.terms.inputs import FileData as Reference
from gateway.terms.inputs import Guard, Harm
from gateway.terms.inputs import InlineData as Inline
from gateway.terms.limits import FILES_MAX
from gateway.terms.verdict import RefusedError
from generated.agentic.gateway.v1 import (
    ChatRequest,
    Content,
    CountTokensRequest,
    FileData,
    InlineData,
    Part,
    Role,
    SafetySetting,
    SafetySettingCategory,
    SafetySettingThreshold,
)

PNG = b"\x89PNG\r\n\x1a\n\0\0"


def said(*parts, role=Role.USER, **more):
    contents = [Content(role=role, parts=list(parts)), Content(role=Role.USER, parts=[Part(text="?")])]
    return ChatRequest(model="flash", contents=contents, **more)


def inline(kind, data):
    return Part(inline_data=InlineData(mime_type=kind, data=data))


def reference(kind, uri):
    return Part(file_data=FileData(mime_type=kind, uri=uri))


def refused(request):
    with pytest.raises(RefusedError) as caught:
        chat_prompt(request)
    (violation,) = caught.value.refusal.violations
    return violation.field


@pytest.mark.parametrize(
    "kind, data",
    [
        ("image/png", PNG),
        ("image/jpeg", b"\xff\xd8\xff\xe0"),
        ("image/gif", b"GIF89a"),
        ("image/webp", b"RIFF\x10\0\0\0WEBPVP8 "),
        ("image/heic", b"\0\0\0\x18ftypheic"),
        ("application/pdf", b"%PDF-1.7\n"),
        ("text/plain", "Grüße".encode()),
        ("text/csv", b"a,b\n"),
    ],
)
def test_files_that_are_what_they_say(kind, data):
    (part,) = chat_prompt(said(inline(kind, data))).conversation.turns[0].parts
    assert part == Inline(mime_type=kind, data=data)


@pytest.mark.parametrize(
    "kind, data, field",
    [
        ("image/png", b"\xff\xd8\xff\xe0", "data"),
        ("image/png", b"", "data"),
        ("image/png", b"<svg/>", "data"),
        ("application/pdf", b"MZ%PDF-1.7", "data"),
        ("text/plain", b"\xff\xfe", "data"),
        ("text/plain", b"a\0b", "data"),
        ("image/svg+xml", b"<svg/>", "mime_type"),
        ("application/octet-stream", b"x", "mime_type"),
        ("audio/wav", b"RIFF", "mime_type"),
        ("image/PNG", PNG, "mime_type"),
        ("image/png; x=y", PNG, "mime_type"),
        ("", PNG, "mime_type"),
    ],
)
def test_files_that_are_something_else(kind, data, field):
    assert refused(said(inline(kind, data))) == f"contents[0].parts[0].inline_data.{field}"


@pytest.mark.parametrize("uri", ["gs://acme-in/a/b c.png", "https://files.example.com/a-b_c.png", "gs://a1/x"])
def test_references(uri):
    (part,) = chat_prompt(said(reference("image/png", uri))).conversation.turns[0].parts
    assert part == Reference(mime_type="image/png", uri=uri)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "gs://",
        "gs://acme-in",
        "gs://acme-in/",
        "gs://acme-in//x",
        "gs://acme-in/../other/x",
        "gs://acme-in/./x",
        "gs://acme-in/%2e%2e/x",
        "http://files.example.com/x",
        "file:///etc/passwd",
        "https://user@files.example.com/x",
        "https://files.example.com:8443/x",
        "https://files.example.com/x?token=1",
        "https://files.example.com/x#y",
        "https://files.example.com\\@evil.example/x",
        "HTTPS://files.example.com/x",
        "https://files.example.com/x\n",
        "https://[::1]/x",
    ],
)
def test_what_is_no_reference(uri):
    assert refused(said(reference("image/png", uri))) == "contents[0].parts[0].file_data.uri"


@pytest.mark.parametrize("part", [inline("image/png", PNG), reference("image/png", "gs://acme-in/x")])
def test_only_users_send_files(part):
    name = "inline_data" if part.inline_data else "file_data"
    assert refused(said(part, role=Role.MODEL)) == f"contents[0].parts[0].{name}"
    part.signature = b"s"
    assert refused(said(part)) == "contents[0].parts[0].signature"
    part.signature = b""


def test_a_bound_of_files():
    chat_prompt(said(*[inline("image/png", PNG)] * FILES_MAX))
    assert refused(said(*[inline("image/png", PNG)] * (FILES_MAX + 1))) == "contents"


def test_a_count_takes_files_too():
    request = CountTokensRequest(
        model="flash", contents=[Content(role=Role.USER, parts=[reference("image/png", "gs://acme-in/x")])]
    )
    assert count_prompt(request).conversation.turns[0].parts[0].uri == "gs://acme-in/x"


def test_safety_settings_and_a_cached_beginning():
    setting = SafetySetting(
        category=SafetySettingCategory.HARASSMENT, threshold=SafetySettingThreshold.BLOCK_LOW_AND_ABOVE
    )
    asked = chat_prompt(said(Part(text="x"), safety_settings=[setting], cached_content="handbook")).conversation
    assert asked.guards == {Harm.HARASSMENT: Guard.BLOCK_LOW_AND_ABOVE}
    assert asked.cached_content == "handbook"
    assert refused(said(Part(text="x"), safety_settings=[setting, setting])) == "safety_settings[1].category"
    nothing = SafetySetting(category=SafetySettingCategory.HARASSMENT)
    assert refused(said(Part(text="x"), safety_settings=[nothing])) == "safety_settings[0].threshold"
    assert refused(said(Part(text="x"), safety_settings=[SafetySetting()])) == "safety_settings[0].category"
