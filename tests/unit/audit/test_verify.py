"""The verifier finds what was done to a ledger, names the first bad record, and says what it cannot know."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from made_calls import Desk, evidence, tool_ask
from tampering import found, write

from gateway.audit.chain import BootChain, leaf_hash
from gateway.audit.sources import UnreadableAuditError
from gateway.audit.verify import verify
from gateway.terms.operations import Failed, Failure, Receipt, Succeeded

NO = Failure(reason="no", message="No.")
ROOT = Path(__file__).resolve().parents[3]


def test_a_whole_ledger_is_right(desk):
    seen = []
    report = verify(desk.path, progress=lambda done, total: seen.append((done, total)))
    assert (report.ok, report.bad, report.records, report.open_count) == (True, None, 15, 0)
    assert dict(report.kinds) == {
        "boot": 2,
        "intent": 5,
        "outcome": 3,
        "lost": 2,
        "refusal": 1,
        "heartbeat": 1,
        "close": 1,
    }
    assert [(boot.boot, boot.records, boot.closed) for boot in report.boots] == [
        ("boot-1", 6, False),
        ("boot-2", 9, True),
    ]
    assert seen == [(15, 15)]


def test_verifying_changes_nothing(desk, tmp_path):
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    verify(desk.path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_edited_record(desk):
    write(
        desk.path,
        "UPDATE audit SET record = CAST(replace(CAST(record AS TEXT), 'op-1', 'op-9') AS BLOB)"
        " WHERE boot = 'boot-1' AND sequence = 2",
    )
    problem = "its bytes are not those that were hashed: the record or its leaf was changed"
    assert found(desk.path) == ("boot-1", 2, problem)


def test_an_edited_record_with_its_leaf(desk):
    record = b'{"v":1,"kind":"heartbeat"}'
    write(
        desk.path,
        ("UPDATE audit SET record = ?, leaf = ? WHERE boot = 'boot-1' AND sequence = 4", (record, leaf_hash(record))),
    )
    assert found(desk.path)[:2] == ("boot-1", 4)
    assert "its link does not follow" in found(desk.path)[2]


def test_an_edited_record_with_leaf_and_link(desk):
    """Whoever repairs one link breaks the next."""
    with closing(sqlite3.connect(desk.path)) as connection:
        [(previous,)] = connection.execute("SELECT link FROM audit WHERE boot = 'boot-1' AND sequence = 3")
    record = b'{"v":1,"kind":"heartbeat"}'
    leaf, link = BootChain(desk.instance, "boot-1").seal(4, previous, record)
    write(
        desk.path,
        (
            "UPDATE audit SET record = ?, leaf = ?, link = ? WHERE boot = 'boot-1' AND sequence = 4",
            (record, leaf, link),
        ),
    )
    assert found(desk.path)[:2] == ("boot-1", 5)


@pytest.mark.parametrize(
    "sequence, bad",
    [(0, ("boot-1", 1)), (2, ("boot-1", 3)), (4, ("boot-1", 5)), (5, ("boot-2", 0))],
)
def test_a_deleted_record(desk, sequence, bad):
    """The last of a killed boot too: the next boot names it."""
    write(desk.path, f"DELETE FROM audit WHERE boot = 'boot-1' AND sequence = {sequence}")
    boot, place, problem = found(desk.path)
    assert (boot, place) == bad
    assert "missing" in problem


def test_a_deleted_boot(desk):
    write(desk.path, "DELETE FROM audit WHERE boot = 'boot-1'")
    assert found(desk.path) == ("boot-2", 0, "it follows the boot boot-1, which is missing")


def test_swapped_records(desk):
    write(
        desk.path,
        "UPDATE audit SET position = -1 WHERE boot = 'boot-1' AND sequence = 3",
        "UPDATE audit SET position = 4 WHERE boot = 'boot-1' AND sequence = 4",
        "UPDATE audit SET position = 5 WHERE position = -1",
    )
    boot, sequence, problem = found(desk.path)
    assert (boot, sequence) == ("boot-1", 4)
    assert "order was changed" in problem


def test_swapped_contents(desk):
    write(
        desk.path,
        "CREATE TABLE kept AS SELECT sequence, record, leaf FROM audit WHERE boot = 'boot-1'",
        "UPDATE audit SET (record, leaf) = (SELECT record, leaf FROM kept WHERE kept.sequence = 7 - audit.sequence)"
        " WHERE boot = 'boot-1' AND sequence IN (3, 4)",
        "DROP TABLE kept",
    )
    assert found(desk.path)[:2] == ("boot-1", 3)


def test_a_moved_boot(desk):
    write(desk.path, "UPDATE audit SET position = position + 100 WHERE boot = 'boot-1'")
    assert found(desk.path)[:2] == ("boot-2", 0)


def test_an_inserted_record(desk):
    write(
        desk.path,
        "UPDATE audit SET position = -position WHERE position > 4",
        "UPDATE audit SET position = 1 - position WHERE position < 0",
        "INSERT INTO audit SELECT 5, instance, boot, 99, record, leaf, link FROM audit WHERE position = 4",
    )
    assert found(desk.path)[:2] == ("boot-1", 99)


def appended(desk, *records):
    """Records with right hashes after the end, as someone with the ledger's own code could write them."""
    with closing(sqlite3.connect(desk.path)) as connection:
        [(boot, sequence, link)] = connection.execute(
            "SELECT boot, sequence, link FROM audit ORDER BY position DESC LIMIT 1"
        ).fetchall()
        for number, record in enumerate(records, sequence + 1):
            leaf, link = BootChain(desk.instance, boot).seal(number, link, record)
            connection.execute(
                "INSERT INTO audit (instance, boot, sequence, record, leaf, link) VALUES (?, ?, ?, ?, ?, ?)",
                (desk.instance, boot, number, record, leaf, link),
            )
        connection.commit()


