"""The exchange as a process: it says where it listens, trades, and leaves quietly when told to."""

import json
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

COMMAND = [sys.executable, "-m", "localcloud.exchange"]


@pytest.fixture
def running(tmp_path):
    ready_file = tmp_path / "ready.json"
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", "--ready-file", str(ready_file), "--account", "KEY:secret:2500.50", "--seed", "7"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 20
        while not ready_file.exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline, "the exchange did not become ready"
            time.sleep(0.01)
        yield process, json.loads(ready_file.read_text())
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_and_ends_cleanly(running, number):
    process, ready = running
    assert ready["pid"] == process.pid
    keys = {"APCA-API-KEY-ID": "KEY", "APCA-API-SECRET-KEY": "secret"}
    with urllib.request.urlopen(urllib.request.Request(ready["url"] + "/v2/account", headers=keys)) as response:
        assert json.load(response)["cash"] == "2500.5"
    with urllib.request.urlopen(ready["admin_url"] + "/admin/requests") as response:
        assert json.load(response)["count"] == 1
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert errors.startswith("paper exchange: trading on http://127.0.0.1:")
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--account", "KEY:secret"],
        ["--account", "KEY:hush-hush:lots"],
        ["--account", "KEY::1"],
        ["--account", "KEY:s:1:-1"],
        ["--account", "KEY:s:1:1:1"],
        ["--account", "KEY:s:1", "--account", "KEY:t:1"],
        ["--account", "KEY:s:1", "--port", "70000"],
    ],
)
def test_a_wrong_command_line_is_a_usage_error(arguments):
    ended = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 2
    assert "Error" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "hush-hush" not in ended.stderr
