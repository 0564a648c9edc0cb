"""The files of a prompt: each is what it says it is, and a reference leads where it reads."""

import re
from collections.abc import Iterable
from typing import Final

from gateway.services.form import malformed
from gateway.terms.conversation import Turn
from gateway.terms.inputs import FileData, InlineData
from gateway.terms.limits import FILES_MAX
from generated.agentic.gateway.v1 import FileData as FileDataMessage
from generated.agentic.gateway.v1 import InlineData as InlineDataMessage

_MIME_TYPE: Final = re.compile(r"[a-z]{1,32}/[a-z0-9][a-z0-9.+-]{0,95}")
_URI: Final = re.compile(r"(?:gs|https)://[a-z0-9][a-z0-9._-]{1,221}(?:/[A-Za-z0-9!()*+,;=@_~:. -]{1,255}){1,32}")
"""Scheme, bucket or host, path: what could be read in two ways (ports, users, escapes, queries) is not there."""

_BEGINNINGS: Final = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/heic": re.compile(rb"....ftyp(?:hei[cxms]|hev[cx]|mif1)", re.DOTALL),
    "image/heif": re.compile(rb"....ftyp(?:mif1|msf1|hei[cxms])", re.DOTALL),
    "application/pdf": re.compile(rb"%PDF-[12]\."),
}
"""How a file of a type begins (WHATWG MIME Sniffing, section 6; ISO/IEC 23008-12; ISO 32000)."""


def inline_data(message: InlineDataMessage, field: str) -> InlineData:
    """A file in the prompt. Bytes of another type than they are said to be would be judged as something else."""
    kind = _mime_type(message.mime_type, field)
    if not message.data:
        raise malformed(f"{field}.data", "is empty: send the file's bytes")
    if kind.startswith("text/"):
        _refuse_other_than_text(message.data, field)
    elif kind not in _BEGINNINGS:
        raise malformed(f"{field}.mime_type", f"send inline only text/* and {', '.join(sorted(_BEGINNINGS))}")
    elif not _BEGINNINGS[kind].match(message.data):
        raise malformed(f"{field}.data", f"does not begin as {kind}: say what it is")
    return InlineData(mime_type=kind, data=message.data)


def file_data(message: FileDataMessage, field: str) -> FileData:
    """A file by reference."""
    kind = _mime_type(message.mime_type, field)
    segments = message.uri.split("/")[2:]
    if not _URI.fullmatch(message.uri) or any(segment.strip(".") == "" for segment in segments):
        advice = "write gs://BUCKET/PATH or https://HOST/PATH without escapes, query, fragment or dot segments"
        raise malformed(f"{field}.uri", advice)
    return FileData(mime_type=kind, uri=message.uri)


def refuse_too_many_files(turns: Iterable[Turn]) -> None:
    """Every file is a file to decode for the upstream, and a part of the bill."""
    files = sum(isinstance(part, InlineData | FileData) for turn in turns for part in turn.parts)
    if files > FILES_MAX:
        raise malformed("contents", f"send at most {FILES_MAX} files")


def _mime_type(text: str, field: str) -> str:
    if not _MIME_TYPE.fullmatch(text):
        raise malformed(f"{field}.mime_type", "write a MIME type without parameters, such as image/png")
    return text


def _refuse_other_than_text(data: bytes, field: str) -> None:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise malformed(f"{field}.data", f"is not UTF-8 at byte {error.start}") from None
    if "\0" in text:
        raise malformed(f"{field}.data", "is no text: it holds a zero character")
