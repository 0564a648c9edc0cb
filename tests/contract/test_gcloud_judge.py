"""The real gcloud judges the local admin API, and drives bootstrap and deploy against it.

gcloud runs in processes of its own, with a private configuration, and reaches nothing but the double on loopback. Each
of its commands takes about a second, so a test makes few of them, and what the double must know is written into it.
"""

import asyncio
import json
import shutil
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import CodecBase
from grpclib.server import Server
from told_commands import Told

from deploy.database import let_sign_in, make_instance, make_network
from deploy.live import Live
from deploy.place import APIS, INVOKER, SECRET_READER, Place
from deploy.render import ALL_TO_LATEST, filled_in
from deploy.yaml_subset import read_yaml
from localcloud.google.issuer import Issuer
from localcloud.google.jws import claims_of
from localcloud.run_admin import AdminConfig, RunAdmin, gcloud_environment

pytestmark = pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud, the judge, is not on the PATH")

ROOT = Path(__file__).parents[2]
PLACE = Place(project="acme-agents", region="us-central1")
SECRETS = ("exchange-key-id", "exchange-secret-key", "exchange-order-key", "gateway-config")
GATEWAY, AGENT = PLACE.member("sa-gateway"), PLACE.member("sa-agent")
DIGEST = f"us-central1-docker.pkg.dev/acme-agents/agentic-gateway/gateway@sha256:{'a' * 64}"
ACCOUNTS = ("sa-gateway", "sa-agent")
KNOWN = AdminConfig(project=PLACE.project, accounts=ACCOUNTS, secrets=dict.fromkeys(SECRETS, 1), apis=APIS)


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


