"""Egress: the one place that decides what a tool may connect to.

The address is judged where the socket is made, because only there it is the one that is really connected to: names with
several answers, literals that no resolver ever sees and mapped addresses all pass that point (governance study, section
0, item 11; attack rows 30 to 32). Nothing else of the gateway opens a connection for a tool.
"""

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import SplitResult, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.connector import AddrInfoType

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

KEEPALIVE_S: Final = 10.0
"""Shorter than any venue's own: a call on a connection that is just being closed would have an unknown end."""

SERVICE_KEEPALIVE_S: Final = 4.0
"""For other services: common servers (Node, uvicorn) close after 5 s."""

_PORTS_REFUSED: Final = frozenset(
    {0, 19, 21, 22, 23, 25, 53, 110, 111, 135, 139, 143, 389, 445, 465, 587, 636, 993, 995}
)
"""Services that read lines and could take an HTTP request for commands of theirs."""

_METADATA_HOSTS: Final = frozenset({"metadata", "metadata.google.internal", "metadata.goog", "instance-data"})
_METADATA_SUFFIXES: Final = (".metadata.google.internal", ".metadata.goog", ".ec2.internal")
_METADATA_ADDRESSES: Final = frozenset(
    map(ip_address, ("169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192"))
) | frozenset(map(ip_address, ("fd20:ce::254", "fd00:ec2::254", "fd00:42::42")))
"""Where clouds hand out credentials. No allowance of an operator opens these: only the gateway's own credential client
reaches its metadata server (attack row 32)."""

