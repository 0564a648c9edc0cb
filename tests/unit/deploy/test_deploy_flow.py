"""The order of a deployment, and that callers never move before a call has passed."""

from pathlib import Path

import pytest
from told_commands import AGENT, ASIDE, DIGEST, PLACE, URL, Told, service

from deploy import agent as agent_command
from deploy import deploy as deploy_command
from deploy.agent import deploy_agent
from deploy.deploy import Wish, deploy
from deploy.faults import CommandError, DeployError, RefusedError

ROOT = Path(__file__).parents[3]
ACCOUNTS = [{"email": PLACE.email("sa-gateway")}, {"email": PLACE.email("sa-agent")}]
PREFLIGHT = (
    ("services list", []),
    ("service-accounts list", ACCOUNTS),
    ("projects get-iam-policy", {}),
    ("versions describe", {"state": "ENABLED"}),
    ("auth print-identity-token", "the-token\n"),
)
BEFORE = service("r1", {"r1": 100})
TRIED = service("r2", {"r1": 100}, tagged="r2")


@pytest.fixture
def decided(tmp_path):
    """The shipped manifest with the operator's decision in it."""
    path = tmp_path / "service.yaml"
    path.write_text((ROOT / "service.yaml").read_text().replace("# - {name: GATEWAY_LEDGER", "- {name: GATEWAY_LEDGER"))
    return path


def smokes(told):
    return [command.split()[3] for command in told.commands if "deploy.smoke" in command]


def moves(told):
    return [told.commands[place].split()[5] for place in told.where("update-traffic")]


def test_the_new_revision_is_called_aside_then_gets_all_traffic_and_is_called_again(decided):
    told = Told(("services describe", [(BEFORE,), (TRIED,)]), *PREFLIGHT)
    deploy(told.shell, PLACE, Wish(manifest=decided, image=DIGEST))
    assert smokes(told) == [ASIDE, URL]
    assert moves(told) == ["--to-revisions=r2=100"]
    (replaced,), (moved,) = told.where("replace"), told.where("update-traffic")
    asides = [place for place, command in enumerate(told.commands) if f"deploy.smoke {ASIDE} " in command]
    assert replaced < asides[0] < moved
    traffic = "[{revisionName: r1, percent: 100}, {latestRevision: true, percent: 0, tag: candidate}]"
    assert f"traffic: {traffic}" in told.inputs[replaced]
    assert f"image: {DIGEST}" in told.inputs[replaced]
    assert told.inputs[asides[0]] == "the-token\n"
    assert "the-token" not in " ".join([*told.lines, *told.commands])
    (granted,) = told.where("add-iam-policy-binding")
    assert f"--member={AGENT} --role=roles/run.invoker" in told.commands[granted]


def test_a_revision_that_fails_its_call_gets_no_traffic(decided):
    told = Told(
        ("services describe", [(BEFORE,), (TRIED,)]), (f"deploy.smoke {ASIDE}", "ERROR: UNAVAILABLE"), *PREFLIGHT
    )
    with pytest.raises(DeployError, match="r2 got no traffic"):
        deploy(told.shell, PLACE, Wish(manifest=decided, image=DIGEST))
    assert moves(told) == ["--remove-tags=candidate"]


def test_traffic_goes_back_to_where_it_was_if_the_second_call_fails(decided):
    split = service("r1", {"r0": 30, "r1": 70})
    told = Told(
        ("services describe", [(split,), (TRIED,)]), (f"deploy.smoke {URL}", "ERROR: PERMISSION_DENIED"), *PREFLIGHT
    )
    with pytest.raises(DeployError, match="traffic is back where it was"):
        deploy(told.shell, PLACE, Wish(manifest=decided, image=DIGEST))
    assert moves(told) == ["--to-revisions=r2=100", "--to-revisions=r0=30,r1=70"]


def test_a_revision_that_never_becomes_ready_ends_it(decided):
    told = Told(("services describe", BEFORE), ("services replace", "ERROR: r2 is not ready"), *PREFLIGHT)
    with pytest.raises(CommandError, match="r2 is not ready"):
        deploy(told.shell, PLACE, Wish(manifest=decided, image=DIGEST))
    assert smokes(told) == moves(told) == []


def test_the_first_revision_of_all_has_the_traffic_and_is_called_once(decided):
    first = service("r1", {"r1": 100})
    told = Told(("services describe", [("ERROR: Cannot find service [gateway-service]",), (first,)]), *PREFLIGHT)
    deploy(told.shell, PLACE, Wish(manifest=decided, image=DIGEST))
    assert (smokes(told), moves(told)) == ([URL], [])
    assert "traffic: [{latestRevision: true, percent: 100}]" in told.inputs[told.where("replace")[0]]


