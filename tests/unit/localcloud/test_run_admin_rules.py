"""What Cloud Run's server refuses of a manifest and gcloud does not look at."""

import copy

import pytest

from localcloud.run_admin.rules import service_faults


class World:
    """A project in which every secret is there and may be read."""

    def secret_fault(self, secret, version, email):
        return "" if secret != "nowhere" else "Secret nowhere was not found"


GOOD = {
    "apiVersion": "serving.knative.dev/v1",
    "kind": "Service",
    "metadata": {"name": "svc", "annotations": {"run.googleapis.com/minScale": "1"}},
    "spec": {
        "template": {
            "metadata": {"annotations": {"run.googleapis.com/execution-environment": "gen2"}},
            "spec": {
                "containerConcurrency": 80,
                "timeoutSeconds": 3600,
                "containers": [
                    {
                        "image": "i",
                        "ports": [{"name": "h2c", "containerPort": 8080}],
                        "resources": {"limits": {"cpu": "1", "memory": "512Mi"}},
                        "env": [
                            {"name": "A", "value": "b"},
                            {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "1"}}},
                        ],
                        "startupProbe": {"grpc": {"port": 8080}, "periodSeconds": 1, "timeoutSeconds": 1},
                        "livenessProbe": {"httpGet": {"path": "/health"}},
                        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                    }
                ],
                "volumes": [{"name": "v", "secret": {"secretName": "s", "items": [{"key": "1", "path": "p"}]}}],
            },
        },
        "traffic": [{"latestRevision": True, "percent": 100}],
    },
}
SPEC = "spec.template.spec"
BOX = f"{SPEC}.containers[0]"


def changed(path, value):
    """The good manifest with a value put at a path, or taken away; ~ is the slash inside of an annotation's name."""
    service = copy.deepcopy(GOOD)
    *way, last = [int(step) if step.isdigit() else step.replace("~", "/") for step in path.split("/")]
    place = service
    for step in way:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return service


def test_a_good_manifest_has_no_faults():
    assert service_faults(GOOD, World()) == []


