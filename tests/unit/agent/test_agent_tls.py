import asyncio
import contextlib
import datetime as dt
import ipaddress
import ssl

import pytest
from agent_parts import StandIn, patience, standing
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.client import CallReport, GatewayClient, GatewayError


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """The paths of a certificate for 127.0.0.1 and of its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a gateway")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


@contextlib.asynccontextmanager
async def tls_before(gateway, certificate, protocols):
    """An edge that ends TLS and hands the bytes on; yields its URL."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    context.set_alpn_protocols(protocols)

    async def pump(reader, writer):
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    async def accept(reader, writer):
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.01)  # for both pumps to see the end


async def test_a_gateway_behind_tls(certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    async with (
        standing(StandIn()) as gateway,
        tls_before(gateway, certificate, ["h2"]) as url,
        GatewayClient(url, connections=1, patience=patience(attempts=1)) as client,
    ):
        operation = await client.execute_tool("place_order", {})
    assert operation.id == "op-1"


async def test_a_certificate_that_nobody_vouches_for_is_refused_once(certificate):
    async with (
        standing() as gateway,
        tls_before(gateway, certificate, ["h2"]) as url,
        GatewayClient(url, connections=1, patience=patience()) as client,
    ):
        report = CallReport()
        with pytest.raises(GatewayError, match=r"The certificate of 127\.0\.0\.1:.* is not trusted: ") as caught:
            await client.execute_tool("place_order", {}, report=report)
    assert report.attempts == 1
    assert caught.value.reason == "gateway.unreachable"
    assert not caught.value.effect_unknown


async def test_a_server_without_http2_is_named_as_such(certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    async with (
        standing() as gateway,
        tls_before(gateway, certificate, ["http/1.1"]) as url,
        GatewayClient(url, connections=1, patience=patience()) as client,
    ):
        with pytest.raises(GatewayError, match="does not speak HTTP/2; check the URL"):
            await client.list_tools()
    assert gateway.service.requests["ListTools"] == []


async def test_a_host_that_does_not_exist():
    async with GatewayClient("https://no-such-host.invalid", patience=patience(attempts=1)) as client:
        with pytest.raises(GatewayError, match=r"There is no host no-such-host\.invalid"):
            await client.list_tools()
