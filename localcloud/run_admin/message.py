"""The names and types of a Knative Service as Cloud Run's v1 API takes it."""

from typing import Final

from localcloud.run_admin.shapes import Shape, Texts

_META: Final[dict[str, Shape]] = {
    "name": str,
    "namespace": str,
    "annotations": Texts,
    "labels": Texts,
    "generation": int,
    "resourceVersion": str,
    "selfLink": str,
    "uid": str,
    "creationTimestamp": str,
}
_PROBE: Final[dict[str, Shape]] = {
    "initialDelaySeconds": int,
    "periodSeconds": int,
    "timeoutSeconds": int,
    "failureThreshold": int,
    "successThreshold": int,
    "grpc": {"port": int, "service": str},
    "httpGet": {
        "path": str,
        "port": int,
        "host": str,
        "scheme": str,
        "httpHeaders": [{"name": str, "value": str}],
    },
    "tcpSocket": {"port": int, "host": str},
    "exec": {"command": [str]},
}
_SECRET_KEY: Final[dict[str, Shape]] = {"name": str, "key": str}
_CONTAINER: Final[dict[str, Shape]] = {
    "name": str,
    "image": str,
    "command": [str],
    "args": [str],
    "workingDir": str,
    "env": [{"name": str, "value": str, "valueFrom": {"secretKeyRef": _SECRET_KEY}}],
    "ports": [{"name": str, "containerPort": int, "protocol": str}],
    "resources": {"limits": Texts, "requests": Texts},
    "volumeMounts": [{"name": str, "mountPath": str, "readOnly": bool, "subPath": str}],
    "startupProbe": _PROBE,
    "livenessProbe": _PROBE,
    "readinessProbe": _PROBE,
}
_VOLUME: Final[dict[str, Shape]] = {
    "name": str,
    "secret": {"secretName": str, "items": [{"key": str, "path": str, "mode": int}], "defaultMode": int},
    "emptyDir": {"medium": str, "sizeLimit": str},
    "csi": None,
    "nfs": None,
}
_TRAFFIC: Final[dict[str, Shape]] = {
    "revisionName": str,
    "configurationName": str,
    "latestRevision": bool,
    "percent": int,
    "tag": str,
    "url": str,
}

SERVICE: Final[dict[str, Shape]] = {
    "apiVersion": str,
    "kind": str,
    "metadata": _META,
    "spec": {
        "template": {
            "metadata": _META,
            "spec": {
                "serviceAccountName": str,
                "containerConcurrency": int,
                "timeoutSeconds": int,
                "containers": [_CONTAINER],
                "volumes": [_VOLUME],
            },
        },
        "traffic": [_TRAFFIC],
    },
    "status": None,
}
