"""The egress guard: which addresses, ports and hosts are no place for a tool (attack rows 30 to 32)."""

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
from ipaddress import ip_address

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.tools.egress import EgressRefusedError, guard_of, guarded_session, host_fault, network_of, special
from gateway.tools.roundtrip import NoAnswer, Outgoing, Patience, Received, round_trip

FORBIDDEN = {
    "0.0.0.0": "unspecified",
    "10.1.2.3": "private",
    "100.64.0.1": "shared (carrier-grade NAT)",
    "127.0.0.1": "loopback",
    "127.255.0.1": "loopback",
    "169.254.1.1": "link-local",
    "172.31.255.255": "private",
    "192.0.0.8": "reserved for protocols",
    "192.0.2.1": "documentation",
    "192.168.1.1": "private",
    "198.19.0.1": "for benchmarks",
    "224.0.0.1": "multicast",
    "255.255.255.255": "reserved",
    "::": "not a global unicast address",
    "::1": "not a global unicast address",
    "::ffff:127.0.0.1": "an IPv4 address in the clothes of IPv6",
    "::ffff:8.8.8.8": "an IPv4 address in the clothes of IPv6",
    "::7f00:1": "not a global unicast address",
    "64:ff9b::a00:1": "10.0.0.1 behind NAT64, which is private",
    "64:ff9b:1::808:808": "not a global unicast address",
    "2001:0:4136:e378::1": "Teredo",
    "2001:db8::1": "documentation",
    "2001:20::1": "reserved for protocols",
    "2002:a9fe:a9fe::1": "6to4",
    "2002:808:808::1": "6to4",
    "3fff::1": "documentation",
    "fc00::1": "not a global unicast address",
    "fe80::1": "not a global unicast address",
    "fe80::1%1": "bound to an interface",
    "ff02::1": "not a global unicast address",
}
PUBLIC = ("1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2001:4860::8888", "64:ff9b::808:808")
METADATA = (
    *("169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fd20:ce::254", "fd00:ec2::254"),
    *("100.100.100.200", "168.63.129.16"),
)


@pytest.mark.parametrize("text, name", FORBIDDEN.items())
def test_an_address_that_is_not_public_is_named(text, name):
    assert special(ip_address(text)) == name
    assert guard_of("https://api.example.com").why_not(text, 443) == f"{ip_address(text)} is {name}"


@pytest.mark.parametrize("text", PUBLIC)
def test_a_public_address_may_be_connected_to(text):
    assert special(ip_address(text)) == ""
    assert guard_of("https://api.example.com").why_not(text, 443) == ""


@pytest.mark.parametrize("text", METADATA)
def test_no_allowance_opens_a_metadata_server(text):
    everything = ("169.254.0.0/16", "100.0.0.0/8", "168.0.0.0/8", "fd20::/16", "fd00::/16", "64:ff9b::/96")
    guard = guard_of("https://api.example.com", everything)
    assert guard.why_not(text, 443) == f"{ip_address(text)} is a metadata server"


def test_an_allowance_is_for_its_network_and_family_only():
    guard = guard_of("https://api.internal.example.com:8443", ("10.1.0.0/16", "fd12:3456::/32"))
    assert guard.why_not("10.1.2.3", 8443) == ""
    assert guard.why_not("fd12:3456::9", 8443) == ""
    assert guard.why_not("10.2.0.1", 8443) == "10.2.0.1 is private"
    assert guard.why_not("::ffff:10.1.2.3", 8443).endswith("is an IPv4 address in the clothes of IPv6")
    assert guard.why_not("10.1.2.3", 443) == "port 443 is none of the origin's"


@pytest.mark.parametrize("text", ["10.1.0.0/33", "10.1.2.3/16", "everything", "0.0.0.0/0", "::/0", "10.0.0.0/7"])
def test_a_network_that_is_none_or_everything_is_refused(text):
    with pytest.raises(ValueError, match="network"):
        network_of(text)


@pytest.mark.parametrize(
    "host",
    [
        *("2130706433", "127.1", "0x7f.1", "0177.0.0.1", "0", "127.0.0.1.", "0x7f000001", "1.2.3.4.5"),
        *("metadata.google.internal", "METADATA.google.internal.", "metadata", "x.metadata.google.internal"),
        *("169.254.169.254", "[::1]", "\uff45xample.com", "exa mple.com", "", "-a.com", "a_b.com"),
    ],
)
def test_a_host_that_readers_disagree_about_or_that_hands_out_credentials_is_none(host):
    if host == "127.0.0.1.":
        assert host_fault(host) == ""
        return
    assert host_fault(host)
    assert "metadata" in host_fault(host) or "is no host" in host_fault(host)


@pytest.mark.parametrize("url", ["https://api.example.com:25", "https://metadata.google.internal", "https://[bad"])
def test_an_origin_that_nothing_may_go_to_has_no_guard(url):
    with pytest.raises(ValueError, match=r"port|metadata|URL"):
        guard_of(url)


