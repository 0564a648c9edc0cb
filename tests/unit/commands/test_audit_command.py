"""`gateway audit` as an auditor uses it: what it prints, and its exit codes."""

import asyncio
import json
import os
import pty
import re
import stat
import subprocess
import sys

import pytest
from click.testing import CliRunner
from made_ledger import damage, write

from gateway.commands.audit import audit


@pytest.fixture
async def ledger(tmp_path):
    path = tmp_path / "gateway.db"
    await write(path)
    return path


def run(*arguments):
    """Exit code, standard output and standard error."""
    done = CliRunner().invoke(audit, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def test_a_good_record_is_counted_and_confirmed(ledger):
    code, out, err = run("verify", ledger)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[:5] == [
        "boot               1",
        "close              1",
        "intent             2",
        "outcome            2",
        "refusal            1",
    ]
    assert lines[5].startswith("boot gateway/boot-1: 7 records, closed, head ")
    assert lines[-1] == "ok: 7 records verified"


def test_the_report_as_json_is_the_only_output(ledger):
    code, out, err = run("verify", "--json", ledger)
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert (told["ok"], told["records"], told["bad"], told["open_count"]) == (True, 7, None, 0)


@pytest.mark.parametrize(
    "statement, sequence, told",
    [
        (
            "UPDATE audit SET record = CAST(replace(record, 'fill', 'kill') AS BLOB) WHERE sequence = 2",
            2,
            "its bytes are not",
        ),
        ("DELETE FROM audit WHERE sequence = 3", 4, "the record 3 before it is missing"),
        ("UPDATE operations SET state = 'failed' WHERE id = 'op-2'", 4, "the records end in succeeded and the table"),
    ],
)
def test_a_tampered_record_is_named(ledger, statement, sequence, told):
    damage(ledger, statement)
    code, out, _ = run("verify", ledger)
    assert code == 1
    assert f"BAD: record {sequence} of gateway/boot-1: " in out
    assert told in out
    assert out.splitlines()[-1].startswith("NOT ok: ")
    code, out, _ = run("verify", "--json", ledger)
    assert code == 1
    assert json.loads(out)["bad"]["sequence"] == sequence


def test_names_in_a_tampered_file_cannot_steer_a_terminal(ledger):
    damage(ledger, "UPDATE audit SET boot = ? WHERE sequence = 0", "\x1b[2Jok: 7 records verified\n\u202e")
    for command in ("verify", "show"):
        _, out, _ = run(command, ledger)
        assert "\\x1b[2Jok: 7 records verified\\n\\u202e" in out
        assert out.replace("\n", "").isprintable()


@pytest.mark.parametrize("command", ["verify", "show"])
@pytest.mark.parametrize(
    "content, told",
    [
        (b"", "the file is neither a SQLite ledger nor an audit export"),
        (b"no ledger", "the file is neither a SQLite ledger nor an audit export"),
        (b"SQLite format 3\x00 and no more", "cannot open"),
        (b'{"format": "agentic-gateway-audit", "version": 1, "records": 5}\n', "the export is cut off after 0 records"),
    ],
)
def test_what_is_no_record_is_refused_with_exit_code_2(tmp_path, command, content, told):
    path = tmp_path / "file"
    path.write_bytes(content)
    code, out, err = run(command, path)
    assert (code, out) == (2, "")
    assert err.startswith(f"Error: {told}")


@pytest.mark.parametrize("command", ["verify", "show", "export"])
def test_wrong_usage_has_exit_code_2(tmp_path, command):
    out = (tmp_path / "out",) if command == "export" else ()
    for file in (tmp_path / "missing", tmp_path):
        code, _, err = run(command, file, *out)
        assert code == 2
        assert re.search("Error: Invalid value.*: File", err)
    assert run(command)[0] == 2
    assert run(command, "--nonsense")[0] == 2


def test_a_person_reads_the_records(ledger):
    code, out, err = run("show", ledger)
    assert (code, err) == (0, "")
    assert "gateway/boot-1 1  2026-11-29T12:00:00.002Z  intent  op-1" in out
    assert '    arguments    {"symbol": "AAPL"}' in out
    assert "    rules        base.trade" in out
    assert '    refusal      {"kind":' in out


def test_a_person_reads_the_records_of_one_operation(ledger):
    code, out, _ = run("show", ledger, "--operation", "op-2")
    heads = [line.split()[3:] for line in out.splitlines() if line.startswith("gateway/")]
    assert code == 0
    assert heads == [["intent", "op-2"], ["outcome", "op-2"], ["refusal", "op-2"]]
    assert run("show", ledger, "--operation", "op-9") == (1, "", "")


async def test_what_an_agent_wrote_is_shown_escaped(tmp_path):
    path = tmp_path / "gateway.db"
    await write(path, symbol="\x1b[31m\u202eAAPL\nnot a line")
    _, out, _ = await asyncio.to_thread(run, "show", path)
    assert out.replace("\n", "").isprintable()
    assert "not a line" in out
    assert "\nnot a line" not in out


def test_a_record_that_is_none_is_shown_as_such(ledger):
    damage(ledger, "UPDATE audit SET record = x'ff00' WHERE sequence = 2")
    damage(ledger, "UPDATE audit SET record = CAST('[1]' AS BLOB) WHERE sequence = 3")
    _, out, _ = run("show", ledger)
    assert "gateway/boot-1 2  not a record: 2 bytes, leaf " in out
    assert "gateway/boot-1 3  not a record: 3 bytes, leaf " in out


def test_times_that_are_none_are_shown_as_they_stand(ledger):
    damage(ledger, 'UPDATE audit SET record = CAST(\'{"kind": 7, "time_us": 1e300}\' AS BLOB) WHERE sequence = 2')
    code, out, _ = run("show", ledger)
    assert code == 0
    assert "gateway/boot-1 2  time 1e+300  7" in out


def test_an_export_is_verified_like_the_ledger(ledger, tmp_path):
    out = tmp_path / "records.jsonl"
    assert run("export", ledger, out) == (0, f"7 records in {out}\n", "")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    code, told, _ = run("verify", out)
    assert code == 0
    assert "ok: 7 records verified" in told
    assert run("show", out)[1] == run("show", ledger)[1]


def test_an_export_overwrites_nothing(ledger, tmp_path):
    out = tmp_path / "records.jsonl"
    out.write_text("precious")
    assert run("export", ledger, out) == (2, "", f"Error: {out} exists: name a new file\n")
    assert out.read_text() == "precious"


def test_an_export_that_fails_leaves_nothing(ledger, tmp_path):
    whole, out = tmp_path / "whole.jsonl", tmp_path / "again.jsonl"
    run("export", ledger, whole)
    whole.write_bytes(whole.read_bytes()[:-20])
    code, _, err = run("export", whole, out)
    assert code == 2
    assert err.startswith("Error: line ")
    assert not out.exists()


def test_an_export_into_no_folder(ledger, tmp_path):
    out = tmp_path / "nowhere" / "records.jsonl"
    assert run("export", ledger, out) == (2, "", f"Error: cannot create {out}: No such file or directory\n")


def test_a_person_at_a_terminal_sees_the_progress(ledger):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "gateway", "audit", "verify", str(ledger)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, check=False, timeout=30)
    os.close(theirs)
    assert os.read(ours, 1_000) == b"\r7 of 7 records\r\n"
    os.close(ours)
    assert done.returncode == 0
    assert done.stdout.endswith(b"ok: 7 records verified\n")
