"""The strict reading of ID tokens and what they must say."""

import base64
import json

import pytest
from made_tokens import AUDIENCE, EMAIL, MARKER, NOW_S, SUB, b64, claims, header, signed, stripped

from gateway.identity.token import Claims, Expected, checked, decoded_base64url, parsed
from gateway.terms.limits import TOKEN_BYTES_MAX
from gateway.terms.verdict import Kind, RefusedError

EXPECTED = Expected(audience=AUDIENCE)


def refusal_of(call, *arguments):
    with pytest.raises(RefusedError) as caught:
        call(*arguments)
    refusal = caught.value.refusal
    assert refusal.kind is Kind.UNAUTHENTICATED
    assert refusal.sentence.endswith(".")
    return refusal


def test_reads_a_token_as_google_makes_it():
    text = signed(claims())
    token = parsed(text)
    assert token.kid == "key-1"
    assert token.signed.decode() == text.rpartition(".")[0]
    assert len(token.signature) == 256
    assert checked(token.payload, EXPECTED, NOW_S) == Claims(subject=SUB, email=EMAIL, expires_unix_s=NOW_S + 3540)


def test_knows_the_removed_signature():
    assert parsed(stripped(signed(claims()))).signature is None


@pytest.mark.parametrize("marker", [MARKER.lower()[:-1] + "0", MARKER[:-1] + "A", MARKER + "A"])
def test_only_the_exact_marker_is_a_removed_signature(marker):
    token = parsed(stripped(signed(claims())).replace(MARKER, marker))
    assert token.signature == decoded_base64url(marker)


def test_typ_may_be_absent():
    assert parsed(signed(claims(), header(typ=None))).kid == "key-1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        "a.b",
        "a.b.c.d",
        "ya29.a0AfH6SMBx",
        signed(claims()) + "\n",
        signed(claims()) + "=",
        " " + signed(claims()),
        signed(claims()).replace(".", "\u2024"),
        signed(claims()).replace("e", "\u0435", 1),
        signed("[]"),
        signed("7"),
        signed(json.dumps(claims()) + "{}"),
        signed('{"a":' * 100 + "1" + "}" * 100),
        signed(claims(), "null"),
        signed(claims(), header(kid=7)),
        signed(claims(), header(kid="")),
        signed(claims(), header(kid=None)),
        signed(claims(), header(kid="k" * 300)),
        b64(b"\xff\xfe") + "." + b64(b"{}") + ".AAAA",
    ],
)
def test_refuses_what_has_not_the_form(text):
    assert refusal_of(parsed, text).reason == "identity.malformed"


def test_refuses_a_long_token():
    assert refusal_of(parsed, "a" * (TOKEN_BYTES_MAX + 1)).reason == "identity.too_long"
    assert refusal_of(parsed, "a" * TOKEN_BYTES_MAX).reason == "identity.malformed"


