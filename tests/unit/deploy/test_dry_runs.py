"""A dry run shows every command that a real run would make, in its order, on a machine that has nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from told_commands import DIGEST, PLACE, Told, service

from deploy import agent, bootstrap, canary, database, deploy, preflight, rollback
from deploy.live import NEWEST, SERVING
from deploy.shell import Shell

ROOT = Path(__file__).parents[3]
URL = f"https://gateway-service-PROJECT_NUMBER.{PLACE.region}.run.app"
LIVE = service(NEWEST, {SERVING: 100}, tagged=NEWEST)
LIVE["status"]["url"] = URL
LIVE["status"]["traffic"][-1]["url"] = URL.replace("https://", "https://candidate---")
READY = {"conditions": [{"type": "Ready", "status": "True"}]}
REVISIONS = [
    {"metadata": {"name": name, "creationTimestamp": age}, "status": READY}
    for name, age in ((NEWEST, "3"), (SERVING, "2"), ("REVISION-BEFORE", "1"))
]
WORLD = (
    ("vpc-peerings list", []),
    ("services list", [{"metadata": {"name": "gateway-service"}}]),
    ("services describe", LIVE),
    ("revisions list", REVISIONS),
    ("service-accounts list", [{"email": PLACE.email("sa-gateway")}, {"email": PLACE.email("sa-agent")}]),
    ("versions describe", {"state": "ENABLED"}),
    ("docker inspect", DIGEST),
    ("auth print-identity-token", "a-token"),
    ("sql instances describe", {"ipAddresses": [{"type": "PRIVATE", "ipAddress": "10.0.0.2"}]}),
)
"""What a project says in which everything is well, in the words in which a dry run calls what it cannot know."""

COMMANDS = {
    "preflight": (preflight, []),
    "bootstrap": (bootstrap, ["--operator=user:ann@example.com"]),
    "bootstrap with a database": (bootstrap, ["--database"]),
    "a new password": (database, []),
    "deploy": (deploy, []),
    "deploy an image": (deploy, [f"--image={DIGEST}", "--no-traffic"]),
    "canary": (canary, ["10"]),
    "canary of all": (canary, ["100"]),
    "rollback": (rollback, []),
    "rollback to one": (rollback, ["--to=REVISION-BEFORE"]),
    "agent": (agent, [f"--image={DIGEST}"]),
}


@pytest.fixture
def manifest(tmp_path):
    """The shipped manifest as its operator decided it."""
    path = tmp_path / "service.yaml"
    path.write_text((ROOT / "service.yaml").read_text().replace("# - {name: GATEWAY_LEDGER", "- {name: GATEWAY_LEDGER"))
    return path


@pytest.mark.parametrize("name", COMMANDS)
def test_it_shows_what_a_real_run_does_and_nothing_else(name, manifest, monkeypatch, capsys):
    module, words = COMMANDS[name]
    monkeypatch.chdir(ROOT)
    if module in (preflight, bootstrap, deploy):
        words = [*words, f"--manifest={manifest}"]
    words = [*words, PLACE.project, PLACE.region]
    told = Told(*WORLD)
    monkeypatch.setattr(module, "Shell", lambda *, dry, tell: told.shell)
    assert module.main(words) == 0
    done = [line for line in told.lines if line.startswith("$ ")]
    assert len(done) == len(told.commands)

    monkeypatch.setattr(module, "Shell", Shell)
    capsys.readouterr()
    assert module.main([*words, "--dry-run"]) == 0
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("$ ")]
    assert shown == done
    assert shown


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize(
    "words",
    [
        ("preflight",),
        ("bootstrap", "acme-agents", "us-central1"),
        ("bootstrap", "acme-agents", "us-central1", "--database"),
        ("database",),
        ("deploy",),
        ("canary", "10"),
        ("rollback",),
        ("agent", f"--image={DIGEST}"),
    ],
    ids=" ".join,
)
def test_it_needs_python_and_git_and_nothing_else(words, tmp_path):
    """`env -i`: no variables, no packages, no gcloud, no docker, no network."""
    python = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    for name, target in (("python3", python), ("git", shutil.which("git"))):
        (tmp_path / name).symlink_to(target)
    env = ["env", "-i", f"PATH={tmp_path}", f"LD_LIBRARY_PATH={os.environ.get('LD_LIBRARY_PATH', '')}"]
    done = subprocess.run(
        [*env, str(tmp_path / "python3"), "-S", "-m", f"deploy.{words[0]}", *words[1:], "--dry-run"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert any(line.startswith("$ gcloud ") for line in done.stdout.splitlines())
