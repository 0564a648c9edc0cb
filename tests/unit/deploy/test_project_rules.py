"""What the preflight finds in a project, from gcloud's answers."""

from pathlib import Path

import pytest
from told_commands import AGENT, DIGEST, GATEWAY, PLACE, Told, service

from deploy.faults import CommandError, RefusedError
from deploy.manifest import Manifest
from deploy.preflight import preflight
from deploy.render import filled_in

ROOT = Path(__file__).parents[3]
ACCOUNTS = [{"email": PLACE.email("sa-gateway")}, {"email": PLACE.email("sa-agent")}]
INVOKERS = {"bindings": [{"role": "roles/run.invoker", "members": [AGENT]}]}
GOOD = {
    "services list": [service("r1", {"r1": 100})],
    "services get-iam-policy": INVOKERS,
    "service-accounts list": ACCOUNTS,
    "projects get-iam-policy": {"bindings": [{"role": "roles/aiplatform.user", "members": [GATEWAY]}]},
    "versions describe": {"state": "ENABLED"},
}


def manifest():
    text = filled_in(ROOT / "service.yaml", PLACE, IMAGE=DIGEST)
    return Manifest.of(text.replace("# - {name: GATEWAY_LEDGER", "- {name: GATEWAY_LEDGER"))


def checked(**changes):
    """Run the preflight; return what it refused and what it warned of."""
    answers = GOOD | {words.replace("_", " "): answer for words, answer in changes.items()}
    told = Told(*answers.items())
    try:
        preflight(told.shell, PLACE, manifest())
    except RefusedError as error:
        return str(error), told.lines
    return "", told.lines


def test_a_project_that_is_ready_passes_and_nothing_is_written():
    refused, lines = checked()
    assert refused == ""
    assert not [line for line in lines if line.startswith("warning")]
    changing = ("add-iam", "set-iam", "create", "update", "replace", "delete", "enable")
    assert not [line for line in lines if any(word in line for word in changing)]


def test_a_first_deployment_has_no_service_to_ask_about():
    refused, lines = checked(**{"services list": []})
    assert refused == ""
    assert not [line for line in lines if "get-iam-policy gateway-service" in line]


@pytest.mark.parametrize("member", ["allUsers", "allAuthenticatedUsers"])
def test_a_public_invoker_is_refused(member):
    policy = {"bindings": [{"role": "roles/run.invoker", "members": [AGENT, member]}]}
    assert f"{member} has roles/run.invoker on gateway-service" in checked(**{"services get-iam-policy": policy})[0]
    assert f"{member} has roles/run.invoker on the project" in checked(**{"projects get-iam-policy": policy})[0]


def test_another_invoker_is_told():
    policy = {"bindings": [{"role": "roles/run.invoker", "members": [AGENT, "user:ann@example.com"]}]}
    refused, lines = checked(**{"services get-iam-policy": policy})
    assert refused == ""
    assert "warning: user:ann@example.com may call gateway-service too" in lines


def test_an_agent_with_more_than_its_one_grant_is_refused():
    policy = {"bindings": [{"role": "roles/viewer", "members": [AGENT]}]}
    assert "has roles/viewer on the project: it needs none" in checked(**{"projects get-iam-policy": policy})[0]


def test_shared_accounts_are_refused():
    other = [service("r1", {"r1": 100}), service("a1", {"a1": 100}, name="agent-service", account=GATEWAY)]
    assert "service agent-service in us-central1 runs as sa-gateway@" in checked(**{"services list": other})[0]
    same = [service("r1", {"r1": 100}, account=AGENT)]
    assert "the gateway and its agents must not share one" in checked(**{"services list": same})[0]


def in_region(region, one):
    return one | {"metadata": one["metadata"] | {"labels": {"cloud.googleapis.com/location": region}}}


def test_a_service_of_another_region_shares_no_account_either():
    here = in_region(PLACE.region, service("r1", {"r1": 100}))
    other = in_region("europe-west1", service("a1", {"a1": 100}, name="reports", account=GATEWAY))
    refused, lines = checked(**{"services list": [here, other]})
    assert "service reports in europe-west1 runs as sa-gateway@" in refused
    (asked,) = [line for line in lines if "services list" in line]
    assert "--region" not in asked


def test_a_gateway_of_another_region_is_another_one():
    elsewhere = in_region("europe-west1", service("r1", {"r1": 100}))
    refused, lines = checked(**{"services list": [elsewhere]})
    assert refused == ""
    assert not [line for line in lines if "get-iam-policy gateway-service" in line]


def test_a_check_that_is_off_now_is_refused():
    off = [service("r1", {"r1": 100}, **{"run.googleapis.com/invoker-iam-disabled": "true"})]
    refused, _ = checked(**{"services list": off})
    assert "its invoker check is off: anybody is any agent" in refused
    assert "gcloud run services update gateway-service --invoker-iam-check" in refused


def test_accounts_and_secrets_that_are_not_there_are_refused():
    assert "run `just bootstrap acme-agents us-central1`" in checked(**{"service-accounts list": ACCOUNTS[:1]})[0]
    refused, _ = checked(**{"versions describe": "ERROR: NOT_FOUND: no"})
    assert refused.count("is not there: add it with gcloud secrets versions add") == 4
    assert "is not enabled" in checked(**{"versions describe": {"state": "DESTROYED"}})[0]


def test_what_cannot_be_asked_stops_it():
    with pytest.raises(CommandError, match="PERMISSION_DENIED"):
        checked(**{"projects get-iam-policy": "ERROR: PERMISSION_DENIED: no"})
    with pytest.raises(CommandError, match="PERMISSION_DENIED"):
        checked(**{"versions describe": "ERROR: PERMISSION_DENIED: no"})