class Judge:
    """gcloud and Python, as an operator of the double's project runs them."""

    def __init__(self, admin, folder):
        self.admin = admin
        self.environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), **gcloud_environment(admin.url, folder)}

    async def gcloud(self, *words, given=""):
        return await self._run("gcloud", *words, f"--project={PLACE.project}", given=given)

    async def run(self, *words, given=""):
        return await self.gcloud("run", *words, f"--region={PLACE.region}", given=given)

    async def command(self, *words, given=""):
        return await self._run(*words, given=given)

    async def python(self, *words):
        return await self._run(sys.executable, *words)

    async def _run(self, *words, given=""):
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment,
            cwd=ROOT,
        )
        try:
            async with asyncio.timeout(120):
                out, err = await process.communicate(given.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Ended(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def project(folder, config=KNOWN, issuer=None):
    """A project that is ready for the shipped manifest: its secrets may be read by the gateway."""
    async with RunAdmin(config, issuer=issuer) as admin:
        for secret in config.secrets:
            grant(admin, admin.project.secret_policy(secret), SECRET_READER, GATEWAY)
        yield Judge(admin, folder)


def grant(admin, policy, role, *members):
    bindings = policy.document().get("bindings", [])
    policy.replace({"bindings": [*bindings, {"role": role, "members": [*members]}]}, admin.project.member_exists)


def manifest(image=DIGEST, traffic=ALL_TO_LATEST, **changes):
    text = filled_in(ROOT / "service.yaml", PLACE, IMAGE=image, TRAFFIC=traffic)
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    return text


async def test_the_shipped_manifest_is_validated_created_and_described(tmp_path):
    async with project(tmp_path) as judge:
        dry = await judge.run("services", "replace", "-", "--dry-run", given=manifest())
        assert dry.code == 0
        assert "has been validated" in dry.err
        assert not judge.admin.services.listed()

        done = await judge.run("services", "replace", "-", given=manifest())
        assert done.code == 0, done.err
        assert "URL: https://gateway-service-123456789012.us-central1.run.app" in done.err

        told = json.loads((await judge.run("services", "describe", "gateway-service", "--format=json")).out)
    template = told["spec"]["template"]
    assert template["spec"]["containers"][0]["ports"] == [{"containerPort": 8080, "name": "h2c"}]
    assert template["spec"]["serviceAccountName"] == PLACE.email("sa-gateway")
    assert template["metadata"]["annotations"]["autoscaling.knative.dev/minScale"] == "1"
    assert told["metadata"]["annotations"]["run.googleapis.com/minScale"] == "1"
    assert {one["type"]: one["status"] for one in told["status"]["conditions"]}["Ready"] == "True"


async def test_a_bad_revision_gets_no_traffic_and_a_good_one_as_much_as_it_is_given(tmp_path):
    config = replace(KNOWN, starts={"bad": "probe-fails"})
    async with project(tmp_path, config) as judge:
        first = judge.admin.services.create(as_json(manifest()), dry_run=False)["status"]
        old = first["latestCreatedRevisionName"]

        bad = await judge.run("services", "replace", "-", given=manifest("bad"))
        assert bad.code == 1
        assert "failed the configured startup probe checks" in bad.err
        assert traffic(judge) == {old: 100}

        pinned = f"[{{revisionName: {old}, percent: 100}}, {{latestRevision: true, percent: 0, tag: candidate}}]"
        good = await judge.run("services", "replace", "-", given=manifest("good", pinned))
        assert good.code == 0, good.err
        new = judge.admin.services.read("gateway-service")["status"]["latestReadyRevisionName"]
        assert traffic(judge) == {old: 100}
        assert new != old

        split = f"--to-revisions={new}=10,{old}=90"
        assert (await judge.run("services", "update-traffic", "gateway-service", split)).code == 0
        assert traffic(judge) == {new: 10, old: 90}
        unknown = await judge.run("services", "update-traffic", "gateway-service", "--to-revisions=nobody=100")
        assert unknown.code == 1
        assert "'nobody' is not found" in unknown.err
        listed = await judge.run("revisions", "list", "--service=gateway-service", "--format=value(metadata.name)")
    assert len(listed.out.split()) == 3


async def test_what_gcloud_lets_through_is_refused(tmp_path):
    async with project(tmp_path) as judge:
        text = manifest(
            port=("name: h2c", "name: grpc"),
            key=("run.googleapis.com/startup-cpu-boost", "run.googleapis.com/startup-cpu-bost"),
            probe=("periodSeconds: 10", "periodSeconds: 4000"),
            concurrency=("containerConcurrency: 80", "containerConcurrency: 1001"),
            secret=("name: exchange-key-id", "name: exchange-key-ids"),
            scale=('run.googleapis.com/maxScale: "1"', 'run.googleapis.com/maxScale: "0"'),
        )
        refused = await judge.run("services", "replace", "-", given=text)
        assert not judge.admin.services.listed()
    assert refused.code == 1
    for said in (
        "spec.template.spec.containers[0].ports[0].name: 'grpc' is not valid",
        "Annotation 'run.googleapis.com/startup-cpu-bost' is not supported on resources of kind 'Revision'",
        "livenessProbe.periodSeconds: 4000 is not valid",
        "containerConcurrency: must be between 1 and 1000",
        "secrets/exchange-key-ids/versions/1 was not found",
        "metadata.annotations[run.googleapis.com/maxScale]: '0' is not valid",
    ):
        assert said in refused.err


async def test_the_preflight_hears_from_gcloud_who_is_let_in_and_who_shares_an_account(tmp_path):
    """The manifest is good; the project is not, in every way that only the project can tell."""
    path = short_manifest(tmp_path)
    async with project(tmp_path, replace(KNOWN, secrets={"gateway-config": 1})) as judge:
        services = judge.admin.services
        open_door = as_json(filled_in(path, PLACE, IMAGE=DIGEST))
        open_door["metadata"]["annotations"]["run.googleapis.com/invoker-iam-disabled"] = "true"
        services.create(open_door, dry_run=False)
        other = as_json(filled_in(path, PLACE, IMAGE=DIGEST))
        other["metadata"]["name"] = "reports"
        services.create(other, dry_run=False)
        grant(judge.admin, services.policy("gateway-service"), INVOKER, AGENT, "allUsers", "allAuthenticatedUsers")

        text = path.read_text().replace('{key: "1", path: gateway.toml}', '{key: "2", path: gateway.toml}')
        path.write_text(text.replace("value: required", "value: maybe").replace('minScale: "1"', "minScale: 1"))
        checked = await judge.python("-m", "deploy.preflight", PLACE.project, PLACE.region, f"--manifest={path}")
    assert checked.code == 1
    for said in (
        "allUsers has roles/run.invoker on gateway-service",
        "allAuthenticatedUsers has roles/run.invoker on gateway-service",
        "its invoker check is off",
        "service reports in us-central1 runs as sa-gateway@acme-agents",
        'minScale: an annotation is a string: write "1" in quotes',
        "secret gateway-config: version 2 is not there",
        "GATEWAY_EDGE_IAM: write required",
    ):
        assert said in checked.err


async def test_what_gcloud_refuses_itself_never_arrives(tmp_path):
    async with project(tmp_path) as judge:
        unquoted = await judge.run("services", "replace", "-", given=manifest(scale=('minScale: "1"', "minScale: 1")))
        assert unquoted.code == 1
        assert not any("POST" in request for request in judge.admin.requests)


async def test_bootstrap_makes_what_is_missing_and_leaves_what_is_there(tmp_path):
    words = ("-m", "deploy.bootstrap", PLACE.project, PLACE.region, f"--manifest={short_manifest(tmp_path)}")
    before = AdminConfig(project=PLACE.project, accounts=("sa-gateway",), secrets={"gateway-config": 1})
    async with RunAdmin(before) as admin:
        done = await Judge(admin, tmp_path).python(*words)
        assert done.code == 0, done.err
        assert done.out.count("(is there already)") == 2
        assert "the first `just deploy` makes this grant" in done.out
        policies = admin.project.policy.document(), admin.project.secret_policy("gateway-config").document()
        assert [policy["bindings"] for policy in policies] == [
            [{"role": "roles/aiplatform.user", "members": [GATEWAY]}],
            [{"role": SECRET_READER, "members": [GATEWAY]}],
        ]
        assert admin.project.apis >= set(APIS)
        assert {*admin.project.accounts} == {PLACE.email("sa-gateway"), PLACE.email("sa-agent")}


async def test_deploy_tries_the_new_revision_as_an_agent_before_callers_move(tmp_path):
    issuer, path = Issuer(), short_manifest(tmp_path)
    async with listening() as gateway:
        config = replace(KNOWN, secrets={"gateway-config": 1}, urls={"gateway-service": gateway.url})
        async with project(tmp_path, config, issuer) as judge:
            admin = judge.admin
            seed = as_json(filled_in(path, PLACE, IMAGE="before"))
            old = admin.services.create(seed, dry_run=False)["status"]["latestCreatedRevisionName"]
            agent = admin.project.account_policy(PLACE.email("sa-agent"))
            grant(admin, agent, "roles/iam.serviceAccountTokenCreator", config.operator)

            words = ("-m", "deploy.deploy", PLACE.project, PLACE.region, f"--manifest={path}", f"--image={DIGEST}")
            done = await judge.python(*words)
            assert done.code == 0, done.err
            new = admin.services.read("gateway-service")["status"]["latestReadyRevisionName"]
            assert traffic(judge) == {new: 100}
            assert new != old
            assert admin.services.policy("gateway-service").members(INVOKER) == {AGENT}
    assert gateway.callers == [(PLACE.email("sa-agent"), gateway.url)] * 2


async def test_gcloud_understands_the_commands_that_make_a_database(tmp_path):
    """The APIs behind them are not doubled: each command must get as far as asking one of them.

    Those for the peering are left out: gcloud asks for them over TLS alone, again and again for half a minute.
    """
    told = Told(("sql instances describe", {"ipAddresses": [{"type": "PRIVATE", "ipAddress": "10.0.0.2"}]}))
    make_network(told.shell, PLACE)
    make_instance(told.shell, PLACE)
    let_sign_in(told.shell, PLACE)
    asked = {}
    async with project(tmp_path) as judge:
        for api, name in (("sql", "sqladmin"), ("compute", "compute")):
            judge.environment[f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{api.upper()}"] = f"http://{name}.googleapis.com/"
        for command, given in zip(told.commands, told.inputs, strict=True):
            if command.split()[1] in ("sql", "compute"):
                judge.admin.requests.clear()
                ended = await judge.command(*command.split(), given=given)
                assert ended.code == 1, (command, ended.err)
                asked[" ".join(command.split()[1:4])] = judge.admin.requests[-1]
    sql = "sqladmin.googleapis.com/sql/v1beta4/projects/acme-agents/instances"
    place = "compute.googleapis.com/compute/v1/projects/acme-agents"
    assert asked == {
        "compute networks create": f"POST {place}/global/networks",
        "compute networks subnets": f"POST {place}/regions/us-central1/subnetworks",
        "compute addresses create": f"POST {place}/global/addresses",
        "sql instances create": f"POST {sql}",
        "sql databases create": f"POST {sql}/agentic-gateway/databases",
        "sql users create": f"POST {sql}/agentic-gateway/users",
        "sql users set-password": f"PUT {sql}/agentic-gateway/users",
        "sql instances describe": f"GET {sql}/agentic-gateway",
    }


def short_manifest(folder):
    """The shipped manifest as its operator decided it, without the exchange: each secret costs a second here."""
    text = (ROOT / "service.yaml").read_text().replace("# - {name: GATEWAY_LEDGER", "- {name: GATEWAY_LEDGER")
    path = folder / "service.yaml"
    path.write_text("\n".join(line for line in text.splitlines() if "exchange" not in line.lower()))
    return path


def as_json(text):
    """A manifest as gcloud sends it."""
    service = read_yaml(text)
    service["metadata"]["namespace"] = PLACE.project
    return service


def traffic(judge):
    return dict(Live.of(judge.admin.services.read("gateway-service")).traffic)


class AsBytes(CodecBase):
    """A message of no fields, and any other that nobody looks into."""

    __content_subtype__ = "proto"

    def encode(self, message, _):
        return message

    def decode(self, data, _):
        return data


class ListModels:
    """A service that lists no models, and notes whose token came."""

    def __init__(self):
        self.callers, self.url = [], ""

    def __mapping__(self):
        path = "/agentic.gateway.v1.ModelService/ListModels"
        return {path: Handler(self._list, Cardinality.UNARY_UNARY, bytes, bytes)}

    async def _list(self, stream):
        await stream.recv_message()
        claims = claims_of(stream.metadata["authorization"].removeprefix("Bearer "))
        self.callers.append((claims["email"], claims["aud"]))
        await stream.send_message(b"")


@asynccontextmanager
async def listening():
    service = ListModels()
    server = Server([service], codec=AsBytes())
    await server.start("127.0.0.1", 0)
    try:
        service.url = f"http://127.0.0.1:{server._server.sockets[0].getsockname()[1]}"
        yield service
    finally:
        server.close()
        await server.wait_closed()
