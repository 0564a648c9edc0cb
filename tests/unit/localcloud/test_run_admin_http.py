"""The admin API over real sockets, asked as gcloud asks: absolute addresses, sent to a proxy."""

import io
import json
from contextlib import asynccontextmanager

import aiohttp
import pytest

from localcloud.google.faults import Fault
from localcloud.google.jws import claims_of
from localcloud.run_admin import AdminConfig, AdminConfigError, RunAdmin, gcloud_environment

APIS = tuple(f"{name}.googleapis.com" for name in ("run", "iam", "iamcredentials", "secretmanager", "artifactregistry"))
CONFIG = AdminConfig(accounts=("sa-gateway", "sa-agent"), secrets={"key": 1}, apis=APIS)
RUN = "http://us-central1-run.googleapis.com/apis/serving.knative.dev/v1/namespaces/local-project"
POLICY = "http://run.googleapis.com/v1/projects/local-project/locations/us-central1/services/svc"
IAM = "http://iam.googleapis.com/v1/projects/local-project/serviceAccounts"
SECRETS = "http://secretmanager.googleapis.com/v1/projects/local-project/secrets"
MANAGER = "http://cloudresourcemanager.googleapis.com/v1/projects/local-project"
USAGE = "http://serviceusage.googleapis.com/v1/projects/local-project/services"
CREDENTIALS = "http://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts"
GATEWAY = CONFIG.email("sa-gateway")
AGENT = CONFIG.email("sa-agent")


def service(image="good", traffic=None, version="", **metadata):
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "svc", "namespace": "local-project", "resourceVersion": version} | metadata,
        "spec": {
            "template": {"spec": {"serviceAccountName": GATEWAY, "containers": [{"image": image}]}},
            **({"traffic": traffic} if traffic else {}),
        },
    }


class Operator:
    """Asks the double, and gives (status, JSON)."""

    def __init__(self, admin, session):
        self.admin, self._session = admin, session

    async def __call__(self, method, url, body=None, **headers):
        headers = {"Authorization": "Bearer t"} | headers
        data = None if body is None else io.BytesIO(json.dumps(body).encode())
        async with self._session.request(method, url, data=data, headers=headers, proxy=self.admin.url) as answer:
            return answer.status, await answer.json()

    async def settled(self):
        """The service once its newest generation has settled."""
        for _ in range(5):
            _, told = await self("GET", f"{RUN}/services/svc")
            if told["status"]["conditions"][0]["status"] != "Unknown":
                break
        return told


@asynccontextmanager
async def operating(config=CONFIG):
    async with RunAdmin(config) as admin, aiohttp.ClientSession() as session:
        yield Operator(admin, session)


def conditions(told):
    return {one["type"]: one["status"] for one in told["status"]["conditions"]}


async def test_a_service_becomes_ready_after_it_was_read():
    async with operating() as ask:
        assert (await ask("GET", f"{RUN}/services/svc"))[0] == 404
        status, told = await ask("POST", f"{RUN}/services", service())
        assert (status, conditions(told)["Ready"]) == (200, "Unknown")
        assert told["metadata"]["generation"] == told["status"]["observedGeneration"] == 1
        assert "latestReadyRevisionName" not in told["status"]
        told = await ask.settled()
        assert set(conditions(told).values()) == {"True"}
        name = told["status"]["latestReadyRevisionName"]
        assert told["status"]["traffic"] == [{"latestRevision": True, "percent": 100, "revisionName": name}]
        assert (await ask("POST", f"{RUN}/services", service()))[0] == 409
        _, revision = await ask("GET", f"{RUN}/revisions/{name}")
        assert revision["metadata"]["labels"]["serving.knative.dev/service"] == "svc"


async def test_the_same_template_makes_no_new_revision_and_no_new_generation():
    async with operating() as ask:
        await ask("POST", f"{RUN}/services", service())
        before = await ask.settled()
        status, after = await ask("PUT", f"{RUN}/services/svc", service(labels={"app": "x"}))
        assert status == 200
        assert after["metadata"]["labels"]["app"] == "x"
        assert after["metadata"]["generation"] == 1
        assert after["status"]["latestCreatedRevisionName"] == before["status"]["latestCreatedRevisionName"]
        assert after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]