def test_only_a_loopback_name_allows_this_machine_by_itself():
    assert guard_of("http://127.0.0.1:80", local=True).why_not("127.0.0.1", 80) == ""
    assert guard_of("http://127.0.0.1:80").why_not("127.0.0.1", 80) == "127.0.0.1 is loopback"
    assert guard_of("https://api.example.com", local=True).why_not("127.0.0.1", 443) == "127.0.0.1 is loopback"


def test_a_refused_address_gets_no_socket():
    info = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 443))
    with pytest.raises(EgressRefusedError, match=r"^api\.example\.com: 127\.0\.0\.1 is loopback$"):
        guard_of("https://api.example.com").open(info)


class Answers(AbstractResolver):
    """A resolver that answers as told, one list after the other."""

    def __init__(self, *answers):
        self.answers = list(answers)

    async def resolve(self, host, port=0, family=socket.AF_INET):
        hosts = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            {"hostname": host, "host": one, "port": port, "family": family, "proto": 0, "flags": 0} for one in hosts
        ]

    async def close(self):
        pass


@pytest.fixture
async def service():
    seen = []

    async def respond(request):
        seen.append(request)
        return web.Response(text="hello")

    runner = web.AppRunner(web.Application(), access_log=None)
    runner.app.router.add_route("*", "/{path:.*}", respond)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1], seen
    await runner.cleanup()


async def call(guard, url, resolver=None):
    async with guarded_session(guard, resolver=resolver) as session:
        return await round_trip(session, Outgoing(method="GET", url=url, headers={}), Patience(total_s=5))


async def test_a_name_with_two_answers_is_connected_to_by_the_allowed_one_only(service):
    """DNS rebinding: the public-looking answer is judged at the socket, and so is the private one beside it."""
    port, seen = service
    url = f"http://api.example.com:{port}/x"
    allowed = guard_of(url, ("127.0.0.1/32",))
    assert await call(allowed, url, Answers(["10.0.0.1", "169.254.169.254", "127.0.0.1"])) == Received(
        status=200, media_type="text/plain", body=b"hello"
    )
    assert len(seen) == 1
    lost = await call(guard_of(url), url, Answers(["127.0.0.1", "10.0.0.1"]))
    assert lost == NoAnswer(sent=False, detail="ClientConnectorError", guarded=True)
    assert len(seen) == 1


async def test_an_answer_that_changes_after_the_first_call_is_judged_again(service):
    port, seen = service
    url = f"http://api.example.com:{port}/x"
    answers = Answers(["127.0.0.1"], ["127.0.0.2"])
    guard = guard_of(url, ("127.0.0.1/32",))
    outgoing = Outgoing(method="GET", url=url, headers={})
    connector = guarded_session(guard, resolver=answers, keepalive_s=0)
    async with connector as session:
        session.connector._use_dns_cache = False
        assert isinstance(await round_trip(session, outgoing, Patience(total_s=5)), Received)
        again = await round_trip(session, outgoing, Patience(total_s=5))
    assert again == NoAnswer(sent=False, detail="ClientConnectorError", guarded=True)
    assert len(seen) == 1


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::ffff:127.0.0.1]", "2130706433", "127.1", "0", "0x7f.1", "0177.0.0.1"]
)
async def test_no_spelling_of_this_machine_is_connected_to(service, host):
    port, seen = service
    guard = guard_of(f"https://api.example.com:{port}")
    lost = await call(guard, f"http://{host}:{port}/")
    assert isinstance(lost, NoAnswer)
    assert not lost.sent
    assert seen == []


@pytest.mark.parametrize("repeatable, requests", [(True, 3), (False, 2)])
async def test_a_put_is_sent_once_unless_it_may_be_repeated(repeatable, requests):
    """aiohttp repeats a PUT by itself when its connection breaks: the first row shows that it does."""
    heads = opened = 0
    closed = asyncio.Queue()

    async def serve(reader, writer):
        nonlocal heads, opened
        opened += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            heads += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            heads += 1
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        closed.put_nowait(None)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"
        async with guarded_session(guard_of(url, local=True)) as session:
            for _ in range(2):
                outgoing = Outgoing(method="PUT", url=url, headers={}, repeatable=repeatable)
                await round_trip(session, outgoing, Patience(total_s=5))
        for _ in range(opened):
            await closed.get()
    assert heads == requests


def certificate(folder):
    """A certificate that nobody trusts, for this machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    day = dt.timedelta(days=1)
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - day).not_valid_after(now + 4_000 * day)
    signed = made.sign(key, hashes.SHA256())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path = folder / "server.pem"
    path.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + signed.public_bytes(pem))
    return path


async def test_a_certificate_that_nobody_trusts_gets_nothing(tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    heads = []

    async def serve(reader, writer):
        heads.append(await reader.read(1))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"
        lost = await call(guard_of(url, local=True), url)
    assert lost == NoAnswer(sent=False, detail="ClientConnectorCertificateError")
    assert heads == []


async def test_what_speaks_no_tls_gets_nothing(service):
    port, seen = service
    url = f"https://127.0.0.1:{port}/x"
    lost = await call(guard_of(url, local=True), url)
    assert isinstance(lost, NoAnswer)
    assert not lost.sent
    assert not lost.guarded
    assert seen == []
