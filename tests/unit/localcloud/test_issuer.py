"""The issuer: what Google's ID tokens look like, keys that rotate, and access tokens that only it understands."""

import json

import aiohttp
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from localcloud.google import AccountError, GoogleConfig, Issuer, LocalGoogle, ServiceAccount, forgery
from localcloud.google.jws import claims_of, from_base64url, header_of

NOW = 1_790_000_000
AUDIENCE = "https://gateway-123.us-central1.run.app"
ACCOUNT = ServiceAccount.of("sa-agent@local-project.iam.gserviceaccount.com")


@pytest.fixture
def issuer():
    return Issuer(clock=lambda: NOW + 0.7)


def signed_by(token, key):
    head, payload, signature = token.split(".")
    try:
        key.verify(from_base64url(signature), f"{head}.{payload}".encode(), padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def public(jwk):
    number = {name: int.from_bytes(from_base64url(jwk[name]), "big") for name in "en"}
    return rsa.RSAPublicNumbers(**number).public_key()


def test_an_id_token_has_googles_claims_and_lasts_an_hour(issuer):
    assert claims_of(issuer.id_token(ACCOUNT, AUDIENCE)) == {
        "iss": "https://accounts.google.com",
        "aud": AUDIENCE,
        "azp": ACCOUNT.unique_id,
        "sub": ACCOUNT.unique_id,
        "email": ACCOUNT.email,
        "email_verified": True,
        "iat": NOW,
        "exp": NOW + 3600,
    }


def test_an_account_has_one_number_of_21_digits_in_every_run():
    assert ACCOUNT.unique_id == ServiceAccount.of(ACCOUNT.email).unique_id
    assert ACCOUNT.unique_id.isdecimal()
    assert len(ACCOUNT.unique_id) == 21
    assert ACCOUNT.unique_id != ServiceAccount.of("sa-gateway@local-project.iam.gserviceaccount.com").unique_id


@pytest.mark.parametrize("email", ["", "nobody", "A@b", "a b@c", "a@b\n", "@b", "a@"])
def test_what_is_no_address_is_no_account(email):
    with pytest.raises(AccountError, match="lower-case e-mail"):
        ServiceAccount.of(email)


def test_a_token_is_signed_by_the_key_that_its_header_names(issuer):
    token = issuer.id_token(ACCOUNT, AUDIENCE)
    (jwk,) = issuer.jwks()["keys"]
    assert header_of(token) == {"alg": "RS256", "kid": jwk["kid"], "typ": "JWT"}
    assert (jwk["alg"], jwk["kty"], jwk["use"], jwk["e"]) == ("RS256", "RSA", "sig", "AQAB")
    assert public(jwk).key_size == 2048
    assert signed_by(token, public(jwk))


def test_the_certificates_hold_the_same_keys(issuer):
    ((kid, pem),) = issuer.certificates().items()
    certificate = x509.load_pem_x509_certificate(pem.encode())
    assert certificate.public_key() == public(issuer.jwks()["keys"][0])
    assert kid == issuer.key.kid
    assert certificate.not_valid_before_utc.timestamp() < NOW < certificate.not_valid_after_utc.timestamp()


def test_rotation_signs_with_a_new_key_and_keeps_at_most_three(issuer):
    first = issuer.key.kid
    old = issuer.id_token(ACCOUNT, AUDIENCE)
    issuer.rotate()
    kids = [jwk["kid"] for jwk in issuer.jwks()["keys"]]
    assert kids == [issuer.key.kid, first]
    assert header_of(issuer.id_token(ACCOUNT, AUDIENCE))["kid"] == kids[0]
    assert signed_by(old, public(issuer.jwks()["keys"][1]))
    issuer.rotate()
    issuer.rotate()
    assert len(issuer.jwks()["keys"]) == 3
    assert first not in issuer.certificates()
    issuer.rotate(keep_old=False)
    assert [jwk["kid"] for jwk in issuer.jwks()["keys"]] == [issuer.key.kid]


def test_an_access_token_is_opaque_and_known_until_it_expires():
    now = [float(NOW)]
    issuer = Issuer(clock=lambda: now[0])
    issued = issuer.access_token(ACCOUNT, ("scope-a", "scope-b"))
    assert issued.token.startswith("ya29.")
    assert ACCOUNT.email not in issued.token
    known = issuer.introspect(issued.token)
    assert (known.email, known.scopes, known.expiry) == (ACCOUNT.email, ("scope-a", "scope-b"), NOW + 3600)
    now[0] += 3600
    assert issuer.introspect(issued.token) is None
    assert issuer.introspect("ya29.made-up") is None


def test_the_memory_of_access_tokens_is_bounded(issuer):
    first = issuer.access_token(ACCOUNT)
    for _ in range(4096):
        last = issuer.access_token(ACCOUNT)
    assert issuer.introspect(first.token) is None
    assert issuer.introspect(last.token) is not None
    assert len(issuer._access) == 4096


def test_each_forgery_is_what_it_says(issuer):
    token = issuer.id_token(ACCOUNT, AUDIENCE)
    key = public(issuer.jwks()["keys"][0])
    old = forgery.expired(issuer, ACCOUNT, AUDIENCE, seconds_ago=60)
    assert claims_of(old)["exp"] == NOW - 60
    assert signed_by(old, key)
    assert claims_of(forgery.not_yet_valid(issuer, ACCOUNT, AUDIENCE, seconds_ahead=90))["iat"] == NOW + 90
    changed = forgery.altered(token, email="boss@corp.example", email_verified=None)
    assert claims_of(changed)["email"] == "boss@corp.example"
    assert "email_verified" not in claims_of(changed)
    assert not signed_by(changed, key)
    assert header_of(forgery.unsigned(token))["alg"] == "none"
    assert forgery.unsigned(token).endswith(".")
    assert header_of(forgery.signed_with_public_key(issuer, token))["alg"] == "HS256"
    stranger = forgery.signed_by_stranger(token, embed_key=True)
    assert header_of(stranger)["kid"] == issuer.key.kid
    assert signed_by(stranger, public(header_of(stranger)["jwk"]))
    assert not signed_by(stranger, key)
    twice = forgery.claimed_twice(issuer, token, "sub", "other")
    assert from_base64url(twice.split(".")[1]).count(b'"sub"') == 2
    assert signed_by(twice, key)
    assert forgery.stripped(token) == f"{token.rpartition('.')[0]}.SIGNATURE_REMOVED_BY_GOOGLE"
    assert forgery.made_up(issuer, ACCOUNT, AUDIENCE).endswith(".SIGNATURE_REMOVED_BY_GOOGLE")


@pytest.fixture
async def google():
    async with LocalGoogle(GoogleConfig(identities={"agent": ACCOUNT.email}, keys_max_age=77)) as google:
        yield google


@pytest.fixture
async def session(google):
    async with aiohttp.ClientSession() as session:
        yield session


async def test_the_keys_are_published_in_both_forms_with_an_age(google, session):
    async with session.get(google.certs_url) as reply:
        assert await reply.json() == google.issuer.jwks()
        assert "max-age=77" in reply.headers["Cache-Control"]
    async with session.get(google.certs_v1_url) as reply:
        assert list(await reply.json()) == [google.issuer.key.kid]
        assert "max-age=77" in reply.headers["Cache-Control"]


async def test_another_process_can_introspect(google, session):
    issued = google.issuer.access_token(ACCOUNT)
    async with session.get(google.introspect_url, params={"token": issued.token}) as reply:
        answer = await reply.json()
    assert answer == {
        "active": True,
        "email": ACCOUNT.email,
        "scopes": ["https://www.googleapis.com/auth/cloud-platform"],
        "expiry": issued.expiry,
    }
    async with session.get(google.introspect_url, params={"token": "ya29.no"}) as reply:
        assert await reply.json() == {"active": False}
    async with session.get(google.introspect_url) as reply:
        assert reply.status == 400


async def test_rotation_from_outside(google, session):
    before = google.issuer.key.kid
    async with session.post(f"{google.issuer_url}/admin/rotate", params={"keep_old": "false"}) as reply:
        after = (await reply.json())["kid"]
    assert [jwk["kid"] for jwk in google.issuer.jwks()["keys"]] == [after]
    assert after != before
    async with session.post(f"{google.issuer_url}/admin/rotate", params={"keep_old": "maybe"}) as reply:
        assert reply.status == 400


@pytest.mark.parametrize(
    ("order", "word"),
    [
        (b"{", "malformed|truncated"),
        (b'{"identity": "agent", "status": 200}', "400 to 599"),
        (b'{"identity": "agent", "statsu": 503}', "statsu"),
        (b'{"identity": "nobody", "status": 503}', "nobody"),
        (b'{"identity": "agent", "times": -1}', "times"),
        (b'{"identity": "agent", "latency_seconds": 61}', "60 seconds"),
    ],
)
async def test_a_fault_that_makes_no_sense_is_a_400_with_a_sentence(google, session, order, word):
    async with session.post(f"{google.issuer_url}/admin/faults", data=order) as reply:
        assert reply.status == 400
        sentence = json.loads(await reply.text())["error"]["message"]
    assert any(part in sentence for part in word.split("|")), sentence


@pytest.mark.parametrize(
    "wrong",
    [{"identities": {"Agent": ACCOUNT.email}}, {"identities": {}, "keys_max_age": -1}, {"identities": {"a": "x"}}],
)
def test_a_google_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(AccountError):
        LocalGoogle(GoogleConfig(**wrong))
