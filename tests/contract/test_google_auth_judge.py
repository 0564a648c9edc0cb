"""google-auth, Google's own client, judges the local Google: it must accept our tokens, keys and metadata.

It reads the metadata server's address when it is imported, so it runs in a process of its own, while the local Google
answers from this one. `before_request` is never called: it would ask a Google host outside this machine.
"""

import asyncio
import json
import sys

import pytest

from localcloud.google import GoogleConfig, LocalGoogle, TokenAge, forgery
from localcloud.google.faults import Fault
from localcloud.google.jws import claims_of

AGENT = "sa-agent@local-project.iam.gserviceaccount.com"
AUDIENCE = "https://gateway-123.us-central1.run.app"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"

PRELUDE = """
import json, os, sys
import google.auth, google.auth.exceptions
import google.auth.compute_engine as compute_engine
import google.auth.transport.requests
import google.oauth2.id_token as id_token
given = json.loads(sys.argv[1])
request = google.auth.transport.requests.Request()
"""


async def judged(google, script, **given):
    """Run a script with google-auth against the agent's metadata server; returns what it printed as JSON."""
    address = google.metadata_address("agent")
    environment = {
        "GCE_METADATA_HOST": address,
        "GCE_METADATA_IP": address,
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PRELUDE + script,
        json.dumps({"audience": AUDIENCE} | given),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        async with asyncio.timeout(30):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    return json.loads(out)


@pytest.fixture
async def google():
    async with LocalGoogle(GoogleConfig(identities={"agent": AGENT}, project_id="p-1")) as google:
        yield google


async def test_id_token_credentials_of_the_metadata_server_work(google):
    shown = await judged(
        google,
        """
credentials = compute_engine.IDTokenCredentials(
    request, target_audience=given["audience"], use_metadata_identity_endpoint=True, bind_id_token=False)
credentials.refresh(request)
print(json.dumps({"token": credentials.token, "expiry": credentials.expiry.isoformat(), "valid": credentials.valid}))
""",
    )
    claims = claims_of(shown["token"])
    assert (claims["aud"], claims["email"], shown["valid"]) == (AUDIENCE, AGENT, True)
    assert google.metadata["agent"].requests["identity"] == 1


async def test_default_credentials_come_from_the_metadata_server(google):
    shown = await judged(
        google,
        """
credentials, project = google.auth.default(scopes=given["scopes"])
credentials.refresh(request)
print(json.dumps({"project": project, "kind": type(credentials).__module__, "token": credentials.token,
                  "email": credentials.service_account_email, "universe": credentials.universe_domain}))
""",
        scopes=[SCOPE],
    )
    assert (shown["project"], shown["kind"]) == ("p-1", "google.auth.compute_engine.credentials")
    assert (shown["email"], shown["universe"]) == (AGENT, "googleapis.com")
    known = google.issuer.introspect(shown["token"])
    assert (known.email, known.scopes) == (AGENT, (SCOPE,))


async def test_a_fetched_id_token_is_verified_with_both_forms_of_the_keys(google):
    pytest.importorskip("jwt", reason="google-auth reads a JWK set only with PyJWT")
    shown = await judged(
        google,
        """
token = id_token.fetch_id_token(request, given["audience"])
print(json.dumps([id_token.verify_token(token, request, audience=given["audience"], certs_url=url)
                  for url in given["urls"]]))
""",
        urls=[google.certs_v1_url, google.certs_url],
    )
    assert [claims["email"] for claims in shown] == [AGENT, AGENT]


async def test_a_fetched_id_token_is_verified_with_the_certificates(google):
    shown = await judged(
        google,
        """
token = id_token.fetch_id_token(request, given["audience"])
print(json.dumps(id_token.verify_token(token, request, audience=given["audience"], certs_url=given["url"])))
""",
        url=google.certs_v1_url,
    )
    assert (shown["iss"], shown["aud"], shown["email"]) == ("https://accounts.google.com", AUDIENCE, AGENT)
    assert shown["exp"] - shown["iat"] == 3600


async def test_tokens_after_a_rotation_and_from_before_it_are_both_verified(google):
    account = google.metadata["agent"].account
    before = google.issuer.id_token(account, AUDIENCE)
    google.issuer.rotate()
    tokens = [before, google.issuer.id_token(account, AUDIENCE)]
    shown = await judged(
        google,
        """
print(json.dumps([id_token.verify_token(token, request, audience=given["audience"], certs_url=given["url"])["sub"]
                  for token in given["tokens"]]))
""",
        tokens=tokens,
        url=google.certs_v1_url,
    )
    assert shown == [account.unique_id] * 2


async def test_google_auth_refuses_every_forgery(google):
    account, issuer = google.metadata["agent"].account, google.issuer
    token = issuer.id_token(account, AUDIENCE)
    forged = {
        "other audience": issuer.id_token(account, "https://other.run.app"),
        "expired": forgery.expired(issuer, account, AUDIENCE),
        "early": forgery.not_yet_valid(issuer, account, AUDIENCE),
        "altered": forgery.altered(token, email="boss@corp.example"),
        "unsigned": forgery.unsigned(token),
        "hmac": forgery.signed_with_public_key(issuer, token),
        "stranger": forgery.signed_by_stranger(token, embed_key=True),
        "stripped": forgery.stripped(token),
        "made up": forgery.made_up(issuer, account, AUDIENCE),
    }
    shown = await judged(
        google,
        """
def verdict(token):
    try:
        id_token.verify_token(token, request, audience=given["audience"], certs_url=given["url"])
    except ValueError as error:
        return type(error).__name__
    return "accepted"
print(json.dumps({name: verdict(token) for name, token in given["tokens"].items()}))
""",
        tokens=forged,
        url=google.certs_v1_url,
    )
    assert set(shown) == set(forged)
    assert "accepted" not in shown.values(), shown


async def test_google_auth_tries_again_when_the_server_is_busy(google):
    for status in (429, 503):
        google.metadata["agent"].faults.order(Fault(status=status, only="identity"))
    shown = await judged(
        google,
        """
credentials = compute_engine.IDTokenCredentials(
    request, target_audience=given["audience"], use_metadata_identity_endpoint=True, bind_id_token=False)
credentials.refresh(request)
print(json.dumps(credentials.token))
""",
    )
    assert claims_of(shown)["aud"] == AUDIENCE
    assert google.metadata["agent"].requests["identity"] == 3


async def test_google_auth_takes_the_expiry_from_a_token_that_is_not_fresh():
    config = GoogleConfig(identities={"agent": AGENT}, token_age=TokenAge(born=3400))
    async with LocalGoogle(config) as google:
        shown = await judged(
            google,
            """
credentials = compute_engine.IDTokenCredentials(
    request, target_audience=given["audience"], use_metadata_identity_endpoint=True, bind_id_token=False)
credentials.refresh(request)
print(json.dumps({"fresh": credentials.token_state.name, "valid": credentials.valid}))
""",
        )
    assert shown == {"fresh": "STALE", "valid": False}  # less than 3 min 45 s are left