def without_close(desk):
    write(desk.path, "DELETE FROM audit WHERE boot = 'boot-2' AND sequence = 8")
    return desk


def test_a_record_after_the_close(desk):
    appended(desk, desk.records.heartbeat())
    assert found(desk.path) == ("boot-2", 9, "it stands after the closing record of its boot")


@pytest.mark.parametrize(
    "make, problem",
    [
        (
            lambda desk, told: desk.records.outcome(told("op-4"), Succeeded(result=b"{}")),
            "a second ending of the operation op-4",
        ),
        (
            lambda desk, told: desk.records.outcome(told("op-2"), Failed(failure=NO)),
            "a second ending of the operation op-2",
        ),
        (lambda desk, told: desk.records.intent(told("op-1"), ()), "a second intent of the operation op-1"),
        (
            lambda desk, told: desk.records.outcome(told("op-77"), Failed(failure=NO)),
            "an ending of the operation op-77, which has no intent",
        ),
        (lambda desk, told: desk.records.intent(told(""), ()), "it names no operation"),
        (lambda desk, told: b'{"v":2,"kind":"close"}', "its kind 'close' of version 2 is unknown"),
        (lambda desk, told: b'{"v":1,"kind":"party"}', "its kind 'party' of version 1 is unknown"),
        (
            lambda desk, told: b'{"v":1,"kind":"outcome","operation":"op-1","state":"great"}',
            "it tells no ending: 'great'",
        ),
        (lambda desk, told: b"\xff\xfe", "it is not a record"),
        (lambda desk, told: b"[" * 100_000, "it is not a record"),
        (
            lambda desk, told: b'{"v":1,"kind":"boot","before":{"boot":"b","sequence":1,"link":"xyz"}}',
            "it is not a record",
        ),
    ],
)
def test_a_well_hashed_record_that_cannot_be(desk, make, problem):
    appended(without_close(desk), make(desk, lambda operation: evidence(tool_ask(), operation)))
    boot, sequence, said = found(desk.path)
    assert (boot, sequence) == ("boot-2", 8)
    assert problem in said


def test_a_boot_that_starts_in_the_middle(desk):
    write(desk.path, "UPDATE audit SET boot = 'boot-3' WHERE boot = 'boot-2' AND sequence > 4")
    assert found(desk.path)[2] == "its boot does not begin with its boot record: records before it are missing"


def test_a_boot_that_goes_on_after_a_later_one(desk):
    write(desk.path, "UPDATE audit SET boot = 'boot-1', sequence = 6 WHERE boot = 'boot-2' AND sequence = 8")
    assert found(desk.path)[2] == "its boot goes on after a later boot began: records were moved"


def test_a_cut_tail_is_betrayed_by_the_operations(desk):
    write(desk.path, "DELETE FROM audit WHERE boot = 'boot-2' AND sequence >= 6")
    boot, sequence, problem = found(desk.path)
    assert (boot, sequence) == ("boot-2", 6)
    assert "op-5" in problem


def test_a_cut_tail_with_a_removed_operation(desk):
    """The row may go too, but then its hold must, and what a caller kept as receipt says it all the same."""
    with closing(sqlite3.connect(desk.path)) as connection:
        [(leaf,)] = connection.execute("SELECT leaf FROM audit WHERE boot = 'boot-2' AND sequence = 6")
    write(
        desk.path,
        "DELETE FROM audit WHERE boot = 'boot-2' AND sequence >= 5",
        "DELETE FROM operations WHERE id = 'op-5'",
    )
    report = verify(desk.path)
    assert report.ok
    assert "cut off after record 4" in report.notes[0]
    receipt = Receipt(instance=desk.instance, boot="boot-2", sequence=6, leaf_hash=leaf)
    assert found(desk.path, receipts=[receipt]) == (
        "boot-2",
        6,
        "a receipt that was kept names a record that is not there: the end was cut off",
    )


