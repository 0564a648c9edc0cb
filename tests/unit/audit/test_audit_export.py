"""An export is verified like the ledger that it came from, and one that was cut or mended is found."""

import json
from dataclasses import replace

import pytest
from tampering import found, write

from gateway.audit.sources import UnreadableAuditError, export
from gateway.audit.verify import verify


def exported(desk, tmp_path):
    path = tmp_path / "audit.jsonl"
    with path.open("wb") as out:
        assert export(desk.path, out) == 15
    return path


def test_an_export_is_verified_like_the_ledger(desk, tmp_path):
    path = exported(desk, tmp_path)
    report, original = verify(path), verify(desk.path)
    assert report.ok
    assert replace(report, notes=()) == replace(original, notes=())
    assert "An export has no operations table" in report.notes[0]
    assert all(line.isascii() or line.isprintable() for line in path.read_text().splitlines())


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def rewritten(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_changed_export(desk, tmp_path):
    path = exported(desk, tmp_path)
    lines = lines_of(path)
    lines[3]["record"] = lines[3]["record"].replace("op-1", "op-9")
    assert found(rewritten(path, lines))[:2] == ("boot-1", 2)


@pytest.mark.parametrize(
    "change, problem",
    [
        (lambda lines: lines[:-1], "cut off after 15 records"),
        (lambda lines: lines[:-3] + lines[-1:], "has 13"),
        (lambda lines: [*lines, lines[1]], "goes on after its last line"),
        (lambda lines: lines[1:], "neither a SQLite ledger nor an audit export"),
        (lambda lines: [{**lines[0], "version": 2}, *lines[1:]], "another format or version"),
        (lambda lines: [*lines[:4], {**lines[4], "leaf": "zz"}, *lines[5:]], "line 5 is not one of an export"),
        (lambda lines: [*lines[:4], {"instance": "x"}, *lines[5:]], "line 5 is not one of an export"),
        (lambda lines: [*lines[:4], {**lines[4], "more": 1}, *lines[5:]], "line 5 is not one of an export"),
    ],
)
def test_an_export_that_cannot_be_read(desk, tmp_path, change, problem):
    path = exported(desk, tmp_path)
    with pytest.raises(UnreadableAuditError, match=problem):
        verify(rewritten(path, change(lines_of(path))))


def test_an_export_keeps_the_bytes_of_a_record_that_is_no_text(desk, tmp_path):
    """What is wrong is exported as it is, and found there too."""
    write(desk.path, "UPDATE audit SET record = x'ff00' WHERE boot = 'boot-2' AND sequence = 7")
    path = exported(desk, tmp_path)
    assert lines_of(path)[14]["record_hex"] == "ff00"
    assert found(path)[:2] == found(desk.path)[:2] == ("boot-2", 7)