IN_BOX = "spec/template/spec/containers/0"
REFUSED = [
    ("apiVersion", "serving.knative.dev/v2", "apiVersion"),
    ("kind", "Deployment", "kind"),
    ("metadata/name", "Svc", "metadata.name"),
    ("metadata/name", "s" * 50, "metadata.name"),
    ("metadata/bogus", "x", "metadata"),
    ("metadata/annotations/run.googleapis.com~ingress", "everyone", "metadata.annotations[run.googleapis.com/ingress]"),
    ("metadata/annotations/run.googleapis.com~bogus", "x", "metadata.annotations"),
    ("metadata/annotations/autoscaling.knative.dev~minScale", "1", "metadata.annotations"),
    ("metadata/annotations/run.googleapis.com~minScale", 1, "metadata.annotations[run.googleapis.com/minScale]"),
    ("metadata/annotations/run.googleapis.com~minScale", "-1", "metadata.annotations[run.googleapis.com/minScale]"),
    ("metadata/annotations/run.googleapis.com~custom-audiences", "{}", "run.googleapis.com/custom-audiences"),
    ("spec/template/metadata/annotations/run.googleapis.com~startup-cpu-boost", "yes", "startup-cpu-boost"),
    ("spec/template/metadata/annotations/run.googleapis.com~minScale", "1", "spec.template.metadata.annotations"),
    ("spec/template/metadata/annotations/run.googleapis.com~container-dependencies", "[]", "container-dependencies"),
    ("spec/template/metadata/name", "other-1", "spec.template.metadata.name"),
    ("spec/template/spec/containerConcurrency", 0, f"{SPEC}.containerConcurrency"),
    ("spec/template/spec/containerConcurrency", 1001, f"{SPEC}.containerConcurrency"),
    ("spec/template/spec/containerConcurrency", True, f"{SPEC}.containerConcurrency"),
    ("spec/template/spec/timeoutSeconds", 3601, f"{SPEC}.timeoutSeconds"),
    ("spec/template/spec/timeoutSeconds", "3600", f"{SPEC}.timeoutSeconds"),
    ("spec/template/spec/containers", [], f"{SPEC}.containers"),
    ("spec/template/spec/containers", [{"image": "a"}, {"image": "b"}], f"{SPEC}.containers"),
    (f"{IN_BOX}/image", "", f"{BOX}.image"),
    (f"{IN_BOX}/imagePullPolicy", "Always", BOX),
    (f"{IN_BOX}/ports/0/name", "grpc", f"{BOX}.ports[0].name"),
    (f"{IN_BOX}/ports/0/protocol", "UDP", f"{BOX}.ports[0].protocol"),
    (f"{IN_BOX}/ports/0/containerPort", 70000, f"{BOX}.ports[0].containerPort"),
    (f"{IN_BOX}/ports", [], f"{BOX}.ports"),
    (f"{IN_BOX}/ports", [{"containerPort": 1}, {"containerPort": 2}], f"{BOX}.ports"),
    (f"{IN_BOX}/env/0/name", "PORT", f"{BOX}.env"),
    (f"{IN_BOX}/env/0/name", "S", f"{BOX}.env"),
    (f"{IN_BOX}/env/0/name", "1A", f"{BOX}.env[0].name"),
    (f"{IN_BOX}/env/1/value", "both", f"{BOX}.env[1]"),
    (f"{IN_BOX}/env/1/valueFrom/secretKeyRef/name", "nowhere", f"{BOX}.env[1].value_from.secret_key_ref.name"),
    (f"{IN_BOX}/resources/limits/cpu", "3", f"{BOX}.resources.limits.cpu"),
    (f"{IN_BOX}/resources/limits/cpu", "500m", f"{BOX}.resources.limits.cpu"),
    (f"{IN_BOX}/resources/limits/cpu", "4", f"{BOX}.resources.limits.memory"),
    (f"{IN_BOX}/resources/limits/cpu", "much", f"{BOX}.resources.limits.cpu"),
    (f"{IN_BOX}/resources/limits/memory", "256Mi", f"{BOX}.resources.limits.memory"),
    (f"{IN_BOX}/resources/limits/memory", "512", f"{BOX}.resources.limits.memory"),
    (f"{IN_BOX}/resources/limits/gpu", "1", f"{BOX}.resources.limits[gpu]"),
    (f"{IN_BOX}/volumeMounts/0/name", "w", f"{BOX}.volumeMounts[0].name"),
    (f"{IN_BOX}/volumeMounts/0/mountPath", "v", f"{BOX}.volumeMounts[0].mountPath"),
    ("spec/template/spec/volumes/0/secret/secretName", "nowhere", f"{SPEC}.volumes[0].secret.secretName"),
    (f"{IN_BOX}/startupProbe/periodSeconds", 241, f"{BOX}.startupProbe.periodSeconds"),
    (f"{IN_BOX}/startupProbe/initialDelaySeconds", 241, f"{BOX}.startupProbe.initialDelaySeconds"),
    (f"{IN_BOX}/startupProbe/timeoutSeconds", 2, f"{BOX}.startupProbe.timeoutSeconds"),
    (f"{IN_BOX}/startupProbe/failureThreshold", 0, f"{BOX}.startupProbe.failureThreshold"),
    (f"{IN_BOX}/startupProbe/successThreshold", 2, f"{BOX}.startupProbe.successThreshold"),
    (f"{IN_BOX}/startupProbe/grpc/port", 0, f"{BOX}.startupProbe.grpc.port"),
    (f"{IN_BOX}/startupProbe/tcpSocket", {"port": 1}, f"{BOX}.startupProbe"),
    (f"{IN_BOX}/startupProbe/grpc", None, f"{BOX}.startupProbe"),
    (f"{IN_BOX}/livenessProbe/httpGet/path", "health", f"{BOX}.livenessProbe.httpGet.path"),
    (f"{IN_BOX}/livenessProbe/httpGet/host", "h", f"{BOX}.livenessProbe.httpGet.host"),
    (f"{IN_BOX}/livenessProbe", {"tcpSocket": {"port": 1}}, f"{BOX}.livenessProbe.tcpSocket"),
    (f"{IN_BOX}/livenessProbe", {"exec": {"command": ["x"]}}, f"{BOX}.livenessProbe.exec"),
    ("spec/traffic/0/percent", 99, "spec.traffic"),
    ("spec/traffic/0/latestRevision", False, "spec.traffic[0]"),
    ("spec/traffic/0/revisionName", "svc-1", "spec.traffic[0]"),
    ("spec/traffic/0/tag", "A", "spec.traffic[0].tag"),
]


@pytest.mark.parametrize("path, value, field", REFUSED)
def test_what_cloud_run_refuses(path, value, field):
    service = changed(path, value)
    faults = service_faults(service, World())
    assert any(field in fault.field for fault in faults), faults
    assert all(fault.description for fault in faults)


def test_a_least_number_of_instances_above_the_greatest_is_refused():
    service = copy.deepcopy(GOOD)
    service["metadata"]["annotations"] |= {"run.googleapis.com/minScale": "3", "run.googleapis.com/maxScale": "2"}
    (fault,) = service_faults(service, World())
    assert "must not be greater than run.googleapis.com/maxScale (2)" in fault.description


def test_annotations_of_others_and_half_a_cpu_with_one_call_at_a_time_pass():
    service = copy.deepcopy(GOOD)
    service["metadata"]["annotations"]["example.com/team"] = "desk"
    spec = service["spec"]["template"]["spec"]
    spec["containerConcurrency"] = 1
    spec["containers"][0]["resources"]["limits"]["cpu"] = "500m"
    assert service_faults(service, World()) == []


def test_two_targets_must_not_have_one_tag():
    service = copy.deepcopy(GOOD)
    service["spec"]["traffic"] = [
        {"latestRevision": True, "percent": 100, "tag": "t"},
        {"revisionName": "svc-1", "percent": 0, "tag": "t"},
    ]
    (fault,) = service_faults(service, World())
    assert fault.field == "spec.traffic"
