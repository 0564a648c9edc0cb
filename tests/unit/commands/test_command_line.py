"""The command line itself: help, wrong usage, and commands that others plug in."""

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest
from click.testing import CliRunner

from gateway.commands import line

COMMANDS = (
    (),
    ("audit",),
    ("audit", "export"),
    ("audit", "show"),
    ("audit", "verify"),
    ("check",),
    ("latch",),
    ("latch", "list"),
    ("latch", "reset"),
    ("policy",),
    ("policy", "explain"),
    ("policy", "schema"),
    ("policy", "test"),
)


def run(*arguments):
    done = CliRunner().invoke(line.commands, arguments, prog_name="gateway")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def process(*arguments, **variables):
    done = subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env=os.environ | variables,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command):
    code, out, err = run(*command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: {' '.join(('gateway', *command))} ")
    for listed in {
        name[len(command)] for name in COMMANDS if len(name) > len(command) and name[: len(command)] == command
    }:
        assert f"\n  {listed} " in out


@pytest.mark.parametrize(
    "arguments, told",
    [
        (("audt",), "Error: No such command 'audt'."),
        (("--nonsense",), "Error: No such option '--nonsense'."),
        (("audit", "verfy"), "Error: No such command 'verfy'."),
        (("check", "one", "two"), "Error: Got unexpected extra argument (two)"),
        (("policy", "explain"), "Error: Missing argument 'CASE_NAME'."),
        (("policy", "test", "nowhere"), "Error: Invalid value for '[FOLDER]': Directory 'nowhere' does not exist."),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(arguments, told):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert told in err


def test_the_module_is_the_command():
    code, out, err = process("--help")
    assert (code, err) == (0, "")
    assert out.startswith("Usage: gateway [OPTIONS] COMMAND [ARGS]...")
    assert "\n  serve " in out


def test_serve_explains_itself_on_both_ways():
    code, out, _ = process("serve", "--help")
    assert code == 0
    assert out.startswith("usage: gateway serve ")
    assert "GATEWAY_LEDGER_MAY_BE_LOST=accepted" in out
    assert run("serve", "--help")[:2] == (0, out)


def test_the_version_is_told():
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("gateway ")


def test_a_gateway_that_is_not_installed_has_no_version(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(line, "version", missing)
    assert run("--version")[:2] == (0, "gateway not installed, run from its source\n")


def test_a_plugged_in_command_that_is_broken_harms_no_other(tmp_path):
    place = tmp_path / "broken-1.0.dist-info"
    place.mkdir()
    (place / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (place / "entry_points.txt").write_text("[gateway.commands]\nbroken = nowhere.at_all:command\n")
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    code, out, _ = process("--help", PYTHONPATH=path)
    assert code == 0
    assert re.search(r"broken +Cannot be loaded\.", out)
    code, out, err = process("broken", PYTHONPATH=path)
    assert (code, out) == (2, "")
    assert err == (
        "Error: the command broken cannot be loaded from nowhere.at_all:command: No module named 'nowhere'\n"
    )
