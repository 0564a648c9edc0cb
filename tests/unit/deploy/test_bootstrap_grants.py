"""What bootstrap makes and grants: the least, in an order that works, again and again."""

from pathlib import Path

import pytest
from told_commands import AGENT, APIS, GATEWAY, PLACE, Told

from deploy.bootstrap import bootstrap, main
from deploy.faults import CommandError

ROOT = Path(__file__).parents[3]
SECRETS = ("exchange-key-id", "exchange-secret-key", "exchange-order-key", "gateway-config")


def granted(told):
    """(resource, member, role) of every grant."""
    found = set()
    for place in told.where("add-iam-policy-binding"):
        words = told.commands[place].split()
        options = dict(word.removeprefix("--").split("=", 1) for word in words if "=" in word)
        found.add((words[words.index("add-iam-policy-binding") + 1], options["member"], options["role"]))
    return found


def test_the_grants_are_the_least():
    told = Told()
    bootstrap(told.shell, PLACE, SECRETS)
    assert granted(told) == {
        ("acme-agents", GATEWAY, "roles/aiplatform.user"),
        *((secret, GATEWAY, "roles/secretmanager.secretAccessor") for secret in SECRETS),
        ("gateway-service", AGENT, "roles/run.invoker"),
    }


def test_things_are_made_before_they_are_granted():
    told = Told()
    bootstrap(told.shell, PLACE, SECRETS)
    assert told.where("services", "enable") == [0]
    assert set(APIS) <= set(told.commands[0].split())
    made = told.where("service-accounts", "create")
    assert len(made) == 2
    assert max(made) < min(told.where("add-iam-policy-binding"))


def test_who_deploys_may_act_as_both_accounts_and_make_agents_tokens():
    told = Told()
    bootstrap(told.shell, PLACE, (), "user:ann@example.com")
    assert {entry for entry in granted(told) if entry[1] == "user:ann@example.com"} == {
        (PLACE.email("sa-gateway"), "user:ann@example.com", "roles/iam.serviceAccountUser"),
        (PLACE.email("sa-agent"), "user:ann@example.com", "roles/iam.serviceAccountUser"),
        (PLACE.email("sa-agent"), "user:ann@example.com", "roles/iam.serviceAccountTokenCreator"),
    }


def test_the_service_need_not_be_there_yet():
    told = Told(("run add-iam-policy-binding", "ERROR: NOT_FOUND: no service"))
    bootstrap(told.shell, PLACE, SECRETS)
    assert "the first `just deploy` makes this grant" in told.lines[-1]


def test_another_error_ends_it():
    with pytest.raises(CommandError, match="PERMISSION_DENIED"):
        bootstrap(Told(("services enable", "ERROR: PERMISSION_DENIED")).shell, PLACE, SECRETS)


def test_a_dry_run_names_the_secrets_of_the_manifest(capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.chdir(ROOT)
    assert main([PLACE.project, PLACE.region, "--dry-run"]) == 0
    out = capsys.readouterr().out
    for secret in SECRETS:
        assert f"$ gcloud secrets create {secret} " in out
        assert f"gcloud secrets versions add {secret} --data-file=FILE" in out
