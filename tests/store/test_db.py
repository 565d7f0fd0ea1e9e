"""Opening, migrating and locking the database, and what is said of a damaged one."""

import sqlite3
import subprocess
import sys
import threading

import pytest

from codex_space.core.errors import WorkspaceError
from codex_space.store import db as db_module
from codex_space.store import runs
from codex_space.store.db import Database
from codex_space.store.migrations import MIGRATIONS


def test_opening_twice_migrates_once_and_keeps_the_rows(tmp_path, new_run, db):
    run = new_run()
    again = Database.open(db.path)
    assert runs.read_run(again, run.id) == run
    assert [row["number"] for row in again.query("SELECT number FROM migrations")] == [*range(1, len(MIGRATIONS) + 1)]
    again.close()


def test_a_migration_and_its_record_are_one_transaction(tmp_path, monkeypatch):
    broken = (*MIGRATIONS, ("CREATE TABLE later (id INTEGER)", "THIS IS NOT SQL"))
    monkeypatch.setattr(db_module, "MIGRATIONS", broken)
    with pytest.raises(sqlite3.OperationalError):
        Database.open(tmp_path / "a.db")
    repaired = (*MIGRATIONS, ("CREATE TABLE later (id INTEGER)",))
    monkeypatch.setattr(db_module, "MIGRATIONS", repaired)
    database = Database.open(tmp_path / "a.db")  # the half of it that worked would make this fail
    assert [row["number"] for row in database.query("SELECT number FROM migrations")] == [
        *range(1, len(MIGRATIONS) + 2)
    ]
    database.close()


def test_an_old_database_is_brought_up_to_date(tmp_path, monkeypatch):
    Database.open(tmp_path / "a.db").close()
    monkeypatch.setattr(db_module, "MIGRATIONS", (*MIGRATIONS, ("ALTER TABLE runs ADD COLUMN note TEXT",)))
    database = Database.open(tmp_path / "a.db")
    database.query("SELECT note FROM runs")
    database.close()


def test_a_database_of_a_newer_version_is_refused(tmp_path):
    database = Database.open(tmp_path / "a.db")
    with database.transaction() as cursor:
        cursor.execute("INSERT INTO migrations (number) VALUES (99)")
    database.close()
    with pytest.raises(WorkspaceError, match="newer version"):
        Database.open(tmp_path / "a.db")


def test_processes_that_open_a_new_workspace_at_once_all_succeed(tmp_path):
    program = "import sys, pathlib; from codex_space.store.db import Database; Database.open(pathlib.Path(sys.argv[1]))"
    started = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "a.db")]) for _ in range(4)]
    assert [process.wait(30) for process in started] == [0, 0, 0, 0]


def test_only_this_user_can_read_the_files(db, new_run):
    new_run()
    files = list(db.path.parent.glob("codex_space.db*"))
    assert len(files) == 3
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path):
    (tmp_path / "a.db").touch(mode=0o644)
    Database.open(tmp_path / "a.db").close()
    assert (tmp_path / "a.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"this is not a database, " * 200, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_file_that_is_no_database_is_named_with_a_cure(tmp_path, content):
    (tmp_path / "a.db").write_bytes(content)
    with pytest.raises(WorkspaceError, match=r"a\.db.*workspace rebuild"):
        Database.open(tmp_path / "a.db")
    assert (tmp_path / "a.db").read_bytes() == content


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(WorkspaceError, match="cannot be written"):
        Database.open(tmp_path / "missing" / "a.db")


def test_what_fails_in_a_transaction_leaves_nothing(db, new_run):
    run = new_run()
    with pytest.raises(RuntimeError), db.transaction():
        runs.rename_run(db, run.id, "other")
        raise RuntimeError
    assert runs.read_run(db, run.id).name == "one"


def test_an_inner_transaction_is_part_of_the_outer_one(db, new_run):
    run = new_run()
    with pytest.raises(RuntimeError), db.transaction():
        with db.transaction():
            runs.rename_run(db, run.id, "other")
        raise RuntimeError
    assert runs.read_run(db, run.id).name == "one"
    runs.rename_run(db, run.id, "third")  # and the connection is usable again
    assert runs.read_run(db, run.id).name == "third"


def test_a_full_disk_is_said_in_a_sentence_and_nothing_is_lost(db, new_run):
    run = new_run()
    pages = db.query("PRAGMA page_count")[0][0]
    db.query(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(WorkspaceError, match="Free some space"):
        for number in range(1000):
            new_run(recipe="x" * 10_000, now=float(number))
    assert runs.read_run(db, run.id) == run


def test_threads_share_one_connection(db, new_run):
    run = new_run()

    def count():
        for _ in range(50):
            with db.transaction():
                step = runs.read_run(db, run.id).step
                runs.update_progress(db, run.id, step=step + 1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert runs.read_run(db, run.id).step == 200
