"""The Terraform files: formatted, and the whole list of what they grant to whom."""

import shutil
import subprocess
from pathlib import Path

import hcl2
import pytest

from deploy import database
from deploy.manifest import Manifest
from deploy.place import APIS, DATABASE_APIS, DATABASE_SECRET, NETWORK, Place
from deploy.render import filled_in

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
                "google_secret_manager_secret_iam_member",
                "google_secret_manager_secret.database_url[0].secret_id",
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
    local = {name: body for block in blocks("locals") for name, body in block.items()}
    for apis, written in ((APIS, local["apis"]), (DATABASE_APIS, local["database_apis"])):
        for api in apis:
            assert f'"{api}"' in written
        assert written.count("googleapis.com") == len(apis)
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
    "google_compute_network": {"project", "name", "auto_create_subnetworks"},
    "google_compute_subnetwork": {
        *("project", "region", "name", "network", "ip_cidr_range", "private_ip_google_access"),
    },
    "google_compute_global_address": {"project", "name", "purpose", "address_type", "prefix_length", "network"},
    "google_service_networking_connection": {"network", "service", "reserved_peering_ranges"},
    "google_sql_database_instance": {
        *("project", "region", "name", "database_version", "deletion_protection", "settings"),
    },
    "google_sql_database": {"project", "instance", "name"},
    "google_sql_user": {"project", "instance", "name", "password_wo", "password_wo_version"},
    "google_secret_manager_secret_version": {"secret", "secret_data_wo", "secret_data_wo_version"},
}
SETTINGS = {"edition", "tier", "availability_type", "disk_autoresize", "ip_configuration", "backup_configuration"}
IP = {"ipv4_enabled", "private_network", "ssl_mode"}


def one(kind):
    (found,) = (body for known, _, body in resources() if known == kind)
    return found


def test_the_database_has_a_private_address_and_no_public_one():
    instance = one("google_sql_database_instance")
    (settings,) = instance["settings"]
    assert settings.keys() - {"__is_block__"} == SETTINGS
    (address,) = settings["ip_configuration"]
    assert address.keys() - {"__is_block__"} == IP
    assert address["ipv4_enabled"] is False
    assert bare(address["private_network"]) == "google_compute_network.gateway[0].id"
    assert bare(address["ssl_mode"]) == "ENCRYPTED_ONLY"
    assert instance["deletion_protection"] is True
    assert bare(instance["depends_on"][0]) == "google_service_networking_connection.services"


def test_the_databases_password_is_in_no_state_and_no_file():
    variables = {bare(name): body for block in blocks("variable") for name, body in block.items()}
    password = variables["database_password"]
    assert password["sensitive"] is password["ephemeral"] is True
    secret = ("${var.database_password}", "var.database_password")
    uses = [
        (kind, key)
        for kind, _, body in resources()
        for key, value in body.items()
        if any(word in str(value) for word in secret) and "version" not in key
    ]
    assert uses == [("google_sql_user", "password_wo"), ("google_secret_manager_secret_version", "secret_data_wo")]


def test_everything_of_the_database_is_there_only_if_it_is_asked_for():
    path = FOLDER / "database.tf"
    for block in hcl2.loads(path.read_text())["resource"]:
        for named in block.values():
            for body in named.values():
                asked = bare(body["count"]) if "count" in body else bare(body["for_each"])
                assert asked in ("var.database ? 1 : 0", "local.database_apis")


def test_terraform_and_the_commands_make_the_same_database():
    assert bare(one("google_compute_network")["name"]) == bare(one("google_compute_subnetwork")["name"]) == NETWORK
    instance = one("google_sql_database_instance")
    assert (bare(instance["name"]), bare(instance["database_version"])) == (database.INSTANCE, database.VERSION)
    assert bare(one("google_sql_database")["name"]) == bare(one("google_sql_user")["name"]) == database.NAME
    assert bare(one("google_compute_global_address")["name"]) == database.SERVICES
    variables = {bare(name): body for block in blocks("variable") for name, body in block.items()}
    assert bare(variables["database_tier"]["default"]) == database.TIER
    assert bare(variables["subnet_range"]["default"]) == database.SUBNET_RANGE
    secret = next(body for kind, name, body in resources() if name == "database_url" and "secret_id" in body)
    assert bare(secret["secret_id"]) == DATABASE_SECRET


def test_the_manifest_finds_that_database_once_its_lines_are_switched_on(tmp_path):
    text = (FOLDER.parents[1] / "service.yaml").read_text()
    for line in (
        "run.googleapis.com/n",
        "run.googleapis.com/vpc",
        "- name: GATEWAY_D",
        "  valueFrom: {secretKeyRef: {name: g",
    ):
        assert text.count(f"# {line}") == 1
        text = text.replace(f"# {line}", line)
    (tmp_path / "service.yaml").write_text(text)
    place = Place(project="acme-agents", region="us-central1")
    manifest = Manifest.of(filled_in(tmp_path / "service.yaml", place, IMAGE="image"))
    assert DATABASE_SECRET in {secret.name for secret in manifest.secrets}
    assert "GATEWAY_DATABASE_URL" in manifest.variables
    network = f'[{{"network":"{NETWORK}","subnetwork":"{NETWORK}"}}]'
    assert manifest.revision_annotations["run.googleapis.com/network-interfaces"] == network
    assert manifest.revision_annotations["run.googleapis.com/vpc-access-egress"] == "private-ranges-only"


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
