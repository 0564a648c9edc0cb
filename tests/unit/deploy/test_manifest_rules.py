"""What the preflight says of a manifest alone; and that it says nothing of the shipped one but what is to decide."""

from pathlib import Path

import pytest
from told_commands import DIGEST, PLACE

from deploy.agent import agent_findings
from deploy.faults import DeployError
from deploy.manifest import Manifest, SecretVersion
from deploy.manifest_rules import manifest_findings
from deploy.render import filled_in

ROOT = Path(__file__).parents[3]
UNDECIDED = "# - {name: GATEWAY_LEDGER_MAY_BE_LOST"
DECIDED = UNDECIDED.removeprefix("# ")


def shipped(*changes, image=DIGEST):
    text = filled_in(ROOT / "service.yaml", PLACE, IMAGE=image)
    for old, new in ((UNDECIDED, DECIDED), *changes):
        assert old in text
        text = text.replace(old, new)
    return Manifest.of(text)


def said(manifest):
    return [finding.sentence for finding in manifest_findings(manifest, PLACE) if finding.grave]


def warned(manifest):
    return [finding.sentence for finding in manifest_findings(manifest, PLACE) if not finding.grave]


def test_the_shipped_manifest_asks_for_one_decision_and_nothing_else():
    assert said(shipped()) == warned(shipped()) == []
    (open_question,) = said(shipped((DECIDED, UNDECIDED)))
    assert open_question.startswith("GATEWAY_LEDGER_MAY_BE_LOST: decide")


def test_it_refers_to_these_secrets():
    assert shipped().secrets == [
        SecretVersion(name=name, version="1")
        for name in ("exchange-key-id", "exchange-secret-key", "exchange-order-key", "gateway-config")
    ]


EDGE = "- {name: GATEWAY_EDGE_IAM, value: required}"
GRAVE = [
    (("name: gateway-service", "name: gateway"), "metadata.name"),
    (('minScale: "1"', "minScale: 1"), 'minScale: an annotation is a string: write "1" in quotes'),
    (('boost: "true"', "boost: true"), 'startup-cpu-boost: an annotation is a string: write "true" in quotes'),
    (("ingress: all", 'ingress: all\n    run.googleapis.com/invoker-iam-disabled: "true"'), "invoker-iam-disabled"),
    (("ingress: all", "ingress: all\n    run.googleapis.com/invoker-iam-disabled: true"), "invoker-iam-disabled"),
    (("sa-gateway@", "sa-agent@"), "shares with nobody"),
    (("serviceAccountName: sa-gateway@acme-agents.iam.gserviceaccount.com", "labels: {}"), "default account"),
    ((EDGE, ""), "GATEWAY_EDGE_IAM: write required"),
    ((EDGE, "- {name: GATEWAY_EDGE_IAM, value: off-duty}"), "GATEWAY_EDGE_IAM: write required"),
    (('maxScale: "1"', 'maxScale: "2"'), "would let a key"),
    (
        ('valueFrom: {secretKeyRef: {name: exchange-secret-key, key: "1"}}', "value: s3cr3t"),
        "has a value in the manifest",
    ),
    (('{name: exchange-key-id, key: "1"}', "{name: exchange-key-id, key: 1}"), "no version in quotes"),
    (("name: h2c", "name: http1"), "name the port h2c"),
    (("ports:\n            - {name: h2c, containerPort: 8080}", "workingDir: /"), "name the port h2c"),
]


@pytest.mark.parametrize("change, sentence", GRAVE)
def test_what_must_not_be_deployed(change, sentence):
    assert any(sentence in one for one in said(shipped(change)))


def test_a_secret_is_never_shown():
    change = ('valueFrom: {secretKeyRef: {name: exchange-secret-key, key: "1"}}', "value: s3cr3t")
    assert "s3cr3t" not in " ".join(said(shipped(change)))


def test_what_speaks_against_it():
    assert warned(shipped(image="gateway:latest")) == [
        "image: gateway:latest has no digest: what runs later may be another image"
    ]
    assert len(warned(shipped(('minScale: "1"', 'minScale: "0"')))) == 2
    latest = shipped(('{name: exchange-key-id, key: "1"}', "{name: exchange-key-id, key: latest}"))
    assert warned(latest) == ["exchange-key-id: name a version: with latest there is no way back"]


def test_a_database_that_outlives_instances_settles_the_question():
    url = '- name: GATEWAY_DATABASE_URL\n              valueFrom: {secretKeyRef: {name: db, key: "1"}}'
    assert said(shipped((DECIDED + ", value: accepted}", url), ('maxScale: "1"', 'maxScale: "9"'))) == []


@pytest.mark.parametrize("text", ["- a\n", "a: &b 1\n"])
def test_what_is_no_manifest(text):
    with pytest.raises(DeployError):
        Manifest.of(text)


def test_the_agent_runs_as_itself_and_holds_nothing():
    text = filled_in(ROOT / "deploy/agent.yaml", PLACE, IMAGE=DIGEST, GATEWAY_URL="https://gateway.example")
    assert list(agent_findings(Manifest.of(text), PLACE)) == []
    assert Manifest.of(text).environment["GATEWAY_URL"] == "https://gateway.example"
    as_gateway = Manifest.of(text.replace("sa-agent@", "sa-gateway@"))
    assert "may call the gateway only" in next(iter(agent_findings(as_gateway, PLACE))).sentence
    secret = '- name: KEY\n              valueFrom: {secretKeyRef: {name: key, key: "1"}}'
    holding = Manifest.of(text.replace("- {name: AGENT_MODEL, value: flash}", secret))
    assert "nothing worth stealing" in next(iter(agent_findings(holding, PLACE))).sentence