_SPECIAL_4: Final = tuple(
    (ip_network(network), name)
    for network, name in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared (carrier-grade NAT)"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved for protocols"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
"""IANA's special-purpose registry. Not Python's `is_global`, which is True for multicast, NAT64 and 6to4 (measured:
governance study, attack row 31)."""

_SPECIAL_6: Final = tuple(
    (ip_network(network), name)
    for network, name in (
        ("::ffff:0:0/96", "an IPv4 address in the clothes of IPv6"),
        ("2001::/32", "Teredo"),
        ("2001:db8::/32", "documentation"),
        ("2001::/23", "reserved for protocols"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
    )
)
_GLOBAL_6: Final = ip_network("2000::/3")
_NAT64: Final = ip_network("64:ff9b::/96")
_LOOPBACK: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_HOST: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")


class EgressRefusedError(PermissionError):
    """An address that the gateway does not connect to; nothing was sent there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Judges the connections to one service."""

    host: str
    ports: frozenset[int]
    networks: tuple[Network, ...] = ()
    """What the operator allows for this origin although it is not public."""

    def joined(self, other: "Guard") -> "Guard":
        """The guard of a service that has two origins."""
        host = self.host if self.host == other.host else f"{self.host} and {other.host}"
        return Guard(host=host, ports=self.ports | other.ports, networks=self.networks + other.networks)

    def open(self, info: AddrInfoType) -> socket.socket:
        """A socket for an address that may be connected to; aiohttp's `socket_factory`. Raises `EgressRefusedError`."""
        family, kind, protocol, _, place = info
        why = self.why_not(str(place[0]), int(place[1]))
        if why:
            raise EgressRefusedError(f"{self.host}: {why}")
        return socket.socket(family=family, type=kind, proto=protocol)

    def why_not(self, text: str, port: int) -> str:
        """Why this place may not be connected to; empty if it may."""
        if port not in self.ports:
            return f"port {port} is none of the origin's"
        try:
            address = ip_address(text)
        except ValueError:
            return "what it resolves to is no address"
        if _metadata(address):
            return f"{address} is a metadata server"
        if any(address.version == network.version and address in network for network in self.networks):
            return ""
        name = special(address)
        return f"{address} is {name}" if name else ""


def special(address: Address) -> str:
    """What an address is other than a public one, in words that follow "is"; empty for a public one."""
    if isinstance(address, IPv4Address):
        return next((name for network, name in _SPECIAL_4 if address in network), "")
    if address.scope_id is not None:
        return "bound to an interface"
    if address in _NAT64:
        inside = IPv4Address(int(address) & 0xFFFF_FFFF)
        name = special(inside)
        return f"{inside} behind NAT64, which is {name}" if name else ""
    if address not in _GLOBAL_6:
        return next((name for network, name in _SPECIAL_6 if address in network), "not a global unicast address")
    return next((name for network, name in _SPECIAL_6 if address in network), "")


def guard_of(url: str, networks: Iterable[str] = (), *, local: bool = False) -> Guard:
    """The guard of an origin's URL. `local` also allows this very machine where the URL names it by a loopback name.

    Raises ValueError with a sentence for an origin that nothing may ever be sent to.
    """
    parts = _split(url)
    host = parts.hostname or ""
    fault = host_fault(host)
    if fault:
        raise ValueError(fault)
    allowed = tuple(network_of(text) for text in networks)
    if local and host in _LOOPBACK_HOSTS:
        allowed += _LOOPBACK
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if port in _PORTS_REFUSED:
        raise ValueError(f"port {port} is no port of HTTP services: choose another")
    return Guard(host=host, ports=frozenset({port}), networks=allowed)


def host_fault(host: str) -> str:
    """What is wrong with the host of an origin, as a sentence; empty if nothing is.

    A number in the place of an address (2130706433, 127.1, 0x7f.1) is one that readers disagree about (WHATWG URL,
    "ends in a number"; attack row 30).
    """
    name = host.rstrip(".").lower()
    try:
        address = ip_address(name)
    except ValueError:
        address = None
    if name in _METADATA_HOSTS or name.endswith(_METADATA_SUFFIXES) or (address and _metadata(address)):
        return f"{name} is a metadata server: only the gateway itself asks it"
    if address is not None:
        return ""
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        return f"{name[:80]!r} is no host: write an IPv4 address as four decimal numbers"
    return "" if _HOST.fullmatch(name) else f"{name[:80]!r} is no host: write a name in ASCII letters, or an address"


def network_of(text: str) -> Network:
    """A network as an operator writes it, such as 10.1.0.0/16. Raises ValueError with a sentence."""
    try:
        network = ip_network(text)
    except ValueError:
        raise ValueError(f"{text[:80]!r} is no network: write one such as 10.1.0.0/16 or fd00:1::/64") from None
    if network.prefixlen < (8 if network.version == 4 else 16):
        raise ValueError(f"{text} is too wide: write the network of this service")
    return network


def guarded_session(
    guard: Guard,
    *,
    connections_max: int = 64,
    keepalive_s: float = SERVICE_KEEPALIVE_S,
    resolver: AbstractResolver | None = None,
) -> aiohttp.ClientSession:
    """A session for one origin: no cookies, no proxies from the environment, nothing inflated.

    With `keepalive_s=0` every request has a connection of its own.
    """
    connector = aiohttp.TCPConnector(
        limit=connections_max,
        force_close=not keepalive_s,
        keepalive_timeout=keepalive_s or None,
        socket_factory=guard.open,
        resolver=resolver,
    )
    return aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
    )


def refused_by_guard(error: aiohttp.ClientConnectorError) -> bool:
    """Whether it was the guard that let no connection be made."""
    # An error about the service's certificate has no cause of the system's.
    certificate = isinstance(error, aiohttp.ClientConnectorCertificateError)
    return not certificate and isinstance(error.os_error, PermissionError)


def _metadata(address: Address) -> bool:
    if isinstance(address, IPv6Address):
        inside = address.ipv4_mapped or (IPv4Address(int(address) & 0xFFFF_FFFF) if address in _NAT64 else None)
        if inside is not None:
            return inside in _METADATA_ADDRESSES
    return address in _METADATA_ADDRESSES


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(f"{url[:80]!r} is no URL") from None
    return parts