def test_without_traffic_it_stops_after_the_first_call(decided):
    told = Told(("services describe", [(BEFORE,), (TRIED,)]), *PREFLIGHT)
    deploy(told.shell, PLACE, Wish(manifest=decided, image=DIGEST, stop_before_traffic=True))
    assert (smokes(told), moves(told)) == ([ASIDE], [])
    nothing = Told(("services describe", "ERROR: NOT_FOUND"), *PREFLIGHT)
    with pytest.raises(DeployError, match="nothing serves yet"):
        deploy(nothing.shell, PLACE, Wish(manifest=decided, image=DIGEST, stop_before_traffic=True))
    assert nothing.where("replace") == []


def test_an_image_is_built_pushed_and_deployed_by_its_digest(decided):
    told = Told(("podman inspect", DIGEST + "\n"), ("services describe", [(BEFORE,), (TRIED,)]), *PREFLIGHT)
    base = f"python@sha256:{'b' * 64}"
    deploy(told.shell, PLACE, Wish(manifest=decided, builder="podman", base=base))
    built, pushed, replaced = (told.where(word)[0] for word in ("build", "push", "replace"))
    assert built < pushed < replaced
    assert f"--build-arg BASE={base}" in told.commands[built]
    assert f"image: {DIGEST}" in told.inputs[replaced]
    nameless = Told(("docker inspect", "\n"), ("services describe", BEFORE), *PREFLIGHT)
    with pytest.raises(DeployError, match="knows no digest"):
        deploy(nameless.shell, PLACE, Wish(manifest=decided))
    assert nameless.where("replace") == []


def test_nothing_is_built_or_sent_when_the_preflight_refuses():
    told = Told(*PREFLIGHT)
    with pytest.raises(RefusedError, match="GATEWAY_LEDGER_MAY_BE_LOST"):
        deploy(told.shell, PLACE, Wish(manifest=ROOT / "service.yaml"))
    assert told.where("build") == told.where("replace") == []


def test_a_dry_run_prints_every_command_in_order_on_a_bare_machine(capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.chdir(ROOT)
    assert deploy_command.main([PLACE.project, PLACE.region, "--dry-run"]) == 0
    out = capsys.readouterr().out
    wanted = (
        *("$ gcloud run services list", "$ gcloud projects get-iam-policy", "$ docker build", "$ docker push"),
        *("$ gcloud run services replace -", "$ gcloud run services add-iam-policy-binding", "deploy.smoke"),
        "$ gcloud run services update-traffic gateway-service --to-revisions=NEWEST-REVISION=100",
        "# if one of these two fails: gcloud run services update-traffic",
    )
    places = [out.index(command) for command in wanted]
    assert places == sorted(places)
    assert "this would be refused: GATEWAY_LEDGER_MAY_BE_LOST" in out
    assert "- name: gateway\n" in out


@pytest.mark.parametrize(
    "words, said",
    [
        (["No", "us-central1", "--dry-run"], "is no project id"),
        ([], "say where: give PROJECT and REGION"),
        (["acme-agents"], "say where: give PROJECT and REGION"),
    ],
)
def test_a_command_line_that_cannot_be_used(words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        deploy_command.main(words)
    assert ended.value.code == 1
    assert said in capsys.readouterr().err


def test_a_dry_run_needs_not_even_a_project(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert deploy_command.main(["--dry-run"]) == 0
    assert "sa-gateway@your-project.iam.gserviceaccount.com" in capsys.readouterr().out


def test_the_agent_gets_the_gateways_address(tmp_path):
    told = Told(("services describe", BEFORE))
    deploy_agent(told.shell, PLACE, ROOT / "deploy/agent.yaml", DIGEST)
    (replaced,) = told.where("replace")
    assert f'{{name: GATEWAY_URL, value: "{URL}"}}' in told.inputs[replaced]
    assert f"serviceAccountName: {PLACE.email('sa-agent')}" in told.inputs[replaced]
    with pytest.raises(DeployError, match="run `just deploy` first"):
        deploy_agent(Told(("describe", "ERROR: NOT_FOUND")).shell, PLACE, ROOT / "deploy/agent.yaml", DIGEST)
    wrong = tmp_path / "agent.yaml"
    wrong.write_text((ROOT / "deploy/agent.yaml").read_text().replace("sa-agent@", "sa-gateway@"))
    refused = Told(("services describe", BEFORE))
    with pytest.raises(RefusedError, match="which may call the gateway only"):
        deploy_agent(refused.shell, PLACE, wrong, DIGEST)
    assert refused.where("replace") == []


def test_the_agents_dry_run(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert agent_command.main([PLACE.project, PLACE.region, f"--image={DIGEST}", "--dry-run"]) == 0
    assert "name: agent-service" in capsys.readouterr().out
