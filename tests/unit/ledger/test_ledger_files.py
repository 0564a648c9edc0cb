"""The ledger's file is private, its own, and one process's at a time."""

import asyncio
import os
import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path

import pytest
from made_calls import Desk

from gateway.ledger.sqlite_files import FileLock, LedgerFileError
from gateway.ledger.sqlite_schema import APPLICATION_ID, MIGRATIONS

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path / "ledger.db")


def prepared(path, *statements):
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


async def refused(desk):
    with pytest.raises(LedgerFileError) as caught:
        await desk.make().start()
    return str(caught.value)


async def test_only_its_owner_reads_the_files(desk):
    old = os.umask(0)
    try:
        async with desk.open():
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in desk.path.parent.iterdir()}
    finally:
        os.umask(old)
    assert set(modes) == {"ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.db.lock"}
    assert set(modes.values()) == {0o600}


async def test_the_file_says_what_it_is(desk):
    async with desk.open() as ledger:
        connection = ledger._opened.source.connection
        told = [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
        assert told == ["wal", 2, 1]
    with closing(sqlite3.connect(desk.path)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        loose = connection.execute(
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND NOT strict"
        ).fetchall()
        assert [name for (name,) in loose if not name.startswith("sqlite_")] == []


async def test_a_second_process_is_turned_away(desk):
    async with desk.open():
        program = (
            "import sys; from pathlib import Path; from gateway.ledger.sqlite_files import FileLock, LedgerFileError\n"
            "try: FileLock(Path(sys.argv[1]))\n"
            "except LedgerFileError as error: print(error)"
        )
        other = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, str(desk.path), stdout=asyncio.subprocess.PIPE, cwd=ROOT
        )
        async with asyncio.timeout(30):
            told, _ = await other.communicate()
    assert f"in use by process {os.getpid()}" in told.decode()
    FileLock(desk.path).release()


async def test_a_second_ledger_in_one_process_is_turned_away_and_harms_nothing(desk):
    async with desk.open():
        assert "in use by process" in await refused(Desk(desk.path, instance="gateway-2"))
        await desk.do()


async def test_a_failed_start_lets_the_lock_go(desk):
    desk.path.write_bytes(b"this is no database, whatever its name says" * 100)
    assert "not a database" in await refused(desk)
    desk.path.unlink()
    async with desk.open():
        pass


async def test_a_missing_folder(tmp_path):
    assert "cannot use the folder" in await refused(Desk(tmp_path / "none" / "ledger.db"))


async def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    assert "file" in await refused(Desk(tmp_path / "file" / "ledger.db"))


async def test_a_path_that_is_a_folder(tmp_path):
    assert "cannot write" in await refused(Desk(tmp_path))


async def test_a_folder_in_which_anyone_replaces_files(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert "anyone may replace files" in await refused(Desk(tmp_path / "open" / "ledger.db"))


async def test_a_link_is_not_followed(desk):
    desk.path.symlink_to(desk.path.with_name("elsewhere.db"))
    assert "cannot write" in await refused(desk)


async def test_another_programs_database_is_left_alone(desk):
    prepared(desk.path, "CREATE TABLE theirs(x)")
    before = desk.path.read_bytes()
    assert "another program's" in await refused(desk)
    assert desk.path.read_bytes() == before


async def test_a_newer_gateways_ledger_is_left_alone(desk):
    async with desk.open():
        pass
    prepared(desk.path, f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    assert "a newer gateway" in await refused(desk)


async def test_a_ledger_of_the_first_version_keeps_what_it_held(desk):
    prepared(
        desk.path,
        *MIGRATIONS[0],
        "INSERT INTO balances VALUES ('agent:a', 'calls', 'total', 2, 3)",
        "INSERT INTO balances VALUES ('account:a', 'exposure_micro_usd', 'total', 0, -7)",
        f"PRAGMA application_id = {APPLICATION_ID}",
        "PRAGMA user_version = 1",
    )
    async with desk.open():
        pass
    with closing(sqlite3.connect(desk.path)) as connection:
        assert connection.execute("SELECT * FROM balances ORDER BY scope").fetchall() == [
            ("account:a", "exposure_micro_usd", "total", 0, -7),
            ("agent:a", "calls", "total", 2, 3),
        ]
        connection.execute("INSERT INTO balances VALUES ('agent:a/X', 'position_nano', 'total', 0, -1)")
        with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
            connection.execute("INSERT INTO balances VALUES ('agent:b', 'calls', 'total', 0, -1)")


async def test_a_boot_id_serves_once(desk):
    async with desk.open():
        pass
    assert "used before" in await refused(Desk(desk.path))


async def test_a_started_ledger_is_not_started_again(desk):
    async with desk.open() as ledger:
        with pytest.raises(LedgerFileError, match="open already"):
            await ledger.start()
        await desk.do()
