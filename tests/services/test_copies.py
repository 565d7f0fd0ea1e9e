"""Copies of the newest backup appear whole or not at all, three at most, and a workspace comes back from one."""

import pytest

from codex_space.core.errors import WorkspaceError
from codex_space.core.paths import Workspace
from codex_space.core.settings import read_settings
from codex_space.services import backup, copies
from codex_space.services.context import Context, open_context
from codex_space.services.copies import EVERY_S, Copies
from codex_space.store import runs
from codex_space.store.db import Database
from tests.fakes.checkpoints import RECIPE, RUN_ID

NOW = 1_800_000_000.0


@pytest.fixture
def bucket(tmp_path):
    folder = tmp_path / "bucket"
    folder.mkdir()
    return folder


@pytest.fixture
def ctx(tmp_path, bucket):
    env = {"CODEX_SPACE_HOME": str(tmp_path / "workspace"), "CODEX_SPACE_COPIES": str(bucket)}
    context = open_context(read_settings(env), lambda: NOW, own=False)
    runs.insert_run(context.db, id=RUN_ID, name="first", kind="sft", recipe=RECIPE, repo_id=None, now=1.0)
    runs.restore_run(context.db, RUN_ID, state="succeeded", ended_at=2.0)
    yield context
    context.close()


def names(bucket):
    return sorted(path.name for path in bucket.iterdir())


def test_a_copy_is_made_and_a_workspace_comes_back_from_it(ctx, bucket, tmp_path):
    Copies(ctx, bucket).step(NOW)
    assert names(bucket) == ["codex_space-20270115-080000.tar.zst"]
    assert copies.status_of(ctx)["file"] == str(bucket / names(bucket)[0])
    backup.restore(bucket / names(bucket)[0], Workspace(tmp_path / "back"))
    db = Database.open(tmp_path / "back" / "codex_space.db")
    assert [run.id for run in runs.list_runs(db)] == [RUN_ID]
    db.close()


def test_nothing_new_is_not_copied_and_not_more_than_three_are_kept(ctx, bucket):
    copier, now = Copies(ctx, bucket), NOW
    for number in range(6):
        copier.step(now)
        copier.step(now + 2 * EVERY_S)  # nothing has changed
        assert len(names(bucket)) == min(number + 1, 3)
        ctx.note("rename", f"{number}")
        now += 10 * EVERY_S
    assert names(bucket)[0] > "codex_space-20270115-1"  # the newest three
    Copies(ctx, bucket).step(now - 10 * EVERY_S + 1)  # after a restart what changed is copied
    assert len(names(bucket)) == 3


def test_it_waits_while_a_run_is_active_and_between_two_copies(ctx, bucket):
    copier = Copies(ctx, bucket)
    runs.restore_run(ctx.db, RUN_ID, state="running")
    copier.step(NOW)
    assert names(bucket) == []
    runs.restore_run(ctx.db, RUN_ID, state="stopped", ended_at=3.0)
    copier.step(NOW)
    ctx.note("rename", "x")
    copier.step(NOW + EVERY_S - 1)
    assert len(names(bucket)) == 1
    copier.step(NOW + EVERY_S)
    assert len(names(bucket)) == 2


def test_a_bucket_that_is_not_mounted_is_said_and_not_made(ctx, bucket):
    bucket.rmdir()
    copier = Copies(ctx, bucket)
    copier.step(NOW)
    assert not bucket.exists()
    assert "not there" in copies.status_of(ctx)["error"]
    bucket.mkdir()
    copier.step(NOW + EVERY_S)
    assert len(names(bucket)) == 1
    assert copies.status_of(ctx)["error"] == ""


def test_one_that_fails_half_way_leaves_the_older_ones_and_no_half(ctx, bucket, monkeypatch):
    copier = Copies(ctx, bucket)
    copier.step(NOW)
    before = names(bucket)
    ctx.note("rename", "x")

    def full(*_args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(backup, "_add", full)
        (ctx.workspace.datasets / "one").mkdir()
        (ctx.workspace.datasets / "one" / "rows").write_text("x")
        copier.step(NOW + EVERY_S)
    assert names(bucket) == before
    assert "No space left" in copies.status_of(ctx)["error"]
    assert copies.status_of(ctx)["file"].endswith(before[0])
    for half in ("tar.zst.part", "tar.zst.0a1b2c3d.part"):  # of a killed process, of an older version and of this one
        (bucket / f".codex_space-20200101-000000.{half}").write_text("half")
    (bucket / "a-file-of-mine.tar.zst").write_text("mine")
    copier.step(NOW + 2 * EVERY_S)
    assert len(names(bucket)) == 3
    assert names(bucket)[0] == "a-file-of-mine.tar.zst"


def test_copies_inside_the_workspace_are_refused(ctx):
    for folder in (ctx.workspace.root, ctx.workspace.root / "copies"):
        with pytest.raises(WorkspaceError, match="go with it"):
            Copies(ctx, folder)


def test_the_owner_makes_them(tmp_path, bucket):
    env = {"CODEX_SPACE_HOME": str(tmp_path / "inside"), "CODEX_SPACE_COPIES": str(tmp_path / "inside" / "copies")}
    with pytest.raises(WorkspaceError, match="CODEX_SPACE_COPIES"):
        open_context(read_settings(env), lambda: NOW, own=True)
    settings = read_settings({**env, "CODEX_SPACE_COPIES": str(bucket), "CODEX_SPACE_RESUME": "off"})
    owned: Context = open_context(settings, lambda: NOW, own=True)
    try:
        assert owned.owner is not None
        assert "copies" in owned.owner._others
        assert "disk" in owned.owner._others
    finally:
        owned.close()


def test_without_the_setting_there_are_none(tmp_path):
    assert read_settings({"CODEX_SPACE_HOME": str(tmp_path)}).copies is None
    assert read_settings({"CODEX_SPACE_HOME": str(tmp_path), "CODEX_SPACE_COPIES": ""}).copies is None