async def test_a_write_over_what_has_changed_since_is_aborted():
    async with operating() as ask:
        await ask("POST", f"{RUN}/services", service())
        version = (await ask.settled())["metadata"]["resourceVersion"]
        assert (await ask("PUT", f"{RUN}/services/svc", service("two", version=version)))[0] == 200
        status, told = await ask("PUT", f"{RUN}/services/svc", service("three", version=version))
        assert (status, told["error"]["status"]) == (409, "ABORTED")


async def test_a_dry_run_judges_and_changes_nothing():
    async with operating() as ask:
        status, told = await ask("POST", f"{RUN}/services?dryRun=all", service())
        assert (status, told["metadata"]["name"]) == (200, "svc")
        assert (await ask("GET", f"{RUN}/services/svc"))[0] == 404
        assert (await ask("POST", f"{RUN}/services?dryRun=all", service("")))[0] == 400
        await ask("POST", f"{RUN}/services", service())
        before = await ask.settled()
        await ask("PUT", f"{RUN}/services/svc?dryRun=all", service("two"))
        assert await ask.settled() == before


@pytest.mark.parametrize("how", ["crash", "probe-fails", "image-missing"])
async def test_a_revision_that_does_not_start_gets_no_traffic(how):
    config = AdminConfig(accounts=CONFIG.accounts, apis=APIS, starts={"bad": how})
    async with operating(config) as ask:
        await ask("POST", f"{RUN}/services", service())
        old = (await ask.settled())["status"]["traffic"]
        await ask("PUT", f"{RUN}/services/svc", service("bad"))
        told = await ask.settled()
        assert conditions(told) == {"Ready": "False", "ConfigurationsReady": "False", "RoutesReady": "True"}
        assert told["status"]["traffic"] == old
        _, listed = await ask("GET", f"{RUN}/revisions?labelSelector=serving.knative.dev/service = svc")
        assert [one["status"]["conditions"][0]["status"] for one in listed["items"]] == ["False", "True"]
        lame = listed["items"][0]["metadata"]["name"]
        await ask("PUT", f"{RUN}/services/svc", service("bad", [{"revisionName": lame, "percent": 100}]))
        told = await ask.settled()
        assert conditions(told)["RoutesReady"] == "False"
        assert told["status"]["traffic"] == old


async def test_a_first_revision_that_does_not_start_leaves_no_traffic_at_all():
    config = AdminConfig(accounts=CONFIG.accounts, apis=APIS, starts={"bad": "crash"})
    async with operating(config) as ask:
        await ask("POST", f"{RUN}/services", service("bad"))
        told = await ask.settled()
        assert set(conditions(told).values()) == {"False"}
        assert told["status"]["traffic"] == []
        assert "PORT=8080" in told["status"]["conditions"][0]["message"]


async def test_traffic_goes_to_revisions_and_tags_that_exist():
    async with operating() as ask:
        await ask("POST", f"{RUN}/services", service())
        old = (await ask.settled())["status"]["latestReadyRevisionName"]
        unknown = service("two", [{"revisionName": "svc-9", "percent": 100}])
        status, told = await ask("PUT", f"{RUN}/services/svc", unknown)
        assert (status, told["error"]["details"][0]["fieldViolations"]) == (
            400,
            [{"field": "spec.traffic[0].revisionName", "description": "Revision 'svc-9' is not found."}],
        )
        assert (await ask.settled())["metadata"]["generation"] == 1
        pinned = [{"revisionName": old, "percent": 100}, {"latestRevision": True, "percent": 0, "tag": "candidate"}]
        await ask("PUT", f"{RUN}/services/svc", service("two", pinned))
        told = await ask.settled()
        first, second = told["status"]["traffic"]
        assert first == {"revisionName": old, "percent": 100}
        assert second["revisionName"] == told["status"]["latestReadyRevisionName"] != old
        assert second["url"] == "https://candidate---svc-123456789012.us-central1.run.app"


