"""The metadata server seen by a plain HTTP client: what it refuses, what it tells, how it fails when asked to."""

import asyncio
import time

import aiohttp
import pytest

from localcloud.google import AccountError, GoogleConfig, LocalGoogle, TokenAge
from localcloud.google.jws import claims_of

AGENT = "sa-agent@local-project.iam.gserviceaccount.com"
GATEWAY = "sa-gateway@local-project.iam.gserviceaccount.com"
ACCOUNT = "/computeMetadata/v1/instance/service-accounts/default"
FLAVOR = {"Metadata-Flavor": "Google"}


class Asking:
    """A running local Google and a client for the agent's metadata server."""

    def __init__(self, google, session):
        self.google = google
        self.session = session

    async def get(self, path, *, name="agent", headers=FLAVOR, method="GET", **params):
        url = f"http://{self.google.metadata_address(name)}{path}"
        async with self.session.request(method, url, headers=headers, params=params, allow_redirects=False) as reply:
            assert reply.headers["Metadata-Flavor"] == "Google"
            return reply.status, reply.content_type, await reply.text()


class Ask:
    """`async with Ask(...) as ask`: everything with these settings; the clock is a list of one number."""

    def __init__(self, clock=None, **settings):
        identities = {"agent": AGENT, "gateway": GATEWAY}
        config = GoogleConfig(identities=identities, project_id="p-1", project_number=42, **settings)
        self.google = LocalGoogle(config, clock=(lambda: clock[0]) if clock else time.time)
        self.session = aiohttp.ClientSession()

    async def __aenter__(self):
        return Asking(await self.google.__aenter__(), self.session)

    async def __aexit__(self, *error):
        await self.session.close()
        await self.google.__aexit__(*error)


async def test_every_reply_carries_the_flavor_and_the_root_needs_none():
    async with Ask() as ask:
        assert await ask.get("/", headers={}) == (200, "application/text", "computeMetadata/\n")


@pytest.mark.parametrize(
    "path", ["/computeMetadata/v1/", f"{ACCOUNT}/token", f"{ACCOUNT}/identity", "/computeMetadata/x"]
)
@pytest.mark.parametrize(
    "headers",
    [{}, {"Metadata-Flavor": "google"}, {"X-Google-Metadata-Request": "True"}, FLAVOR | {"X-Forwarded-For": "1.2.3.4"}],
)
async def test_nothing_is_told_without_the_flavor_or_through_a_proxy(path, headers):
    async with Ask() as ask:
        status, _, body = await ask.get(path, headers=headers, audience="https://x")
        assert status == 403
        assert "ey" not in body


async def test_an_identity_needs_an_audience():
    async with Ask() as ask:
        assert (await ask.get(f"{ACCOUNT}/identity"))[0] == 400
        assert (await ask.get(f"{ACCOUNT}/identity", audience=""))[0] == 400


@pytest.mark.parametrize(("name", "email"), [("agent", AGENT), ("gateway", GATEWAY)])
async def test_each_server_speaks_for_its_own_account(name, email):
    async with Ask() as ask:
        status, kind, token = await ask.get(f"{ACCOUNT}/identity", name=name, audience="https://gw", format="full")
        assert (status, kind) == (200, "text/html")
        assert (claims_of(token)["email"], claims_of(token)["aud"]) == (email, "https://gw")
        assert await ask.get(f"{ACCOUNT}/email", name=name) == (200, "application/text", email)
        by_email = await ask.get(ACCOUNT.replace("default", email) + "/email", name=name)
        assert by_email[2] == email


async def test_another_servers_account_is_unknown_here():
    async with Ask() as ask:
        for leaf in ("identity", "token", "email", ""):
            status, _, _ = await ask.get(ACCOUNT.replace("default", GATEWAY) + f"/{leaf}", audience="https://gw")
            assert status == 404


async def test_an_access_token_has_the_scopes_that_were_asked_for():
    async with Ask() as ask:
        _, kind, _ = await ask.get(f"{ACCOUNT}/token")
        assert kind == "application/json"
        async with ask.session.get(
            f"http://{ask.google.metadata_address('agent')}{ACCOUNT}/token", params={"scopes": "a,b"}, headers=FLAVOR
        ) as reply:
            token = await reply.json()
        assert token["token_type"] == "Bearer"
        assert 3598 <= token["expires_in"] <= 3600
        known = ask.google.issuer.introspect(token["access_token"])
        assert (known.email, known.scopes) == (AGENT, ("a", "b"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("project/project-id", "p-1"),
        ("project/numeric-project-id", "42"),
        ("universe/universe-domain", "googleapis.com"),
        ("instance/region", "projects/42/regions/us-central1"),
        ("instance/zone", "projects/42/zones/us-central1-1"),
        ("instance/service-accounts/default/aliases", "default\n"),
        ("instance/service-accounts/default/", "aliases\nemail\nidentity\nscopes\ntoken\n"),
        ("", "instance/\nproject/\nuniverse/\n"),
    ],
)
async def test_values_and_listings(path, value):
    async with Ask() as ask:
        assert await ask.get(f"/computeMetadata/v1/{path}") == (200, "application/text", value)


