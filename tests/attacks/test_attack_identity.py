"""Attack list, rows 1 and 4 to 10: forged, foreign and stolen ID tokens against the whole identity station.

The forgeries are built by hand, because a signing library refuses to make most of them; the keys come from a JWKS
server on a real socket.
"""

import base64
import dataclasses
import hashlib
import hmac
import json
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from gateway.identity.google import GoogleIdentity, GoogleIdentityConfig
from gateway.identity.jwks import Jwks, JwksConfig
from gateway.identity.registry import RegisteredAgent, Registry
from gateway.identity.token import Expected
from gateway.terms.caller import Caller, Credentials
from gateway.terms.ids import AgentName, Principal, TeamName, TenantName
from gateway.terms.verdict import Kind, Refusal

AUDIENCE = "https://gateway-1234.europe-west1.run.app"
NOW_S = 1_790_000_000
GOOGLE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ATTACKER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
READER = "100000000000000000001"
TRADER = "100000000000000000002"


class StandingClock:
    """Shows what the test says."""

    def __init__(self):
        self.unix_s = NOW_S

    def unix_us(self):
        return self.unix_s * 1_000_000

    def monotonic_ns(self):
        return self.unix_s * 1_000_000_000


def b64(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def public_jwk(key, **more):
    numbers = key.public_key().public_numbers()
    modulus = b64(numbers.n.to_bytes(256, "big"))
    return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "g1", "n": modulus, "e": "AQAB"} | more


def rs256(key):
    return lambda message: key.sign(message, padding.PKCS1v15(), SHA256())


def hs256(secret):
    return lambda message: hmac.new(secret, message, hashlib.sha256).digest()


def payload(sub=READER, **changes):
    said = {
        "iss": "https://accounts.google.com",
        "aud": AUDIENCE,
        "sub": sub,
        "azp": sub,
        "email": f"a{sub}@demo.iam.gserviceaccount.com",
        "email_verified": True,
        "iat": NOW_S - 60,
        "exp": NOW_S + 3540,
    }
    return {name: value for name, value in (said | changes).items() if value is not None}


def token(claims, *, sign=None, **header):
    """A token over exactly these claims (a text is taken as it is), with any header and any signature."""
    head = {"alg": "RS256", "kid": "g1", "typ": "JWT"} | header
    body = claims if isinstance(claims, str) else json.dumps(claims)
    message = b64(json.dumps(head).encode()) + "." + b64(body.encode())
    return message + "." + b64((sign or rs256(GOOGLE))(message.encode()))


class Gate:
    """The identity station with its keys, its clock and a count of what reached Google."""

    def __init__(self, url, *, edge):
        self.clock = StandingClock()
        self.keys = Jwks(JwksConfig(url=url), self.clock)
        agents = [
            RegisteredAgent(
                agent=AgentName(role),
                team=TeamName("desk"),
                tenant=TenantName("demo"),
                role=role,
                sub=Principal(sub),
            )
            for role, sub in (("reader", READER), ("trader", TRADER))
        ]
        config = GoogleIdentityConfig(expected=Expected(audience=AUDIENCE), edge_enforced=edge)
        self.station = GoogleIdentity(config, self.keys, Registry(agents), self.clock)

    async def enter(self, *authorization, serverless=()):
        return await self.station.identify(
            Credentials(
                authorization=tuple(f"Bearer {one}" for one in authorization),
                serverless_authorization=tuple(f"Bearer {one}" for one in serverless),
            )
        )

    async def refused(self, *authorization, **more):
        verdict = await self.enter(*authorization, **more)
        assert isinstance(verdict, Refusal), verdict
        assert verdict.kind is Kind.UNAUTHENTICATED
        assert not any(one[:24] in verdict.sentence for one in authorization), "a refusal never repeats a token"
        return verdict.reason


