"""The demonstration is a test: every expectation of every scene, as seen by its witness."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from gateway.commands.usage import usage


@pytest.mark.parametrize("edge", ["keep", "strip"])
def test_everything_in_the_demo_is_seen_as_expected(edge, tmp_path):
    """With tokens forwarded whole, and with their signature taken off as Cloud Run may do."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "demo", "--json", "--edge", edge, "--keep", str(tmp_path / "kept")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    report = json.loads(done.stdout)
    missed = [
        f"{scene['name']}: {seen['what']} ({seen['where']}): expected {seen['expected']}, saw {seen['seen']}"
        for scene in report["scenes"]
        for seen in scene["seen"]
        if not seen["ok"]
    ]
    assert missed == []
    assert done.returncode == 0
    names = [scene["name"] for scene in report["scenes"]]
    assert names == ["stream", "order", "limit", "replay", "loop", "restart", "hijack", "killed", "audit"]
    # One order was lost with its gateway and found at the exchange: no operation is unknown any more.
    told = CliRunner().invoke(usage, [str(tmp_path / "kept" / "gateway.db"), "--json"])
    assert json.loads(told.output)["total"]["unknown"] == 0
