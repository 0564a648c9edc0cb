"""The shipped manifests, read as data: what the design asks of them, and that Cloud Run's rules find no fault."""

from pathlib import Path

import pytest
from told_commands import DIGEST, PLACE

from deploy.render import filled_in, names
from deploy.yaml_subset import read_yaml
from localcloud.run_admin.rules import service_faults

ROOT = Path(__file__).parents[3]


class EverySecret:
    def secret_fault(self, secret, version, email):
        return ""


def shipped(name):
    return read_yaml(filled_in(ROOT / name, PLACE, IMAGE=DIGEST, GATEWAY_URL="https://gateway.example"))


@pytest.mark.parametrize("name", ["service.yaml", "deploy/agent.yaml"])
def test_cloud_run_finds_no_fault(name):
    assert service_faults(shipped(name), EverySecret()) == []


@pytest.mark.parametrize("name", ["service.yaml", "deploy/agent.yaml"])
def test_every_name_is_explained(name):
    text = (ROOT / name).read_text()
    comments = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    explained = comments + (ROOT / "service.yaml").read_text().partition("apiVersion")[0]
    for wanted in names("\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))):
        assert f"${{{wanted}}}" in explained


def test_the_gateways_manifest():
    service = shipped("service.yaml")
    template = service["spec"]["template"]
    (container,) = template["spec"]["containers"]
    assert service["metadata"]["name"] == "gateway-service"
    assert service["metadata"]["annotations"] == {
        "run.googleapis.com/ingress": "all",
        "run.googleapis.com/minScale": "1",
        "run.googleapis.com/maxScale": "1",
    }
    assert template["metadata"]["annotations"] == {
        "autoscaling.knative.dev/minScale": "1",
        "autoscaling.knative.dev/maxScale": "1",
        "run.googleapis.com/startup-cpu-boost": "true",
        "run.googleapis.com/cpu-throttling": "false",
        "run.googleapis.com/execution-environment": "gen2",
    }
    spec = template["spec"]
    assert (spec["containerConcurrency"], spec["timeoutSeconds"]) == (80, 3600)
    assert spec["serviceAccountName"] == "sa-gateway@acme-agents.iam.gserviceaccount.com"
    assert container["ports"] == [{"name": "h2c", "containerPort": 8080}]
    assert container["resources"] == {"limits": {"cpu": "1", "memory": "512Mi"}}
    assert container["startupProbe"]["grpc"] == {"port": 8080}
    assert container["livenessProbe"]["grpc"] == {"port": 8080, "service": "live"}
    plain = {variable["name"]: variable["value"] for variable in container["env"] if "value" in variable}
    assert plain == {"GATEWAY_CONFIG": "/etc/gateway/gateway.toml", "GATEWAY_EDGE_IAM": "required"}


def test_the_agents_manifest():
    spec = shipped("deploy/agent.yaml")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["serviceAccountName"] == "sa-agent@acme-agents.iam.gserviceaccount.com"
    assert "volumes" not in spec
    assert not [variable for variable in container["env"] if "valueFrom" in variable]
    assert container["args"] == ["agent"]