@asynccontextmanager
async def open_gate(*, edge=False):
    asked = []

    async def answer(request):
        asked.append(request)
        return web.json_response({"keys": [public_jwk(GOOGLE)]}, headers={"cache-control": "max-age=20000"})

    app = web.Application()
    app.router.add_get("/certs", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    gate = Gate(f"http://127.0.0.1:{runner.addresses[0][1]}/certs", edge=edge)
    try:
        await gate.keys.warm()
        gate.asked = asked
        yield gate
    finally:
        await gate.keys.close()
        await runner.cleanup()


@pytest.fixture
async def gate():
    async with open_gate() as opened:
        yield opened


@pytest.fixture
async def edge_gate():
    async with open_gate(edge=True) as opened:
        yield opened


async def test_the_gate_opens_for_the_real_one(gate):
    caller = await gate.enter(token(payload()))
    assert isinstance(caller, Caller)
    assert caller.role == "reader"


@pytest.mark.parametrize(
    "said",
    [
        {"role": "trader"},
        {"agent": "trader", "team": "root", "tenant": "other"},
        {"principal": TRADER},
        {"email": f"a{TRADER}@demo.iam.gserviceaccount.com", "azp": READER},
        {"https://gateway/claims": {"role": "trader", "tools": ["*"]}},
    ],
)
async def test_row_1_nothing_but_the_number_says_who_calls(gate, said):
    """Row 1, agent-supplied identity: what a token says beyond `sub` changes no right."""
    caller = await gate.enter(token(payload(**said)))
    assert (caller.agent, caller.role, caller.tenant, caller.principal) == ("reader", "reader", "demo", READER)


async def test_row_1_no_other_header_reaches_identity():
    """Row 1: `x-agent-id`, `x-goog-authenticated-user-*` and `x-forwarded-*` have no way in."""
    fields = {field.name for field in dataclasses.fields(Credentials)}
    assert fields == {"authorization", "serverless_authorization"}


async def test_row_1_a_second_token_lends_nothing(edge_gate):
    """Row 1: the edge checked the serverless header only; a forged token beside it is not used but refused."""
    own = token(payload()).rpartition(".")[0] + ".SIGNATURE_REMOVED_BY_GOOGLE"
    forged = token(payload(TRADER), sign=rs256(ATTACKER)).rpartition(".")[0] + ".SIGNATURE_REMOVED_BY_GOOGLE"
    assert await edge_gate.refused(forged, serverless=(own,)) == "identity.two_tokens"
    assert await edge_gate.refused(own, forged) == "identity.duplicate_header"
    assert (await edge_gate.enter(serverless=(own,))).role == "reader"


PUBLIC_KEY_TEXTS = [
    GOOGLE.public_key().public_bytes(encoding, form)
    for encoding, form in (
        (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        (serialization.Encoding.PEM, serialization.PublicFormat.PKCS1),
        (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
    )
]


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("signature", ["", "AA"])
async def test_row_4_alg_none(gate, alg, signature):
    """Row 4: no signature is no token, however `alg` says it."""
    message = token(payload(TRADER), alg=alg).rpartition(".")[0]
    assert await gate.refused(f"{message}.{signature}") == "identity.algorithm"


@pytest.mark.parametrize("secret", PUBLIC_KEY_TEXTS)
async def test_row_4_the_public_key_as_a_secret(gate, secret):
    """Row 4: HS256 with Google's public key as the shared secret, announced or passed off as RS256."""
    assert await gate.refused(token(payload(TRADER), sign=hs256(secret), alg="HS256")) == "identity.algorithm"
    assert await gate.refused(token(payload(TRADER), sign=hs256(secret))) == "identity.signature"


@pytest.mark.parametrize("alg", ["RS384", "RS512", "PS256", "ES256", "EdDSA", "rs256", 256, None, ["RS256"]])
async def test_row_4_other_algorithms(gate, alg):
    """Row 4: even with a good RS256 signature, `alg` must say RS256."""
    assert await gate.refused(token(payload(TRADER), alg=alg)) == "identity.algorithm"


async def test_row_4_no_signature_and_the_edges_marker(gate, edge_gate):
    """Row 4: an empty signature is refused even behind an edge; the edge's marker counts only there."""
    message = token(payload(TRADER), sign=rs256(ATTACKER)).rpartition(".")[0]
    assert await edge_gate.refused(message + ".") == "identity.signature"
    assert await gate.refused(message + ".SIGNATURE_REMOVED_BY_GOOGLE") == "identity.signature_removed"
    assert await edge_gate.refused(message + "." + b64(b"x" * 256)) == "identity.signature"


@pytest.mark.parametrize(
    "header",
    [
        {"jwk": public_jwk(ATTACKER)},
        {"jwk": public_jwk(ATTACKER), "kid": "g1"},
        {"jku": "http://127.0.0.1:9/keys"},
        {"x5u": "http://127.0.0.1:9/cert"},
        {"x5c": ["MIIB"]},
    ],
)
async def test_row_5_keys_in_the_header(gate, header):
    """Row 5: a key or an address that the token brings along is not looked at."""
    assert await gate.refused(token(payload(TRADER), sign=rs256(ATTACKER), **header)) == "identity.signature"
    assert len(gate.asked) == 1


@pytest.mark.parametrize(
    "kid", ["../../../../dev/null", "g1' OR '1'='1", "http://127.0.0.1:9/certs", "__class__", "G1", "g1 ", "g2"]
)
async def test_row_5_the_key_id_is_only_a_name(gate, kid):
    """Row 5: `kid` is looked up in our own set and nowhere else, and one look at Google's must do for a while."""
    gate.clock.unix_s += 31
    for _ in range(20):
        forged = token(payload(TRADER), sign=rs256(ATTACKER), kid=kid)
        assert await gate.refused(forged) == "identity.unknown_key"
    assert len(gate.asked) == 2


async def test_row_5_a_flood_of_key_ids_does_not_reach_google(gate):
    """Row 5: refetching for unknown ids is rate-limited."""
    for number in range(100):
        assert await gate.refused(token(payload(), kid=f"new-{number}")) == "identity.unknown_key"
    assert len(gate.asked) == 1
    assert (await gate.enter(token(payload()))).role == "reader"


@pytest.mark.parametrize(
    "aud",
    [
        None,
        "",
        "https://other-service.run.app",
        AUDIENCE + "/",
        AUDIENCE.upper(),
        AUDIENCE + " ",
        "32555940559.apps.googleusercontent.com",
        [AUDIENCE],
        [AUDIENCE, "https://other"],
        ["https://other", AUDIENCE],
        {AUDIENCE: True},
        True,
    ],
)
async def test_row_6_audience_confusion(gate, edge_gate, aud):
    """Row 6: a token for another service, for none, or for us among others is refused, signed or stripped."""
    foreign = token(payload(aud=aud))
    assert await gate.refused(foreign) == "identity.audience"
    stripped = foreign.rpartition(".")[0] + ".SIGNATURE_REMOVED_BY_GOOGLE"
    assert await edge_gate.refused(stripped) == "identity.audience"


@pytest.mark.parametrize(
    ("header", "claims", "reason"),
    [
        ({"typ": "at+jwt"}, {}, "identity.type"),
        ({"typ": "logout+jwt"}, {}, "identity.type"),
        ({"typ": "secevent+jwt"}, {}, "identity.type"),
        ({}, {"azp": "32555940559.apps.googleusercontent.com"}, "identity.authorized_party"),
        ({}, {"azp": TRADER}, "identity.authorized_party"),
        ({}, {"azp": [READER]}, "identity.claims"),
        ({}, {"act": {"sub": TRADER}}, "identity.delegated"),
        ({}, {"iss": "https://securetoken.google.com/demo"}, "identity.issuer"),
        ({}, {"iss": "https://sts.googleapis.com"}, "identity.issuer"),
        ({}, {"email": None, "email_verified": None}, "identity.email_unverified"),
    ],
)
async def test_row_7_other_kinds_of_token(gate, header, claims, reason):
    """Row 7: a token that Google's key signed for another purpose is not an ID token for us."""
    assert await gate.refused(token(payload(**claims), **header)) == reason


async def test_row_7_an_access_token(gate):
    """Row 7: an opaque access token is none either."""
    assert await gate.refused("ya29.c.b0Aaekm1K") == "identity.malformed"
    assert await gate.refused("ya29.a0AfH6SMBxyz") == "identity.malformed"


DOUBLED = json.dumps(payload())


@pytest.mark.parametrize(
    "text",
    [
        DOUBLED[:-1] + f', "sub": "{TRADER}"}}',
        f'{{"sub": "{TRADER}", ' + DOUBLED[1:],
        DOUBLED[:-1] + f', "\\u0073ub": "{TRADER}"}}',
        DOUBLED[:-1] + f', "exp": {NOW_S + 80000}}}',
        DOUBLED[:-1] + ', "aud": "https://other"}',
        DOUBLED[:-1] + ', "x": {"y": 1, "y": 2}}',
    ],
)
async def test_row_8_duplicate_claims(gate, text):
    """Row 8: what one reader takes first and another last is refused."""
    assert await gate.refused(token(text)) == "identity.malformed"


async def test_row_8_duplicate_header_members(gate):
    """Row 8: the same for the token's header, whose `alg` or `kid` could be read two ways."""
    head = '{"alg":"none","alg":"RS256","kid":"g1"}'
    message = b64(head.encode()) + "." + b64(json.dumps(payload()).encode())
    assert await gate.refused(message + "." + b64(rs256(GOOGLE)(message.encode()))) == "identity.malformed"


def timed(exp):
    return json.dumps(payload(exp=0)).replace('"exp": 0', f'"exp": {exp}')


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (timed(f'"{NOW_S + 60}"'), "identity.claims"),
        (timed(f"{NOW_S + 60}.0"), "identity.claims"),
        (timed("1.79e9"), "identity.claims"),
        (timed("true"), "identity.claims"),
        (timed("null"), "identity.claims"),
        (timed("[1]"), "identity.claims"),
        (timed("NaN"), "identity.malformed"),
        (timed("Infinity"), "identity.malformed"),
        (timed("1e400"), "identity.malformed"),
        (timed("9" * 400), "identity.malformed"),
        (timed("9" * 30), "identity.lifetime"),
        (timed("-1"), "identity.lifetime"),
        (json.dumps(payload(exp=None)), "identity.claims"),
        (json.dumps(payload(iat=None)), "identity.claims"),
        (json.dumps(payload(iat=str(NOW_S))), "identity.claims"),
    ],
)
async def test_row_9_times_that_are_no_times(gate, text, reason):
    """Row 9: `exp` and `iat` are whole seconds or nothing."""
    assert await gate.refused(token(text)) == reason


@pytest.mark.parametrize("crit", [["exp"], ["b64"], [], "exp", None, {}])
async def test_row_9_critical_extensions(gate, crit):
    """Row 9: whoever demands an extension demands one that we do not know."""
    assert await gate.refused(token(payload(), crit=crit)) == "identity.critical"


async def test_row_10_a_stolen_token_dies_with_its_time(gate):
    """Row 10: a replayed token is worth what it was worth, until `exp` and 60 s of skew, remembered or not."""
    stolen = token(payload())
    assert isinstance(await gate.enter(stolen), Caller)
    gate.clock.unix_s = NOW_S + 3540 + 59
    assert isinstance(await gate.enter(stolen), Caller)
    gate.clock.unix_s += 1
    assert await gate.refused(stolen) == "identity.expired"


async def test_row_10_a_token_of_tomorrow(gate):
    """Row 10: the skew is 60 s the other way, too."""
    early = token(payload(iat=NOW_S + 61, exp=NOW_S + 3661))
    assert await gate.refused(early) == "identity.not_yet_valid"
    gate.clock.unix_s += 1
    assert isinstance(await gate.enter(early), Caller)


async def test_row_10_a_token_that_would_live_for_years(gate):
    """Row 10: nobody can make a token to keep."""
    assert await gate.refused(token(payload(exp=NOW_S + 365 * 86_400))) == "identity.lifetime"


async def test_row_10_a_token_has_one_spelling(gate):
    """Row 10: the same token written differently is no second token."""
    good = token(payload())
    assert isinstance(await gate.enter(good), Caller)
    last = good[-1]
    respelled = good[:-1] + chr(ord(last) + 1)
    for other in (good + "=", good + "\n", good.replace(".", ". "), respelled):
        verdict = await gate.enter(other)
        assert isinstance(verdict, Refusal)
        assert verdict.reason in {"identity.malformed", "identity.signature"}
