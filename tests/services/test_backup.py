"""An archive of a workspace comes back as it was; a hostile one leaves nothing behind."""

import gzip
import io
import json
import os
import sqlite3
import subprocess
import sys
import tarfile
import threading

import pytest

from codex_space.core.errors import WorkspaceError
from codex_space.core.paths import Workspace
from codex_space.core.settings import read_settings
from codex_space.services import backup as archives
from codex_space.services.context import Context
from codex_space.store import checkpoints, runs
from codex_space.store.db import Database
from codex_space.store.migrations import MIGRATIONS
from tests.fakes.checkpoints import RECIPE, RUN_ID, write_checkpoint


@pytest.fixture
def ctx(tmp_path):
    workspace = Workspace(tmp_path / "workspace").make()
    db = Database.open(workspace.database)
    yield Context(read_settings({"CODEX_SPACE_HOME": str(workspace.root)}), workspace, db, lambda: 1000.0)
    db.close()


@pytest.fixture
def filled(ctx):
    job = ctx.workspace.job(RUN_ID)
    job.root.mkdir()
    job.recipe.write_text(RECIPE)
    job.events.write_text('{"e": "attempt"}\n')
    job.worker.write_text("{}")
    job.spool.mkdir()
    (job.spool / "x").write_text("x")
    (job.root / "link").symlink_to("/etc/hostname")
    runs.insert_run(ctx.db, id=RUN_ID, name="first", kind="sft", recipe=RECIPE, repo_id="ada/model", now=1.0)
    for step in (2, 4, 6):
        write_checkpoint(job.checkpoint(step), step)
        checkpoints.add_checkpoint(ctx.db, RUN_ID, step, created_at=1.0, size_bytes=1, metrics={}, upload="queued")
    for step in (2, 6):
        checkpoints.set_upload(ctx.db, RUN_ID, step, "uploaded", commit_id="c")
    (ctx.workspace.datasets / "mine").mkdir()
    (ctx.workspace.datasets / "mine" / "rows.jsonl").write_text("{}\n")
    (ctx.workspace.root / "identity.json").write_text('{"workspace": "abc"}')
    return ctx


@pytest.mark.parametrize("name", ["a.tar.zst", "a.tar.gz"])
def test_a_workspace_comes_back(filled, tmp_path, name):
    told = archives.backup(filled, tmp_path / name)
    assert (told["runs"], told["left_out"]) == (1, 1)
    back = Workspace(tmp_path / "back")
    archives.restore(tmp_path / name, back)
    db = Database.open(back.database)
    assert runs.list_runs(db) == runs.list_runs(filled.db)
    assert checkpoints.list_checkpoints(db, RUN_ID) == checkpoints.list_checkpoints(filled.db, RUN_ID)
    db.close()
    job = back.job(RUN_ID)
    assert job.checkpoint_steps() == [4, 6]  # 2 is on the Hub; the newest stays wherever it is
    assert job.recipe.read_text() == RECIPE
    assert (back.datasets / "mine" / "rows.jsonl").read_text() == "{}\n"
    left_out = (job.worker, job.spool, job.root / "link", back.identity)
    assert not any(path.exists() or path.is_symlink() for path in left_out)
    assert back.database.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob(".*restore*"))


def test_the_database_is_whole_while_another_thread_writes(filled, tmp_path):
    ending = threading.Event()

    def write():
        number = 0
        while not ending.is_set():
            number += 1
            with filled.db.transaction() as cursor:  # both or none
                cursor.execute("UPDATE runs SET step = ?, max_steps = ?", (number, number))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(5):
            archives.backup(filled, tmp_path / f"{number}.tar.gz")
            back = Workspace(tmp_path / f"back-{number}")
            archives.restore(tmp_path / f"{number}.tar.gz", back)
            row = sqlite3.connect(back.database).execute("SELECT step, max_steps FROM runs").fetchone()
            assert row[0] == row[1]
    finally:
        ending.set()
        thread.join()


def test_an_older_database_is_upgraded(filled, tmp_path):
    old = tmp_path / "old.db"
    connection = sqlite3.connect(old)
    connection.execute("CREATE TABLE migrations (number INTEGER PRIMARY KEY)")
    for statement in MIGRATIONS[0]:
        connection.execute(statement)
    connection.execute("INSERT INTO migrations VALUES (1)")
    connection.commit()
    connection.close()
    archive = make(tmp_path, ("codex_space.db", old.read_bytes()))
    archives.restore(archive, Workspace(tmp_path / "back"))
    db = Database.open(tmp_path / "back" / "codex_space.db")
    assert db.query("SELECT max(number) AS n FROM migrations")[0]["n"] == len(MIGRATIONS)
    db.close()