def test_a_ledger_that_was_written_anew(desk):
    """Nothing in the file tells; a kept receipt does."""
    receipt = Receipt(instance=desk.instance, boot="boot-1", sequence=2, leaf_hash=b"\x07" * 32)
    assert verify(desk.path).ok
    assert "written all of it anew" in verify(desk.path).notes[-1]
    boot, sequence, problem = found(desk.path, receipts=[receipt])
    assert (boot, sequence) == ("boot-1", 2)
    assert "written anew" in problem


@pytest.mark.parametrize(
    "statement, problem",
    [
        (
            "UPDATE operations SET state = 'failed' WHERE id = 'op-1'",
            "the records end in succeeded and the table says failed",
        ),
        (
            "UPDATE operations SET intent_sequence = 3 WHERE id = 'op-1'",
            "its intent is not the record that the table names",
        ),
        (
            "UPDATE operations SET outcome_leaf = x'00' WHERE id = 'op-1'",
            "its ending is not the record that the table names",
        ),
        (
            "UPDATE operations SET outcome_instance = NULL WHERE id = 'op-2'",
            "its ending is not the record that the table names",
        ),
        ("UPDATE operations SET id = 'op-0' WHERE id = 'op-1'", "the table has it and no record does"),
        ("DELETE FROM operations WHERE id = 'op-5'", "its records are there and the table has no such operation"),
    ],
)
def test_an_operations_table_that_says_something_else(desk, statement, problem):
    write(desk.path, statement)
    assert problem in found(desk.path)[2]


def test_an_operation_under_reconciliation_is_unknown_to_the_records(desk):
    write(desk.path, "UPDATE operations SET state = 'reconciling' WHERE id = 'op-5'")
    assert verify(desk.path).ok


def test_a_boot_that_closed_over_a_running_operation(desk):
    """An honest gateway loses it first."""
    told = evidence(tool_ask(), "op-6")
    appended(without_close(desk), desk.records.intent(told, ()), desk.records.close())
    assert found(desk.path) == ("boot-2", 9, "it closes its boot, but the operation op-6 has no ending")


async def test_a_running_ledger_is_verified_with_what_is_open(tmp_path):
    desk = Desk(tmp_path / "ledger.db")
    async with desk.open():
        reservation = await desk.reserve()
        report = verify(desk.path)
        assert (report.ok, report.open_operations, report.open_count) == (True, (reservation.operation,), 1)
        assert "no closing record" in report.notes[0]


async def test_a_killed_ledger_with_its_log_is_verified(desk, tmp_path):
    """What is only in the write-ahead log counts: a copy without it would be cut off."""
    await desk.make().start()
    await desk.do()
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("ledger.db", "ledger.db-wal"):
        shutil.copy(tmp_path / name, copy / name)
    assert verify(copy / "ledger.db").records == 18
    await desk.ledger.close()


async def test_the_log_in_a_folder_that_cannot_be_written_to_is_asked_for(desk, tmp_path, monkeypatch):
    await desk.make().start()
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(desk.path, copy / "ledger.db")
    (copy / "ledger.db-wal").mkdir()
    with pytest.raises(UnreadableAuditError, match="-wal"):
        verify(copy / "ledger.db")
    await desk.ledger.close()


@pytest.mark.parametrize("content", [b"", b"\n", b"{}", b"SQLite format 3\x00" + b"junk" * 2000])
def test_a_file_of_another_kind(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(UnreadableAuditError):
        verify(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UnreadableAuditError, match="cannot read"):
        verify(tmp_path / "none")


def test_a_damaged_page_is_told_as_such(desk):
    data = bytearray(desk.path.read_bytes())
    data[4096:] = b"\xaa" * (len(data) - 4096)
    desk.path.write_bytes(data)
    with pytest.raises(UnreadableAuditError, match="malformed"):
        verify(desk.path)


def test_values_of_other_types_are_told_as_such(desk):
    write(
        desk.path,
        "CREATE TABLE loose AS SELECT position, instance, boot, sequence, 'text' AS record, leaf, link FROM audit",
        "DROP TABLE audit",
        "ALTER TABLE loose RENAME TO audit",
    )
    with pytest.raises(UnreadableAuditError, match="other types"):
        verify(desk.path)


def test_the_verifier_loads_nothing_of_the_gateway_but_terms_and_audit(desk):
    program = (
        "import sys; from pathlib import Path; from gateway.audit.verify import verify\n"
        "assert verify(Path(sys.argv[1])).ok\n"
        "print(sorted({name.split('.')[1] for name in sys.modules if name.startswith('gateway.')}))"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, str(desk.path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=30,
    )
    assert told.stdout.strip() == "['audit', 'terms']"
