"""The gateway's own certificate, for those who do not stand behind an edge that ends TLS."""

import ssl
from pathlib import Path
from typing import Final

PROTOCOLS: Final = ("h2", "http/1.1")
"""What is offered by ALPN (RFC 7301): gRPC needs the first; the bytes tell which one it is in the end."""


class CertificateError(Exception):
    """The certificate cannot be used; a sentence for the operator."""


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 and later with this certificate chain and this key, both PEM. Raises `CertificateError`."""
    for path in (certificate, key):
        try:
            path.read_bytes()
        except OSError as error:
            raise CertificateError(f"cannot read {path}: {error.strerror or error}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(list(PROTOCOLS))
    try:
        # A key with a passphrase is refused here instead of asked for: nobody sits at a server's terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        reason = (error.reason or "").lower().replace("_", " ") or "it is no PEM"
        raise CertificateError(
            f"cannot use {certificate} with {key}: {reason}. Write a PEM chain that begins with the server's own "
            "certificate, and its PEM key without a passphrase"
        ) from error
    return context