def make(folder, *members, name="hostile.tar.gz"):
    """Write an archive of (name, content) or of TarInfo."""
    path = folder / name
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return path


def special(kind, **given):
    info = tarfile.TarInfo("runs/x")
    info.type = kind
    for name, value in given.items():
        setattr(info, name, value)
    return info


@pytest.mark.parametrize(
    "member",
    [
        ("../outside", b"x"),
        ("runs/../../outside", b"x"),
        ("/tmp/outside", b"x"),
        ("runs//x", b"x"),
        ("runs/./x", b"x"),
        ("runs\\..\\x", b"x"),
        ("runs/x\ny", b"x"),
        ("runs/" + "a" * 2000, b"x"),
        ("owner.lock", b"x"),
        ("codex_space.db/x", b"x"),
        ("identity.json", b"{}"),
        special(tarfile.SYMTYPE, linkname="/etc/passwd"),
        special(tarfile.LNKTYPE, linkname="codex_space.db"),
        special(tarfile.CHRTYPE, devmajor=1, devminor=3),
        special(tarfile.FIFOTYPE),
        special(tarfile.DIRTYPE),
        special(tarfile.BLKTYPE, devmajor=8, devminor=0),
        special(tarfile.REGTYPE, size=-1024),
        ("runs/x/worker.json", b"{}"),
        ("runs/x/stop.request", b""),
        ("runs/x/announced.json", b"{}"),
        ("runs/x/spool/step-5/model.safetensors", b"x"),
    ],
)
def test_a_hostile_member_is_refused_and_nothing_is_kept(tmp_path, member):
    archive = make(tmp_path, ("runs/fine", b"x"), member)
    with pytest.raises(WorkspaceError, match=r"not unpacked|damaged"):
        archives.restore(archive, Workspace(tmp_path / "back"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hostile.tar.gz"]


def test_the_same_name_twice_is_refused(tmp_path):
    archive = make(tmp_path, ("runs/x", b"1"), ("runs/x", b"2"))
    with pytest.raises(WorkspaceError, match="File exists"):
        archives.restore(archive, Workspace(tmp_path / "back"))


def test_what_comes_is_for_this_user_alone_whatever_the_archive_says(tmp_path, filled):
    info = tarfile.TarInfo("runs/x/setuid")
    info.mode, info.uid, info.gid, info.uname = 0o6777, 0, 0, "root"
    database = filled.workspace.root / "copy.db"
    filled.db.copy_to(database)
    archive = make(tmp_path, ("codex_space.db", database.read_bytes()), info)
    archives.restore(archive, Workspace(tmp_path / "back"))
    found = (tmp_path / "back" / "runs" / "x" / "setuid").stat()
    assert (found.st_mode & 0o7777, found.st_uid) == (0o600, os.getuid())
    assert (tmp_path / "back" / "runs" / "x").stat().st_mode & 0o7077 == 0


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER quietly AFTER INSERT ON runs BEGIN DELETE FROM audit; END",
        "CREATE VIEW seen AS SELECT * FROM runs",
        "CREATE VIRTUAL TABLE v USING fts5(x)",
    ],
)
def test_a_database_that_does_more_than_hold_rows_is_refused(tmp_path, filled, statement):
    database = tmp_path / "hostile.db"
    filled.db.copy_to(database)
    connection = sqlite3.connect(database)
    connection.execute(statement)
    connection.commit()
    connection.close()
    archive = make(tmp_path, ("codex_space.db", database.read_bytes()))
    with pytest.raises(WorkspaceError, match="database"):
        archives.restore(archive, Workspace(tmp_path / "back"))
    assert not (tmp_path / "back").exists()


def test_a_chain_of_headers_is_refused_in_one_sentence(tmp_path):
    """Each says that the next describes the file: a reader that follows them one inside the other runs out of stack."""
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 16
    block = header.tobuf(tarfile.USTAR_FORMAT) + b"15 comment=abcd\n".ljust(512, b"\0")
    path = tmp_path / "chain.tar.gz"
    path.write_bytes(gzip.compress(block * 5000))
    with pytest.raises(WorkspaceError):
        archives.restore(path, Workspace(tmp_path / "back"))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["chain.tar.gz"]