async def test_the_whole_of_an_account_comes_as_json_without_tokens():
    async with Ask() as ask:
        url = f"http://{ask.google.metadata_address('agent')}{ACCOUNT}/?recursive=true"
        async with ask.session.get(url, headers=FLAVOR) as reply:
            assert await reply.json() == {
                "aliases": ["default"],
                "email": AGENT,
                "scopes": ["https://www.googleapis.com/auth/cloud-platform"],
            }


async def test_names_are_in_camel_case_in_json_but_addresses_stay():
    async with Ask() as ask:
        url = f"http://{ask.google.metadata_address('agent')}/computeMetadata/v1/?recursive=true"
        async with ask.session.get(url, headers=FLAVOR) as reply:
            whole = await reply.json()
        assert whole["project"] == {"numericProjectId": 42, "projectId": "p-1"}
        assert set(whole["instance"]["serviceAccounts"]) == {"default", AGENT}


async def test_a_directory_without_its_slash_redirects():
    async with Ask() as ask:
        url = f"http://{ask.google.metadata_address('agent')}/computeMetadata/v1"
        async with ask.session.get(url, headers=FLAVOR, allow_redirects=False) as reply:
            assert (reply.status, reply.headers["Location"]) == (301, "/computeMetadata/v1/")


@pytest.mark.parametrize("path", ["/nope", "/computeMetadata/v1/instance/<script>", f"{ACCOUNT}/email/deeper"])
async def test_what_does_not_exist_is_a_404_that_quotes_nothing_dangerous(path):
    async with Ask() as ask:
        status, _, body = await ask.get(path)
        assert status == 404
        assert "<script>" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_it_can_only_be_read(method):
    async with Ask() as ask:
        assert (await ask.get(f"{ACCOUNT}/identity", method=method, audience="x"))[0] == 405


async def test_a_fresh_token_each_time_unless_tokens_are_reused():
    clock = [1_790_000_000.0]
    async with Ask(clock) as ask:
        first = await ask.get(f"{ACCOUNT}/identity", audience="x")
        clock[0] += 10
        assert await ask.get(f"{ACCOUNT}/identity", audience="x") != first
    async with Ask(clock, token_age=TokenAge(reuse=True, least_left=300)) as ask:
        first = await ask.get(f"{ACCOUNT}/identity", audience="x")
        access = await ask.get(f"{ACCOUNT}/token")
        clock[0] += 3300
        assert await ask.get(f"{ACCOUNT}/identity", audience="x") == first
        assert await ask.get(f"{ACCOUNT}/identity", audience="y") != first
        assert '"expires_in": 300,' in (await ask.get(f"{ACCOUNT}/token"))[2]
        clock[0] += 1
        assert await ask.get(f"{ACCOUNT}/identity", audience="x") != first
        assert await ask.get(f"{ACCOUNT}/token") != access


async def test_tokens_may_come_with_less_than_an_hour_left():
    async with Ask([1_790_000_000.0], token_age=TokenAge(born=3000)) as ask:
        _, _, token = await ask.get(f"{ACCOUNT}/identity", audience="x")
        assert claims_of(token)["exp"] == 1_790_000_600
        assert '"expires_in": 600,' in (await ask.get(f"{ACCOUNT}/token"))[2]


def test_a_token_that_was_never_alive_cannot_be_asked_for():
    with pytest.raises(AccountError):
        TokenAge(born=3600)


async def test_a_fault_happens_as_often_as_ordered_and_only_where_ordered():
    async with Ask() as ask:
        orders = f"{ask.google.issuer_url}/admin/faults"
        order = {"identity": "agent", "status": 503, "times": 2, "only": "identity"}
        async with ask.session.post(orders, json=order) as reply:
            assert reply.status == 200
        assert (await ask.get(f"{ACCOUNT}/email"))[0] == 200
        assert [(await ask.get(f"{ACCOUNT}/identity", audience="x"))[0] for _ in range(3)] == [503, 503, 200]
        assert (await ask.get(f"{ACCOUNT}/identity", name="gateway", audience="x"))[0] == 200
        async with ask.session.post(orders, json=order | {"times": 1000}) as reply:
            assert reply.status == 200
        async with ask.session.post(orders, json=order | {"times": 0}) as reply:
            assert reply.status == 200
        assert (await ask.get(f"{ACCOUNT}/identity", audience="x"))[0] == 200


async def test_latency_delays_an_answer_and_nothing_else():
    async with Ask() as ask:
        order = {"identity": "agent", "latency_seconds": 0.05}
        async with ask.session.post(f"{ask.google.issuer_url}/admin/faults", json=order):
            pass
        begun = asyncio.get_running_loop().time()
        assert (await ask.get(f"{ACCOUNT}/email"))[2] == AGENT
        assert asyncio.get_running_loop().time() - begun >= 0.05


async def test_requests_are_counted_by_what_they_ask_for():
    async with Ask() as ask:
        for _ in range(3):
            await ask.get(f"{ACCOUNT}/identity", audience="x")
        for number in range(40):
            await ask.get(f"/made/up/{number}")
        counted = ask.google.metadata["agent"].requests
        assert counted["identity"] == 3
        assert counted["unknown"] == 40
        assert len(counted) == 2
