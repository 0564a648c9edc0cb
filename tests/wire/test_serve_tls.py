"""A port with a certificate of its own: gRPC by grpcio, HTTP/1.1 and HTTP/2 by curl, and what is refused."""

import asyncio
import datetime as dt
import ipaddress
import shutil

import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from wire_clients import stub

from gateway.assembly.tls import CertificateError, server_context
from generated.agentic.gateway.v1 import ListModelsRequest
from generated.grpc.health.v1 import HealthCheckRequest
from generated.grpc.health.v1 import HealthCheckResponseServingStatus as Serving
from localcloud.demo.town import Plan, built


def pem(key, passphrase=None):
    hidden = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)


@pytest.fixture(scope="module")
def key():
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory, key):
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    folder, now = tmp_path_factory.mktemp("tls"), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a gateway")])
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "chain.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(pem(key))
    return folder / "chain.pem", folder / "key.pem"


@pytest.fixture
async def town(tmp_path, certificate):
    chain, key = certificate
    table = f'[tls]\ncertificate = "{chain}"\nkey = "{key}"\n'
    async with built(tmp_path, Plan(with_agent=False, with_door=False, more_configuration=table)) as made:
        yield made


async def curl(*words):
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "--max-time", "10", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_grpc_curl_and_the_drain_over_tls(town, certificate):
    chain, _ = certificate
    assert town.gateway_url.startswith("https://127.0.0.1:")
    address = town.gateway_url.removeprefix("https://")
    trusted = grpc.ssl_channel_credentials(chain.read_bytes())
    async with grpc.aio.secure_channel(address, trusted) as channel:
        health = await stub(channel, "Check")(HealthCheckRequest(), timeout=5)
        assert health.status is Serving.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub(channel, "ListModels")(ListModelsRequest(), timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    if shutil.which("curl"):
        for version in ("--http1.1", "--http2"):
            words = (
                "--cacert",
                str(chain),
                version,
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                f"{town.gateway_url}/readyz",
            )
            assert await curl(*words) == (0, "200", "")
        code, _, said = await curl(f"{town.gateway_url}/readyz")
        assert code != 0
        assert "certificate" in said
        code, out, _ = await curl(f"http://{address}/readyz")
        assert (code != 0, out) == (True, "")
    assert await town.processes.stop(town.gateway) == 0


def test_what_is_no_certificate_is_told_and_nothing_of_the_key_is(tmp_path, certificate, key):
    chain, good = certificate
    other, hidden, text = tmp_path / "other.pem", tmp_path / "hidden.pem", tmp_path / "text.pem"
    other.write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    hidden.write_bytes(pem(key, b"a passphrase"))
    text.write_text("precious")
    for pair, said in (
        ((chain, tmp_path / "none.pem"), "cannot read"),
        ((chain, other), "key values mismatch"),
        ((chain, hidden), "without a passphrase"),
        ((text, good), "Write a PEM chain"),
    ):
        with pytest.raises(CertificateError, match=said) as caught:
            server_context(*pair)
        assert "precious" not in str(caught.value)