def test_a_real_bomb_costs_neither_disk_nor_time(tmp_path):
    """A megabyte that unpacks to a gigabyte of zeros, said to be more than any disk."""
    info = tarfile.TarInfo("runs/zeros")
    info.size = 1 << 50
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf() + bytes(64 << 20)))
    with pytest.raises(WorkspaceError, match="more than the disk"):
        archives.restore(path, Workspace(tmp_path / "back"))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["bomb.tar.gz"]


def test_a_bomb_is_refused_before_it_fills_the_disk(tmp_path, monkeypatch):
    archive = make(tmp_path, ("runs/zeros", bytes(1 << 20)))
    free = type("Usage", (), {"free": archives.SPARE_BYTES + 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: free)
    with pytest.raises(WorkspaceError, match="more than the disk"):
        archives.restore(archive, Workspace(tmp_path / "back"))


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILES", 3)
    archive = make(tmp_path, *[(f"runs/{number}", b"") for number in range(5)])
    with pytest.raises(WorkspaceError, match="more than 3 files"):
        archives.restore(archive, Workspace(tmp_path / "back"))


def test_a_header_of_megabytes_is_refused(tmp_path):
    path = tmp_path / "long.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("runs/" + "a" * (2 << 20)))
    with pytest.raises(WorkspaceError, match="header"):
        archives.restore(path, Workspace(tmp_path / "back"))


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08garbage"])
def test_what_is_no_archive_is_one_sentence(tmp_path, content):
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(WorkspaceError):
        archives.restore(tmp_path / "a.tar.gz", Workspace(tmp_path / "back"))
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("name", ["a.tar.zst", "a.tar.gz"])
def test_an_archive_that_was_cut_off_is_refused(filled, tmp_path, name):
    archives.backup(filled, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WorkspaceError):
        archives.restore(tmp_path / name, Workspace(tmp_path / "back"))
    assert not (tmp_path / "back").exists()


def test_a_folder_that_is_not_empty_is_left_alone(filled, tmp_path):
    archives.backup(filled, tmp_path / "a.tar.gz")
    with pytest.raises(WorkspaceError, match="not empty"):
        archives.restore(tmp_path / "a.tar.gz", filled.workspace)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a"])
def test_other_endings_are_refused(filled, tmp_path, name):
    with pytest.raises(WorkspaceError, match=r"\.tar\.zst or \.tar\.gz"):
        archives.backup(filled, tmp_path / name)


def test_it_is_not_written_into_itself_nor_over_another_file(filled, tmp_path):
    with pytest.raises(WorkspaceError, match="part of what it holds"):
        archives.backup(filled, filled.workspace.root / "a.tar.gz")
    (tmp_path / "a.tar.gz").write_text("mine")
    with pytest.raises(WorkspaceError, match="exists"):
        archives.backup(filled, tmp_path / "a.tar.gz")
    assert (tmp_path / "a.tar.gz").read_text() == "mine"


def test_the_commands_do_it(filled, tmp_path):
    def cli(*args):
        done = subprocess.run([sys.executable, "-m", "codex_space", "workspace", *args], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    archive, back = str(tmp_path / "a.tar.zst"), str(tmp_path / "back")
    assert cli("backup", archive, "--workspace", str(filled.workspace.root), "--json")["runs"] == 1
    assert cli("restore", archive, "--workspace", back, "--json")["runs"] == 1


def test_a_log_that_is_cut_while_it_is_read_holds_nothing_up(filled, tmp_path, monkeypatch):
    log, real = filled.workspace.job(RUN_ID).log, os.fstat
    log.write_text("a line of a Job's log\n" * 1000)

    def cut_afterwards(fd):
        found = real(fd)
        if os.path.samestat(found, log.stat()):
            os.truncate(log, 22)
        return found

    monkeypatch.setattr(archives.os, "fstat", cut_afterwards)
    archives.backup(filled, tmp_path / "a.tar.gz")
    back = Workspace(tmp_path / "back")
    archives.restore(tmp_path / "a.tar.gz", back)
    assert back.job(RUN_ID).log.read_bytes().rstrip(b"\0") == b"a line of a Job's log\n"
    assert (back.datasets / "mine" / "rows.jsonl").is_file()


def test_two_that_write_one_archive_at_once_do_not_write_into_each_others(filled, tmp_path):
    written = []
    both = threading.Barrier(2, timeout=30)

    def write():
        both.wait()
        written.append(archives.backup(filled, tmp_path / "a.tar.gz"))

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert archives.restore(tmp_path / "a.tar.gz", Workspace(tmp_path / "back"))["runs"] == 1
    assert written
    assert not list(tmp_path.glob(".*part"))
