"""The forms that texts of the configuration must have, each with the advice for one that has another."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, tzinfo
from functools import cache
from typing import Final
from urllib.parse import SplitResult, urlsplit

from gateway.terms.money import scaled

_SHOWN_MAX: Final = 80
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A form and how to write it."""

    pattern: re.Pattern[str]
    advice: str

    def faults(self, field: str, value: str) -> Iterator[str]:
        """One sentence if the value has another form."""
        if not self.pattern.fullmatch(value):
            yield f"{field}: {shown(value)} will not do: {self.advice}"


NAME: Final = Form(
    pattern=re.compile(r"[a-z][a-z0-9_.-]{0,62}"),
    advice="write at most 63 of a-z 0-9 _ . - that begin with a letter",
)
VENUE: Final = Form(
    pattern=re.compile(r"[a-z][a-z0-9-]{0,31}"),
    advice="write at most 32 of a-z 0-9 - that begin with a letter",
)
ACCOUNT: Final = Form(
    pattern=re.compile(r"[A-Za-z0-9_-]{1,64}"),
    advice="write a name of your own for the account: 1 to 64 of A-Z a-z 0-9 _ -",
)
PROJECT: Final = Form(
    pattern=re.compile(r"[a-z][a-z0-9.:-]{0,61}[a-z0-9]"),
    advice="write the Google Cloud project's id",
)
LOCATION: Final = Form(
    # It becomes a part of the host that the access token is sent to.
    pattern=re.compile(r"[a-z]{1,20}(?:-[a-z0-9]{1,20}){0,3}"),
    advice='write a location of Vertex AI such as "global" or "us-central1"',
)
UPSTREAM_ID: Final = Form(
    pattern=re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:/+-]{0,199}"),
    advice='write what its upstream calls the model, such as "gemini-3.5-flash"',
)
MEDIA: Final = Form(
    pattern=re.compile(r"image/(?:png|jpeg|webp|gif|heic|heif)|application/pdf|text/[a-z0-9][a-z0-9.+-]{0,63}"),
    advice="write image/png, image/jpeg, image/webp, image/gif, image/heic, image/heif, application/pdf or text/...",
)
CACHE_ID: Final = Form(
    # It becomes the end of a resource's name in the configured project.
    pattern=re.compile(r"[A-Za-z0-9_-]{1,64}"),
    advice="write what stands behind the last slash of the cache's name",
)
FILE_PREFIX: Final = Form(
    # It ends at a slash, so that a bucket or a folder whose name only begins like it is another one.
    pattern=re.compile(r"(?:gs|https)://[a-z0-9][a-z0-9._-]{1,221}/(?:[A-Za-z0-9!()*+,;=@_~:. -]{1,255}/){0,16}"),
    advice="write gs://BUCKET/ or https://HOST/FOLDER/, with a slash at the end",
)
AUDIENCE: Final = Form(
    pattern=re.compile(r"https://[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~%/-]{0,200}[A-Za-z0-9._~%-])?"),
    advice="write the service's URL as agents ask tokens for it: https://, and no slash at the end",
)
SYMBOL: Final = Form(
    pattern=re.compile(r"[A-Z0-9][A-Z0-9./-]{0,31}"),
    advice="write the ticker symbol in capital letters, as orders name it",
)
ORIGIN: Final = Form(
    pattern=re.compile(r"https?://[a-z0-9.-]{1,253}(?::[0-9]{1,5})?"),
    advice="write an origin as browsers say it, such as https://console.example.com",
)


def shown(value: str) -> str:
    """A value of the file inside a sentence: quoted, escaped, and not too long."""
    return repr(value if len(value) <= _SHOWN_MAX else value[:_SHOWN_MAX] + "...")


def origin_faults(field: str, url: str, *, path: bool = False) -> Iterator[str]:
    """What credentials or trust go to must be TLS, except on this very machine; `path` says whether it may have one."""
    parts, host = _split(url)
    if not host or "@" in parts.netloc or parts.query or parts.fragment or not url.isascii() or " " in url:
        yield f"{field}: {shown(url)} will not do: write a URL such as https://api.example.com"
        return
    if parts.path.strip("/") and not path:
        yield f"{field}: {shown(url)} will not do: write scheme and host without a path"
    if parts.scheme != "https" and not (parts.scheme == "http" and host in _LOOPBACK):
        yield f"{field}: {shown(url)} will not do: write https:// (http:// only for this machine, 127.0.0.1)"


def host_of(url: str) -> str:
    """The host of a URL that has no faults."""
    return urlsplit(url).hostname or ""


def amount_faults(field: str, text: str, scale: int, most: int | None = None) -> Iterator[str]:
    """An amount that cannot be read in integers of 1/`scale`, or is above `most` whole units."""
    try:
        value = scaled(text, scale)
    except ValueError as error:
        yield f"{field}: {shown(text)} will not do: {error}"
        return
    if most is not None and value > most * scale:
        yield f"{field}: {shown(text)} will not do: write at most {most}"


def optional_amount_faults(field: str, text: str, scale: int) -> Iterator[str]:
    """An amount that may be left out, and otherwise cannot be read."""
    if text:
        yield from amount_faults(field, text, scale)


def symbol_faults(field: str, symbols: list[str]) -> Iterator[str]:
    """Symbols that no order could be written with: a restriction that matches nothing is a mistake."""
    for symbol in symbols:
        yield from SYMBOL.faults(field, symbol)
    yield from twice_faults(field, symbols)


def zone_faults(field: str, name: str) -> Iterator[str]:
    """A time zone that this machine does not know."""
    try:
        zone(name)
    except ValueError:
        yield f'{field}: {shown(name)} will not do: write an IANA name such as "UTC" or "America/New_York"'


@cache
def zone(name: str) -> tzinfo:
    """The time zone of an IANA name, or raise ValueError. Only who uses another one than UTC reads the database."""
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - see above

    try:
        return ZoneInfo(name)
    except (OSError, KeyError) as error:  # `ZoneInfoNotFoundError` is a KeyError, and a folder an OSError
        raise ValueError(name) from error


def range_faults(field: str, value: int, least: int, most: int) -> Iterator[str]:
    """A number outside of its range."""
    if not least <= value <= most:
        yield f"{field}: {value if abs(value) < 10**20 else 'this'} will not do: write {least} to {most}"


def twice_faults(field: str, values: list[str]) -> Iterator[str]:
    """Values that stand more than once."""
    for value in sorted({value for value in values if values.count(value) > 1}):
        yield f"{field}: {shown(value)} stands twice: write it once"


def _split(url: str) -> tuple[SplitResult, str | None]:
    """The parts of a URL, and its host unless something about it is no URL."""
    try:
        parts = urlsplit(url)
        host = None if parts.port == 0 else parts.hostname
    except ValueError:
        return urlsplit(""), None
    else:
        return parts, host
