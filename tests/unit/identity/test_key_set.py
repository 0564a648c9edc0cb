"""The strict reading of key sets."""

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from made_tokens import OTHER_KEY, b64, claims, jwk, jwk_set, signed

from gateway.identity.key_set import DOCUMENT_BYTES_MAX, KeySetRefusedError, read_key_set
from gateway.identity.token import parsed

SMALL = rsa.generate_private_key(public_exponent=65537, key_size=1024)


def test_reads_keys_and_verifies_with_them():
    keys = read_key_set(jwk_set(jwk(), jwk(OTHER_KEY, kid="key-2")))
    token = parsed(signed(claims()))
    assert keys["key-1"].signed(token.signed, token.signature)
    assert not keys["key-2"].signed(token.signed, token.signature)
    assert not keys["key-1"].signed(token.signed + b"x", token.signature)
    assert not keys["key-1"].signed(token.signed, token.signature[:-1])


@pytest.mark.parametrize("change", [{"use": "enc"}, {"use": None}, {"alg": "RS512"}, {"alg": None}, {"kty": "EC"}])
def test_passes_over_keys_for_other_things(change):
    assert set(read_key_set(jwk_set(jwk(kid="other", **change), jwk()))) == {"key-1"}


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys":{}}',
        b'{"keys":[]}',
        b'{"keys":[1]}',
        b'{"keys":[],"keys":[]}',
        b"\xff",
        jwk_set(jwk(use="enc")),
        jwk_set(jwk(), jwk(OTHER_KEY)),
        jwk_set(jwk(kid=None)),
        jwk_set(jwk(kid="")),
        jwk_set(jwk(kid=1)),
        jwk_set(jwk(n=None)),
        jwk_set(jwk(e=65537)),
        jwk_set(jwk(n="=")),
        jwk_set(jwk(e=b64(b"\x03"))),
        jwk_set(jwk(e=b64(b"\x01\x00\x00"))),
        jwk_set(jwk(SMALL)),
        jwk_set(jwk(n=b64(b"\xff" * 1025))),
        jwk_set(*[jwk(kid=str(number)) for number in range(65)]),
        jwk_set(jwk()) + b" " * DOCUMENT_BYTES_MAX,
    ],
)
def test_refuses_sets_that_cannot_be_relied_upon(document):
    with pytest.raises(KeySetRefusedError):
        read_key_set(document)


def test_a_set_cannot_be_changed():
    keys = read_key_set(jwk_set(jwk()))
    with pytest.raises(TypeError):
        keys["mine"] = keys["key-1"]