def test_refuses_an_empty_signature():
    assert refusal_of(parsed, signed(claims()).rpartition(".")[0] + ".").reason == "identity.signature"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"alg": "none"}, "identity.algorithm"),
        ({"alg": "rs256"}, "identity.algorithm"),
        ({"alg": ["RS256"]}, "identity.algorithm"),
        ({"alg": None}, "identity.algorithm"),
        ({"alg": "RS512"}, "identity.algorithm"),
        ({"typ": "at+jwt"}, "identity.type"),
        ({"typ": "jwt"}, "identity.type"),
        ({"typ": 1}, "identity.type"),
        ({"crit": []}, "identity.critical"),
        ({"crit": ["b64"], "b64": False}, "identity.critical"),
    ],
)
def test_refuses_headers(change, reason):
    assert refusal_of(parsed, signed(claims(), header(**change))).reason == reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"iss": "https://accounts.google.com/"}, "identity.issuer"),
        ({"iss": "https://evil.example"}, "identity.issuer"),
        ({"iss": None}, "identity.claims"),
        ({"iss": ["https://accounts.google.com"]}, "identity.claims"),
        ({"aud": AUDIENCE + "/"}, "identity.audience"),
        ({"aud": AUDIENCE.upper()}, "identity.audience"),
        ({"aud": ""}, "identity.audience"),
        ({"aud": None}, "identity.audience"),
        ({"aud": [AUDIENCE]}, "identity.audience"),
        ({"aud": {"0": AUDIENCE}}, "identity.audience"),
        ({"email_verified": False}, "identity.email_unverified"),
        ({"email_verified": "true"}, "identity.email_unverified"),
        ({"email_verified": 1}, "identity.email_unverified"),
        ({"email_verified": None}, "identity.email_unverified"),
        ({"email": None}, "identity.claims"),
        ({"email": ""}, "identity.claims"),
        ({"email": "sa agent@x"}, "identity.claims"),
        ({"email": "sa@x@y"}, "identity.claims"),
        ({"email": "s\u0430@demo.iam"}, "identity.claims"),
        ({"sub": ""}, "identity.claims"),
        ({"sub": None}, "identity.claims"),
        ({"sub": 104029292853099978293}, "identity.claims"),
        ({"sub": SUB + "\n"}, "identity.claims"),
        ({"sub": "\u0661\u0662"}, "identity.claims"),
        ({"azp": "other.apps.googleusercontent.com"}, "identity.authorized_party"),
        ({"azp": 1}, "identity.claims"),
        ({"act": {"sub": "1"}}, "identity.delegated"),
        ({"exp": None}, "identity.claims"),
        ({"iat": None}, "identity.claims"),
        ({"exp": str(NOW_S + 60)}, "identity.claims"),
        ({"exp": NOW_S + 60.0}, "identity.claims"),
        ({"exp": True}, "identity.claims"),
        ({"nbf": "0"}, "identity.claims"),
        ({"nbf": NOW_S + 61}, "identity.not_yet_valid"),
        ({"iat": NOW_S + 61, "exp": NOW_S + 3600}, "identity.not_yet_valid"),
        ({"iat": NOW_S - 3600, "exp": NOW_S - 60}, "identity.expired"),
        ({"exp": 10**30}, "identity.lifetime"),
        ({"iat": NOW_S, "exp": NOW_S}, "identity.lifetime"),
        ({"iat": NOW_S - 10, "exp": NOW_S - 10 + 86_401}, "identity.lifetime"),
    ],
)
def test_refuses_claims(change, reason):
    payload = parsed(signed(claims(**change))).payload
    assert refusal_of(checked, payload, EXPECTED, NOW_S).reason == reason


@pytest.mark.parametrize(
    "change",
    [
        {"iat": NOW_S + 60, "exp": NOW_S + 3660},
        {"iat": NOW_S - 3600, "exp": NOW_S - 59},
        {"iat": NOW_S - 10, "exp": NOW_S - 10 + 86_400},
        {"nbf": NOW_S + 60},
        {"azp": None},
        {"azp": EMAIL},
        {"iss": "accounts.google.com"},
        {"google": {"compute_engine": {"zone": "b"}}},
    ],
)
def test_takes_claims_at_the_bound(change):
    assert checked(parsed(signed(claims(**change))).payload, EXPECTED, NOW_S).subject == SUB


def test_skew_is_what_is_configured():
    payload = parsed(signed(claims(iat=NOW_S - 3600, exp=NOW_S))).payload
    assert checked(payload, EXPECTED, NOW_S).email == EMAIL
    assert refusal_of(checked, payload, Expected(audience=AUDIENCE, skew_s=0), NOW_S).reason == "identity.expired"


@pytest.mark.parametrize(
    "settings", [{"audience": ""}, {"audience": "x", "skew_s": 61}, {"audience": "x", "skew_s": -1}]
)
def test_expectations_that_would_let_anything_in_cannot_be_made(settings):
    with pytest.raises(ValueError, match="configure"):
        Expected(**settings)


def test_base64url_has_one_spelling():
    assert decoded_base64url("QQ") == b"A"
    assert base64.urlsafe_b64decode("QR==") == b"A"  # what a lenient reader makes of it
    for other in ("QR", "QQ==", "Q Q", "QQ\n", "Q", "+/8", ""):
        with pytest.raises(ValueError, match="base64url"):
            decoded_base64url(other)
