"""`just bootstrap` to `just rollback` with the real gcloud, onto real gateway processes behind the front door."""

import asyncio
import shutil
import sys

import pytest
from gateway_region import IMAGE, PLACE, ROOT, eventually, gateway_region

from localcloud.run_admin import AdminConfig, gcloud_environment

pytestmark = pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not on the PATH")

EMPTY = AdminConfig(project=PLACE.project)
"""A project as it is when somebody has just made it."""


class Operator:
    """Who runs the project's commands in a shell, with gcloud as it is found there."""

    def __init__(self, at):
        self.at = at
        self._folder = at.folder / "gcloud"
        self._folder.mkdir()
        environment = gcloud_environment(at.region.admin.url, self._folder)
        self._environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": str(self._folder), **environment}

    async def __call__(self, command, *words):
        """Run `python -m deploy.COMMAND`; gives exit code, output and errors."""
        return await self.run(sys.executable, "-m", f"deploy.{command}", *words, PLACE.project, PLACE.region)

    async def run(self, *words, given=""):
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            cwd=ROOT,
        )
        try:
            async with asyncio.timeout(180):
                out, err = await process.communicate(given.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode, out.decode(), err.decode()

    async def secret(self, name, value):
        """What docs/operating.md says: gcloud secrets versions add NAME --data-file=-."""
        words = ("secrets", "versions", "add", name, "--data-file=-", f"--project={PLACE.project}")
        code, _, err = await self.run("gcloud", *words, given=value)
        assert code == 0, err


def short(at, config):
    """The manifest without the exchange's secrets, which are in the environment here: each costs seconds of gcloud."""
    path = at.written(config=config)
    path.write_text("\n".join(line for line in path.read_text().splitlines() if "exchange" not in line.lower()))
    return path


def done(ended):
    code, out, err = ended
    assert code == 0, out + err
    return out


async def test_from_an_empty_project_to_a_rollback(tmp_path):
    keys = dict.fromkeys(("EXCHANGE_KEY_ID", "EXCHANGE_SECRET_KEY", "EXCHANGE_ORDER_KEY"), "k" * 48)
    async with gateway_region(tmp_path, project=EMPTY, environment=keys) as at:
        operator = Operator(at)
        manifest = f"--manifest={short(at, '1')}"
        told = done(await operator("bootstrap", manifest, f"--operator={EMPTY.operator}"))
        assert "the first `just deploy` makes this grant" in told
        await operator.secret("gateway-config", at.configuration())

        first = done(await operator("deploy", manifest, f"--image={IMAGE}"))
        assert "an agent's call to" in first or "is ready at" in first
        old = at.status()["latestReadyRevisionName"]
        agent = await at.agent(attempts=10)
        assert (await agent.list_models()).models

        # A revision that cannot start: nobody is sent to it, and the old one serves on.
        await operator.secret("gateway-config", at.configuration().replace("[identity]", "[identitty]"))
        code, _, err = await operator("deploy", f"--manifest={short(at, '2')}", f"--image={IMAGE}")
        assert code == 1
        assert "failed to start and listen" in err
        assert (await agent.list_models()).models
        assert at.region.traffic.shares == {old: 100}

        # A good one: ready and called once, then a share of the calls, then all, then none again.
        await operator.secret("gateway-config", at.configuration() + "\n# the next one\n")
        good = f"--manifest={short(at, '3')}"
        waits = done(await operator("deploy", good, f"--image={IMAGE}", "--no-traffic"))
        assert "it waits for `just canary PERCENT`" in waits
        new = at.status()["latestReadyRevisionName"]
        assert at.region.traffic.shares == {old: 100}
        done(await operator("canary", "10"))
        assert at.region.traffic.shares == {new: 10, old: 90}
        done(await operator("rollback"))
        assert at.region.traffic.shares == {old: 100}
        done(await operator("canary", "100"))
        assert at.region.traffic.shares == {new: 100}
        before = at.served()
        assert (await agent.list_models()).models
        await eventually(lambda: (at.served() - before)[new] == 1)
