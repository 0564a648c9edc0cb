"""The Terraform files: formatted, and the whole list of what they grant to whom."""

import shutil
import subprocess
from pathlib import Path

import hcl2
import pytest

from deploy.place import APIS

FOLDER = Path(__file__).parents[3] / "deploy/terraform"
AGENT, GATEWAY = "google_service_account.agent", "google_service_account.gateway"


def bare(value):
    """A value without the quotes and the ${} that the parser keeps."""
    return value.strip('"').removeprefix("${").removesuffix("}") if isinstance(value, str) else value


def blocks(kind):
    for path in sorted(FOLDER.glob("*.tf")):
        yield from hcl2.loads(path.read_text()).get(kind, [])


def resources():
    for block in blocks("resource"):
        for kind, named in block.items():
            for name, body in named.items():
                yield bare(kind), bare(name), {key: value for key, value in body.items() if key != "__is_block__"}


def grants():
    """(what kind of grant, on what, role, members)."""
    found = []
    for kind, _, body in resources():
        if "_iam_" not in kind:
            continue
        target = next(body[key] for key in ("secret_id", "service_account_id", "name", "project") if key in body)
        members = tuple(map(bare, body.get("members", [body.get("member", "")])))
        found.append((kind, bare(target), bare(body["role"]), members))
    return found


def test_the_grants_are_these_and_no_others():
    assert sorted(grants()) == sorted(
        [
            ("google_project_iam_member", "var.project", "roles/aiplatform.user", (f"{GATEWAY}.member",)),
            (
                "google_secret_manager_secret_iam_member",
                "each.value.secret_id",
                "roles/secretmanager.secretAccessor",
                (f"{GATEWAY}.member",),
            ),
            (
                "google_cloud_run_v2_service_iam_binding",
                "gateway-service",
                "roles/run.invoker",
                (f"{AGENT}.member",),
            ),
            *(
                ("google_service_account_iam_member", f"{account}.name", role, ("var.operator",))
                for account, role in (
                    (GATEWAY, "roles/iam.serviceAccountUser"),
                    (AGENT, "roles/iam.serviceAccountUser"),
                    (AGENT, "roles/iam.serviceAccountTokenCreator"),
                )
            ),
        ]
    )


def test_agents_have_exactly_one():
    assert [role for _, _, role, members in grants() if f"{AGENT}.member" in members] == ["roles/run.invoker"]


def test_nobody_public_and_no_broad_role_is_named_anywhere():
    text = "".join(path.read_text() for path in FOLDER.glob("*.tf"))
    for word in ("allUsers", "allAuthenticatedUsers", "roles/owner", "roles/editor", "roles/viewer", "_iam_policy"):
        assert word not in text


def test_accounts_apis_and_secrets_are_those_of_the_commands():
    accounts = {bare(body["account_id"]) for kind, _, body in resources() if kind == "google_service_account"}
    assert accounts == {"sa-gateway", "sa-agent"}
    (local,) = blocks("locals")
    for api in APIS:
        assert f'"{api}"' in local["apis"]
    assert local["apis"].count("googleapis.com") == len(APIS)
    variables = {bare(name): body for block in blocks("variable") for name, body in block.items()}
    manifest = (FOLDER.parents[1] / "service.yaml").read_text()
    for secret in map(bare, variables["secrets"]["default"]):
        assert f"name: {secret}," in manifest or f"secretName: {secret}" in manifest


# The provider's names, as its schema of 2026 has them: a name that is not here is a slip of the pen.
ARGUMENTS = {
    "google_project_service": {"project", "service", "disable_on_destroy"},
    "google_artifact_registry_repository": {"project", "location", "repository_id", "format"},
    "google_service_account": {"project", "account_id", "display_name"},
    "google_secret_manager_secret": {"project", "secret_id", "replication"},
    "google_project_iam_member": {"project", "role", "member"},
    "google_secret_manager_secret_iam_member": {"project", "secret_id", "role", "member"},
    "google_cloud_run_v2_service_iam_binding": {"project", "location", "name", "role", "members"},
    "google_service_account_iam_member": {"service_account_id", "role", "member"},
}


def test_resources_have_the_providers_arguments_and_no_others():
    for kind, name, body in resources():
        extra = body.keys() - ARGUMENTS[kind] - {"for_each", "count", "depends_on"}
        assert not extra, f"{kind}.{name}: {extra}"


@pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not on the PATH")
def test_terraform_itself_finds_them_formatted(tmp_path):
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-diff", str(FOLDER)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path), "CHECKPOINT_DISABLE": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
