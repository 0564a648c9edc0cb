"""A local region whose containers are small programs, and callers of it."""

import contextlib
import sys
from pathlib import Path

from front_door_parts import AGENT, STRANGER, BytesCodec, eventually
from grpclib.client import Channel, UnaryUnaryMethod

from localcloud.google import GoogleConfig, LocalGoogle
from localcloud.instances import Machine, Region, RegionConfig
from localcloud.run_admin import AdminConfig


class ProtoCodec(BytesCodec):
    __content_subtype__ = "proto"


PROGRAM = Path(__file__).with_name("small_container.py")
MODES = ("good", "crash", "never-ready", "wrong-port", "deaf")
PROJECT = "local-project"
SECOND = 0.02
"""What a second of a probe lasts in these tests."""


def manifest(image="good", *, concurrency=2, least=0, most=3, traffic=None, startup=1000, **env):
    """A service as gcloud sends it."""
    probe = {"grpc": {"port": 8080}, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": startup}
    annotations = {"autoscaling.knative.dev/minScale": str(least), "autoscaling.knative.dev/maxScale": str(most)}
    container = {
        "image": image,
        "args": [image],
        "ports": [{"name": "h2c", "containerPort": 8080}],
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "startupProbe": probe,
        "livenessProbe": {**probe, "timeoutSeconds": 1, "failureThreshold": 3},
    }
    spec = {
        "serviceAccountName": f"sa-gateway@{PROJECT}.iam.gserviceaccount.com",
        "containerConcurrency": concurrency,
        "containers": [container],
    }
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "gateway-service", "namespace": PROJECT},
        "spec": {
            "template": {"metadata": {"annotations": annotations}, "spec": spec},
            "traffic": traffic or [{"latestRevision": True, "percent": 100}],
        },
    }


class Callers:
    """A region, and calls to it as the agent."""

    def __init__(self, google, region, stack):
        self.google = google
        self.region = region
        self._stack = stack
        self._channels = {}

    @property
    def services(self):
        return self.region.admin.services

    def status(self):
        return self.services.read("gateway-service")["status"]

    def ready(self):
        """What Cloud Run says of the service: True, False or Unknown."""
        (one,) = (one for one in self.status()["conditions"] if one["type"] == "Ready")
        return one["status"]

    async def deploy(self, wanted):
        """Create or replace the service, and wait until it is ready or has failed; gives the newest revision."""
        known = [service["metadata"]["name"] for service in self.services.listed()]
        if "gateway-service" in known:
            self.services.replace("gateway-service", wanted, dry_run=False)
        else:
            self.services.create(wanted, dry_run=False)
            policy = {"bindings": [{"role": "roles/run.invoker", "members": [f"serviceAccount:{AGENT}"]}]}
            self.services.policy("gateway-service").replace(policy, lambda _: True)
        await eventually(lambda: self.ready() != "Unknown", 20)
        return self.status()["latestCreatedRevisionName"]

    async def who(self, message=b"", *, url="", account="agent"):
        """One call; gives revision, process and file of who answered."""
        address = url or self.region.url
        if address not in self._channels:
            host, _, port = address.removeprefix("http://").partition(":")
            self._channels[address] = Channel(host, int(port), codec=ProtoCodec())
            self._stack.callback(self._channels[address].close)
        account = self.google.metadata[account].account
        token = self.google.issuer.id_token(account, self.region.url)
        method = UnaryUnaryMethod(self._channels[address], "/test.Small/Who", bytes, bytes)
        answer = await method(message, metadata={"authorization": f"Bearer {token}"}, timeout=20)
        return answer.decode().split(" ")

    async def until(self, condition):
        await eventually(condition, 20)


@contextlib.asynccontextmanager
async def region(folder, *, seed=0, **machine):
    """Run a local Google and a region of small containers."""
    images = {mode: (sys.executable, str(PROGRAM)) for mode in MODES}
    given = {"second": SECOND, "grace_seconds": 10.0} | machine
    host = {"SMALL_HOST": "{host}"}
    async with contextlib.AsyncExitStack() as stack:
        google = await stack.enter_async_context(
            LocalGoogle(GoogleConfig(identities={"agent": AGENT, "stranger": STRANGER}))
        )
        config = RegionConfig(
            admin=AdminConfig(project=PROJECT, accounts=("sa-gateway", "sa-agent"), apis=("run.googleapis.com",)),
            machine=Machine(folder=folder, images=images, environment=host, **given),
            certs_url=google.certs_url,
            seed=seed,
        )
        made = await stack.enter_async_context(Region(config, google.issuer))
        clients = stack.enter_context(contextlib.ExitStack())
        yield Callers(google, made, clients)
