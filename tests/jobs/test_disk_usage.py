"""The disk is measured as `du` measures it, without following links, seldom, and kept with its time."""

import json
import os
import subprocess
from pathlib import PurePosixPath

import pytest

from codex_space.core.paths import Workspace
from codex_space.jobs import disk_usage
from codex_space.jobs.disk_usage import DiskWatch, part_of
from codex_space.store.db import Database
from tests.fakes.checkpoints import RUN_ID, write_checkpoint


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace").make()


def measure(workspace, tmp_path, now=1.0):
    return disk_usage.measure(workspace, tmp_path / "hub", now)


def test_every_byte_is_counted_once_and_by_its_part(workspace, tmp_path):
    job = workspace.job(RUN_ID)
    write_checkpoint(job.checkpoint(2), 2, size_bytes=300_000)
    job.spool.mkdir()
    os.link(job.checkpoint(2) / "adapter_model.safetensors", job.spool / "same")
    for folder, size in (
        (job.export, 50_000),
        (workspace.datasets / "mine", 70_000),
        (job.base, 90_000),
        (job.rows, 10_000),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "x").write_bytes(os.urandom(size))
    found = measure(workspace, tmp_path)
    told = subprocess.run(["du", "-s", "--block-size=1", workspace.root], capture_output=True, text=True, check=True)
    root_bytes = workspace.root.lstat().st_blocks * 512 + (workspace.disk.lstat().st_blocks * 512)
    assert found.used_bytes == int(told.stdout.split()[0]) - root_bytes
    assert found.parts["checkpoints"] > 300_000
    assert found.parts["spool"] < 10_000
    assert found.parts["exports"] >= 50_000
    assert found.parts["datasets"] >= 70_000
    assert found.parts["bases"] >= 90_000
    assert disk_usage.read(workspace) == found


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("tokens-abcd1234/rows", "scratch"), ("tmpabcd1234/x", "scratch"), ("tokens-mine/x", "other"), ("codex_space.db", "other"),
        ("datasets/.deleted-a/x", "trash"), ("datasets/.incoming-a/x", "scratch"), ("datasets/.hidden/x", "datasets"),
        ("runs/R/checkpoint-12/x", "checkpoints"), ("runs/R/checkpoint-x/y", "other"), ("runs/R/.removed-checkpoint-1/x", "trash"),
        ("runs/R/.checkpoint-1.fetch/x", "scratch"), ("runs/R/merged/x", "caches"), ("runs/R/events.jsonl", "other"), ("runs/R", "other"),
        ("tokens/0a1b/00000.bin", "caches"), ("runs/R/tokens/0a1b/00000.bin", "caches"),
        ("benchmarks/x", "evaluations"), ("runs/R/evaluations/step-1/x", "evaluations"),
    ],
)  # fmt: skip
def test_a_path_belongs_to_one_part(path, part):
    assert part_of(PurePosixPath(path)) == part


def test_links_and_loops_are_not_followed(workspace, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "large").write_bytes(b"x" * 5_000_000)
    (workspace.datasets / "away").symlink_to(outside)
    (workspace.datasets / "loop").symlink_to(workspace.root)
    assert measure(workspace, tmp_path).used_bytes < 100_000


def test_the_hubs_cache_is_counted_beside(workspace, tmp_path):
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "blob").write_bytes(b"x" * 100_000)
    found = measure(workspace, tmp_path)
    assert found.hub_cache_bytes >= 100_000
    assert found.used_bytes < 50_000
    inside = disk_usage.measure(workspace, workspace.root / "hub", 1.0)  # part of the workspace then
    assert inside.hub_cache_bytes == 0


def test_more_than_can_be_looked_at_is_said(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(disk_usage, "MAX_ENTRIES", 10)
    for number in range(30):
        (workspace.datasets / f"{number}").mkdir()
        (workspace.datasets / f"{number}" / "x").touch()
    assert measure(workspace, tmp_path).is_partial


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"parts": []}', '{"at": "x", "took_s": 1, "hub_cache_bytes": 1, "parts": {}}',
             '{"at": 1, "took_s": 1, "hub_cache_bytes": 1, "parts": {"checkpoints": "many"}}']
)  # fmt: skip
def test_a_damaged_note_is_measured_anew(workspace, text):
    workspace.disk.write_text(text)
    assert disk_usage.read(workspace) is None


def test_the_watch_measures_seldom(workspace, tmp_path):
    db = Database.open(workspace.database)
    watch = DiskWatch(db, workspace, tmp_path / "hub")
    times = []
    for now in (1000.0, 1005.0, 1599.0, 1601.0, 1605.0):
        watch.step(now)
        times.append(json.loads(workspace.disk.read_text())["at"])
    assert times == [1000.0, 1000.0, 1000.0, 1601.0, 1601.0]
    slow = json.loads(workspace.disk.read_text()) | {"took_s": 60.0}  # a huge tree: a hundredth of the time at most
    workspace.disk.write_text(json.dumps(slow))
    watch.step(1601.0 + 5999.0)
    assert json.loads(workspace.disk.read_text())["at"] == 1601.0
    watch.step(1000.0)  # the clock went back
    assert json.loads(workspace.disk.read_text())["at"] == 1000.0
    db.close()
