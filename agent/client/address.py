"""Where the gateway is: a URL, taken apart and checked before anything is sent there."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

_EXAMPLE: Final = "write it like https://gateway-service-123.us-central1.run.app"
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Host and port, and whether TLS is spoken there."""

    host: str
    port: int
    secure: bool

    @property
    def authority(self) -> str:
        """As `:authority` names it (RFC 9113, 8.3.1): without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


def address(url: str) -> Address:
    """The address of a URL such as `https://HOST` or `http://127.0.0.1:8080`. Raises `ValueError` with a sentence."""
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError(f"the gateway's URL {url!r} has characters that no URL has; {_EXAMPLE}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"the gateway's URL {url!r} cannot be read; {_EXAMPLE}") from None
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not _HOST.fullmatch(host):
        raise ValueError(f"the gateway's URL {url!r} has no http or https, or no host; {_EXAMPLE}")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None or port == 0:
        raise ValueError(f"the gateway's URL {url!r} has more than a host and a port; {_EXAMPLE}")
    secure = parts.scheme == "https"
    if not secure and host.endswith(".run.app"):
        raise ValueError(f"Cloud Run takes calls over https only, and a token must not travel in clear; {_EXAMPLE}")
    return Address(host=host, port=port or (443 if secure else 80), secure=secure)
