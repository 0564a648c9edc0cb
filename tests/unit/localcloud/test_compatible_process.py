"""The OpenAI-compatible server as a process of its own: ready file, key, signals, and a taken port."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "localcloud.compatible"]


def start(tmp_path, *arguments):
    ready = tmp_path / "ready.json"
    command = [*COMMAND, "--ready-file", str(ready), *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 20
    while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return process, json.loads(ready.read_text())


def asked(ready, key, **more):
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]} | more
    return urllib.request.Request(
        ready["url"] + "/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_and_ends_cleanly(tmp_path, number):
    process, ready = start(tmp_path, "--key", "sk-1", "--model", "m")
    try:
        assert ready["pid"] == process.pid
        with urllib.request.urlopen(ready["admin_url"] + "/admin/streams", timeout=5) as answer:
            assert json.load(answer)["open"] == 0
        with urllib.request.urlopen(asked(ready, "sk-1"), timeout=5) as answer:
            assert json.load(answer)["choices"][0]["finish_reason"] == "stop"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(asked(ready, "sk-2"), timeout=5)
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=10)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (0, b"", b"")


def test_a_taken_port_is_said():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*COMMAND, "--port", port], cwd=ROOT, capture_output=True, timeout=30, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr.startswith("localcloud.compatible: ")
    assert "Traceback" not in done.stderr