async def test_accounts_secrets_and_namespaces_of_a_service_must_be_there():
    async with operating() as ask:
        stranger = service()
        stranger["spec"]["template"]["spec"]["serviceAccountName"] = CONFIG.email("sa-nobody")
        status, told = await ask("POST", f"{RUN}/services", stranger)
        assert status == 403
        assert "actAs" in told["error"]["message"]
        assert (await ask("POST", f"{RUN}/services", service(namespace="other")))[0] == 403
        secret = service()
        reference = {"secretKeyRef": {"name": "key", "key": "1"}}
        secret["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "KEY", "valueFrom": reference}]
        status, told = await ask("POST", f"{RUN}/services", secret)
        assert status == 400
        assert "Permission denied on secret" in told["error"]["message"]
        bindings = [{"role": "roles/secretmanager.secretAccessor", "members": [f"serviceAccount:{GATEWAY}"]}]
        assert (await ask("POST", f"{SECRETS}/key:setIamPolicy", {"policy": {"bindings": bindings}}))[0] == 200
        assert (await ask("POST", f"{RUN}/services", secret))[0] == 200


async def test_a_policy_is_written_over_what_was_read_only():
    async with operating() as ask:
        await ask("POST", f"{RUN}/services", service())
        _, empty = await ask("GET", f"{POLICY}:getIamPolicy")
        assert "bindings" not in empty
        binding = {"role": "roles/run.invoker", "members": [f"serviceAccount:{AGENT}"]}
        wanted = {"policy": {"bindings": [binding], "etag": empty["etag"]}}
        status, told = await ask("POST", f"{POLICY}:setIamPolicy", wanted)
        assert (status, told["bindings"]) == (200, [binding])
        assert (await ask("POST", f"{POLICY}:setIamPolicy", wanted))[1]["error"]["status"] == "ABORTED"
        assert (await ask("GET", f"{POLICY}:getIamPolicy"))[1] == told


@pytest.mark.parametrize(
    "role, member, said",
    [
        ("roles/run.invoker", f"serviceAccount:{CONFIG.email('sa-nobody')}", "does not exist"),
        ("roles/run.invoker", "everybody", "Invalid value for member"),
        ("invoker", "allUsers", "is not valid"),
    ],
)
async def test_what_no_policy_takes(role, member, said):
    async with operating() as ask:
        policy = {"policy": {"bindings": [{"role": role, "members": [member]}]}}
        status, told = await ask("POST", f"{MANAGER}:setIamPolicy", policy)
        assert status == 400
        assert said in told["error"]["message"]


async def test_service_accounts_are_made_once():
    async with operating() as ask:
        body = {"accountId": "sa-third", "serviceAccount": {"displayName": "Third"}}
        status, told = await ask("POST", IAM, body)
        assert (status, told["displayName"], len(told["uniqueId"])) == (200, "Third", 21)
        assert (await ask("POST", IAM, body))[0] == 409
        assert (await ask("POST", IAM, {"accountId": "sa"}))[0] == 400
        assert len((await ask("GET", IAM))[1]["accounts"]) == 3
        assert (await ask("GET", f"{IAM}/{CONFIG.email('sa-third')}"))[0] == 200
        assert (await ask("GET", f"{IAM}/{CONFIG.email('sa-nobody')}"))[0] == 404


async def test_an_api_answers_once_it_is_enabled():
    async with operating(AdminConfig()) as ask:
        status, told = await ask("GET", f"{RUN}/services/svc")
        assert (status, told["error"]["details"][0]["reason"]) == (403, "SERVICE_DISABLED")
        assert (await ask("GET", f"{USAGE}/run.googleapis.com"))[1]["state"] == "DISABLED"
        assert (await ask("POST", f"{USAGE}/run.googleapis.com:enable"))[1]["done"] is True
        assert (await ask("GET", f"{RUN}/services/svc"))[0] == 404
        assert (await ask("POST", f"{USAGE}:batchEnable", {"serviceIds": ["run"]}))[0] == 400


async def test_secrets_have_versions_and_repositories_are_made_once():
    registry = "http://artifactregistry.googleapis.com/v1/projects/local-project/locations/us-central1/repositories"
    async with operating() as ask:
        assert (await ask("POST", f"{SECRETS}?secretId=new", {}))[0] == 200
        assert (await ask("POST", f"{SECRETS}?secretId=new", {}))[0] == 409
        assert (await ask("GET", f"{SECRETS}/new/versions/latest"))[0] == 404
        assert (await ask("POST", f"{SECRETS}/new:addVersion", {}))[1]["name"].endswith("/new/versions/1")
        assert (await ask("GET", f"{SECRETS}/new/versions/2"))[0] == 404
        assert (await ask("POST", f"{registry}?repositoryId=images", {"format": "DOCKER"}))[1]["done"] is True
        assert (await ask("POST", f"{registry}?repositoryId=images", {"format": "DOCKER"}))[0] == 409
        assert (await ask("GET", f"{registry}/images"))[0] == 200


async def test_tokens_are_for_those_who_may_make_them():
    async with operating() as ask:
        wanted = {"audience": "https://x", "includeEmail": True}
        assert (await ask("POST", f"{CREDENTIALS}/{AGENT}:generateIdToken", wanted))[0] == 403
        creator = {"role": "roles/iam.serviceAccountTokenCreator", "members": [CONFIG.operator]}
        await ask("POST", f"{IAM}/{AGENT}:setIamPolicy", {"policy": {"bindings": [creator]}})
        _, told = await ask("POST", f"{CREDENTIALS}/{AGENT}:generateIdToken", wanted)
        assert (claims_of(told["token"])["email"], claims_of(told["token"])["aud"]) == (AGENT, "https://x")
        _, told = await ask("POST", f"{CREDENTIALS}/{AGENT}:generateIdToken", {"audience": "https://x"})
        assert "email" not in claims_of(told["token"])
        assert (await ask("POST", f"{CREDENTIALS}/{AGENT}:generateAccessToken", {}))[1]["accessToken"]
        assert (await ask("POST", f"{CREDENTIALS}/{GATEWAY}:generateAccessToken", {}))[0] == 403


async def test_nothing_leaves_the_machine_and_nobody_asks_without_a_credential():
    async with operating() as ask:
        with pytest.raises(aiohttp.ClientHttpProxyError) as refused:
            await ask("GET", "https://run.googleapis.com/v1/projects/local-project")
        assert refused.value.status == 501
        assert (await ask("GET", MANAGER, Authorization="Basic x"))[0] == 401
        assert (await ask("GET", MANAGER))[1]["projectNumber"] == "123456789012"
        assert (await ask("GET", MANAGER.replace("local", "other")))[0] == 403
        assert (await ask("GET", "http://example.com/"))[0] == 404


async def test_bodies_that_are_no_objects_and_faults_that_were_asked_for():
    async with operating() as ask:
        assert (await ask("POST", f"{RUN}/services", ["x"]))[0] == 400
        assert (await ask("POST", f"{RUN}/services", {"apiVersion": "x" * (1 << 20)}))[0] == 413
        ask.admin.faults.order(Fault(status=503, only="/services/svc"))
        assert (await ask("GET", f"{RUN}/services/svc"))[0] == 503
        assert (await ask("GET", f"{RUN}/services/svc"))[0] == 404


async def test_services_are_listed_and_deleted():
    async with operating() as ask:
        await ask("POST", f"{RUN}/services", service())
        assert [one["metadata"]["name"] for one in (await ask("GET", f"{RUN}/services"))[1]["items"]] == ["svc"]
        assert (await ask("DELETE", f"{RUN}/services/svc"))[0] == 200
        assert (await ask("GET", f"{RUN}/services"))[1]["items"] == []
        assert (await ask("GET", f"{RUN}/revisions?labelSelector=app=x"))[0] == 400


@pytest.mark.parametrize("wrong", [{"project": "No"}, {"region": "home"}, {"number": 0}, {"polls": -1}])
def test_projects_that_cannot_be(wrong):
    with pytest.raises(AdminConfigError):
        AdminConfig(**wrong)


def test_gcloud_is_left_no_way_out(tmp_path):
    environment = gcloud_environment("http://127.0.0.1:1", tmp_path)
    assert environment["http_proxy"] == environment["https_proxy"] == "http://127.0.0.1:1"
    assert environment["no_proxy"] == ""
    overridden = [value for name, value in environment.items() if "ENDPOINT_OVERRIDES" in name]
    assert len(overridden) == 7
    assert all(value.startswith("http://") for value in overridden)
    assert (tmp_path / "access-token").read_text().strip()
