"""From headers to a registered caller."""

import pytest
from made_tokens import (
    AUDIENCE,
    EMAIL,
    KEY,
    NOW_S,
    OTHER_KEY,
    SUB,
    SetClock,
    claims,
    header,
    jwk,
    jwk_set,
    signed,
    stripped,
)

from gateway.identity.google import GoogleIdentity, GoogleIdentityConfig
from gateway.identity.jwks import KeysUnavailableError
from gateway.identity.key_set import read_key_set
from gateway.identity.registry import RegisteredAgent, Registry
from gateway.identity.token import Expected
from gateway.terms.caller import Caller, Credentials
from gateway.terms.ids import AgentName, Principal, TeamName, TenantName
from gateway.terms.verdict import Kind

AGENT = RegisteredAgent(
    agent=AgentName("desk-agent"),
    team=TeamName("desk"),
    tenant=TenantName("demo"),
    role="trader",
    sub=Principal(SUB),
)


class HeldKeys:
    """Keys without a network; counts how often a signature was to be verified."""

    def __init__(self, *members):
        self.keys = read_key_set(jwk_set(*(members or (jwk(),))))
        self.asked = 0
        self.available = True

    async def key(self, kid):
        self.asked += 1
        if not self.available:
            raise KeysUnavailableError("the network is down at 10.0.0.1", retry_after_ms=5_000)
        return self.keys.get(kid)


def identity(*, edge=False, keys=None, clock=None, agents=(AGENT,), remembered=4):
    config = GoogleIdentityConfig(
        expected=Expected(audience=AUDIENCE), edge_enforced=edge, tokens_remembered_max=remembered
    )
    return GoogleIdentity(config, keys or HeldKeys(), Registry(agents), clock or SetClock())


def bearer(token):
    return Credentials(authorization=(f"Bearer {token}",))


async def test_a_signed_token_gives_the_registered_agent():
    caller = await identity().identify(bearer(signed(claims())))
    assert isinstance(caller, Caller)
    assert (caller.agent, caller.principal, caller.email) == ("desk-agent", SUB, EMAIL)


@pytest.mark.parametrize("edge", [True, False])
async def test_a_wrong_signature_is_refused_with_and_without_an_edge(edge):
    refusal = await identity(edge=edge).identify(bearer(signed(claims(), key=OTHER_KEY)))
    assert (refusal.kind, refusal.reason) == (Kind.UNAUTHENTICATED, "identity.signature")


async def test_a_stripped_token_counts_only_behind_an_edge():
    token = stripped(signed(claims()))
    keys = HeldKeys()
    caller = await identity(edge=True, keys=keys).identify(Credentials(serverless_authorization=(f"Bearer {token}",)))
    assert caller.agent == "desk-agent"
    assert keys.asked == 0
    refusal = await identity(edge=False).identify(bearer(token))
    assert (refusal.kind, refusal.reason) == (Kind.UNAUTHENTICATED, "identity.signature_removed")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"aud": "https://other"}, "identity.audience"),
        ({"iat": NOW_S - 7200, "exp": NOW_S - 3600}, "identity.expired"),
        ({"email_verified": None}, "identity.email_unverified"),
        ({"iss": "https://evil.example"}, "identity.issuer"),
    ],
)
async def test_a_stripped_token_must_say_all_the_same(change, reason):
    refusal = await identity(edge=True).identify(bearer(stripped(signed(claims(**change)))))
    assert refusal.reason == reason


async def test_an_unknown_key_is_refused():
    refusal = await identity().identify(bearer(signed(claims(), header(kid="key-9"))))
    assert (refusal.kind, refusal.reason) == (Kind.UNAUTHENTICATED, "identity.unknown_key")


async def test_without_keys_nobody_gets_in_and_nobody_learns_why():
    keys = HeldKeys()
    keys.available = False
    refusal = await identity(keys=keys).identify(bearer(signed(claims())))
    assert (refusal.kind, refusal.reason, refusal.retry_after_ms) == (
        Kind.UNAVAILABLE,
        "identity.keys_unavailable",
        5_000,
    )
    assert "10.0.0.1" not in refusal.sentence


async def test_an_unregistered_account_is_forbidden():
    refusal = await identity(agents=()).identify(bearer(signed(claims())))
    assert (refusal.kind, refusal.reason) == (Kind.FORBIDDEN, "identity.unregistered")


async def test_a_verified_token_is_verified_once():
    keys = HeldKeys()
    station = identity(keys=keys)
    for _ in range(3):
        assert isinstance(await station.identify(bearer(signed(claims()))), Caller)
    assert keys.asked == 1


async def test_a_refused_token_is_verified_again():
    keys = HeldKeys()
    station = identity(keys=keys)
    forged = bearer(signed(claims(), key=OTHER_KEY))
    assert (await station.identify(forged)).reason == "identity.signature"
    assert (await station.identify(forged)).reason == "identity.signature"
    assert keys.asked == 2


@pytest.mark.parametrize("edge", [True, False])
async def test_memory_ends_with_the_token(edge):
    clock, keys = SetClock(), HeldKeys()
    station = identity(edge=edge, keys=keys, clock=clock)
    token = signed(claims())
    credentials = bearer(stripped(token) if edge else token)
    assert isinstance(await station.identify(credentials), Caller)
    clock.pass_s(3539)
    assert isinstance(await station.identify(credentials), Caller)
    assert keys.asked == (0 if edge else 1)
    clock.pass_s(1)
    assert isinstance(await station.identify(credentials), Caller)
    assert keys.asked == (0 if edge else 2), "within the skew it is verified each time"
    clock.pass_s(60)
    assert (await station.identify(credentials)).reason == "identity.expired"


async def test_memory_is_bounded_and_forgets_the_least_used():
    keys = HeldKeys()
    station = identity(keys=keys, remembered=2)
    first, second, third = (bearer(signed(claims(exp=NOW_S + 1000 + number))) for number in range(3))
    for credentials in (first, second, first, third, first):
        assert isinstance(await station.identify(credentials), Caller)
    assert keys.asked == 3
    await station.identify(second)
    assert keys.asked == 4


async def test_removing_an_agent_works_at_once():
    station = identity()
    credentials = bearer(signed(claims()))
    assert isinstance(await station.identify(credentials), Caller)
    station.register(Registry([]))
    assert (await station.identify(credentials)).reason == "identity.unregistered"


async def test_a_remembered_signature_does_not_vouch_for_another_one():
    """The stripped form of a token that was verified is another text: it is not remembered as verified."""
    station = identity(edge=False)
    token = signed(claims(), key=KEY)
    assert isinstance(await station.identify(bearer(token)), Caller)
    assert (await station.identify(bearer(stripped(token)))).reason == "identity.signature_removed"


async def test_bytes_that_are_no_text_are_a_refusal():
    refusal = await identity().identify(bearer("\udcff.\udcff.\udcff"))
    assert refusal.reason == "identity.malformed"
