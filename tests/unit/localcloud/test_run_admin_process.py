"""The admin API as a process of its own: ready file, signals, and a command line that says what is missing."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "localcloud.run_admin"]


def start(folder, *arguments):
    ready = folder / "ready.json"
    process = subprocess.Popen(
        [*COMMAND, "--ready-file", str(ready), *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 20
    while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return process, json.loads(ready.read_text())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_tells_what_gcloud_needs_and_ends_cleanly(tmp_path, number):
    process, ready = start(tmp_path, "--gcloud-folder", str(tmp_path), "--start", "bad=crash", "--project", "acme")
    try:
        assert ready["pid"] == process.pid
        assert ready["environment"]["http_proxy"] == ready["url"]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": ready["url"]}))
        request = urllib.request.Request(
            "http://cloudresourcemanager.googleapis.com/v1/projects/acme", headers={"Authorization": "Bearer t"}
        )
        with opener.open(request, timeout=5) as answer:
            assert json.load(answer)["projectId"] == "acme"
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=10)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (0, b"", b"")


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--project", "No"], "is no project id"),
        (["--start", "image"], "write IMAGE=HOW"),
        (["--start", "image=dances"], "write IMAGE=HOW"),
    ],
)
def test_it_says_what_it_cannot_use(arguments, said):
    done = subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, timeout=30, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
