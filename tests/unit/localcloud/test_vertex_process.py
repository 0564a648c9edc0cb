"""The double as a process of its own: ready file, signals, and a command line that says what is missing."""

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


def start(tmp_path, *arguments):
    ready = tmp_path / "ready.json"
    command = [sys.executable, "-m", "localcloud.vertex", "--ready-file", str(ready), *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 20
    while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return process, json.loads(ready.read_text())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_and_ends_cleanly(tmp_path, number):
    process, ready = start(tmp_path, "--allow-any-token", "--deltas", "2")
    try:
        assert ready["pid"] == process.pid
        with urllib.request.urlopen(ready["admin_url"] + "/admin/streams", timeout=5) as answer:
            assert json.load(answer)["open"] == 0
        request = urllib.request.Request(
            ready["url"] + "/v1/projects/p/locations/l/publishers/google/models/gemini-3.5-flash:streamGenerateContent",
            data=b'{"contents": {"parts": {"text": "hi"}}}',
            headers={"Authorization": "Bearer t", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert len(json.load(answer)) == 2
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=10)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (0, b"", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["ready.json"]


def run(*arguments):
    command = [sys.executable, "-m", "localcloud.vertex", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=30, text=True, check=False)


def test_it_refuses_to_start_without_a_way_to_check_tokens():
    done = run()
    assert done.returncode == 2
    assert "exactly one of a token check, an introspection URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_number_is_refused():
    done = run("--allow-any-token", "--deltas", "-1")
    assert done.returncode == 2
    assert "--deltas" in done.stderr


def test_help_names_the_options():
    done = run("--help")
    assert done.returncode == 0
    for option in ("--introspect-url", "--allow-any-token", "--interval-ms", "--ready-file", "--member"):
        assert option in done.stdout
