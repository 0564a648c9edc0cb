"""Commands: shown, run with bounds, and told about when they fail."""

import sys

import pytest
from told_commands import PLACE, Told

from deploy.faults import CommandError, DeployError
from deploy.place import Place
from deploy.shell import Shell

PYTHON = [sys.executable, "-c"]


def shell(*, dry=False):
    lines = []
    return Shell(dry=dry, tell=lines.append), lines


def test_a_command_is_shown_and_reads_its_input():
    runs, lines = shell()
    assert runs.do([*PYTHON, "print(input() + '!')"], given="hi\n", reads="a word") == "hi!\n"
    assert lines == [f"$ {sys.executable} -c 'print(input() + '\"'\"'!'\"'\"')'  # reads a word"]


def test_a_dry_shell_runs_nothing():
    runs, lines = shell(dry=True)
    assert runs.do(["rm", "-rf", "x"]) == ""
    assert runs.ask(["gcloud", "x"], ["otherwise"]) == ["otherwise"]
    assert lines == ["$ rm -rf x", "$ gcloud x --format=json"]


@pytest.mark.parametrize(
    "program, said",
    [
        ("import sys; sys.stderr.write('warn\\nERROR: no\\nbecause\\n'); sys.exit(3)", "    ERROR: no\n    because"),
        ("import sys; sys.exit(3)", "it said nothing, and ended with 3"),
    ],
)
def test_a_failed_command_says_why(program, said):
    with pytest.raises(CommandError) as failed:
        shell()[0].do([*PYTHON, program])
    assert str(failed.value).endswith(said)


def test_a_command_that_is_not_installed_or_does_not_end():
    with pytest.raises(CommandError, match="is not installed here"):
        shell()[0].do(["no-such-program-anywhere"])
    with pytest.raises(CommandError, match=r"did not end within 0\.05 s"):
        shell()[0].do([*PYTHON, "import time; time.sleep(60)"], seconds=0.05)
    with pytest.raises(CommandError, match="its answer is no JSON"):
        shell()[0].ask([*PYTHON, "print('x')"], None)


def test_what_is_there_already_need_not_be_made():
    told = Told(("make", "ERROR: a thing already exists"))
    told.shell.create(["make"])
    assert told.lines[-1] == "  (is there already)"
    with pytest.raises(CommandError):
        Told(("make", "ERROR: PERMISSION_DENIED")).shell.create(["make"])


def test_a_grant_waits_for_an_account_to_be_known():
    told = Told(("grant", [("ERROR: account x does not exist.",), ("ERROR: account x does not exist.",), ("",)]))
    told.shell.grant(["grant"])
    assert (len(told.commands), told.pauses) == (3, [5.0, 5.0])
    never = Told(("grant", "ERROR: account x does not exist."))
    with pytest.raises(CommandError):
        never.shell.grant(["grant"])
    assert len(never.commands) == 6
    denied = Told(("grant", "ERROR: PERMISSION_DENIED"))
    with pytest.raises(CommandError):
        denied.shell.grant(["grant"])
    assert denied.pauses == []


@pytest.mark.parametrize("wrong", [{"project": "x; rm -rf /"}, {"project": "ab"}, {"region": "here"}])
def test_places_that_cannot_be(wrong):
    with pytest.raises(DeployError):
        Place(**({"project": "acme-agents", "region": "us-central1"} | wrong))


def test_commands_never_ask_back():
    assert PLACE.run("x") == ["gcloud", "run", "x", "--region=us-central1", "--project=acme-agents", "--quiet"]
