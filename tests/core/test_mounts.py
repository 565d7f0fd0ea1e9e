"""A database is kept off network storage and mounted buckets, by what the kernel says is mounted where."""

import pytest

from codex_space.core import mounts
from codex_space.core.errors import WorkspaceError
from codex_space.core.paths import Workspace
from codex_space.store.db import Database

ROOT = "overlay / overlay rw 0 0\nproc /proc proc rw 0 0\n"


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    """Write what is mounted besides the root; {} is a folder of the test."""

    def write(text):
        path = tmp_path / "mounts"
        path.write_text(ROOT + text.replace("{}", str(tmp_path / "data")))
        monkeypatch.setattr(mounts, "MOUNTS", path)
        return tmp_path / "data"

    return write


@pytest.mark.parametrize(
    "kind", ["fuse", "fuse.hf-mount", "fuse.s3fs", "nfs", "nfs4", "cifs", "smb3", "ceph", "fuse.sshfs"]
)
def test_storage_without_locks_is_refused_with_its_cure(mounted, kind):
    data = mounted(f"hf {{}} {kind} rw 0 0\n")
    with pytest.raises(WorkspaceError) as told:
        mounts.require_disk(data / "workspace")
    assert f"CODEX_SPACE_COPIES={data}" in told.value.cure
    assert "CODEX_SPACE_HOME" in told.value.cure
    assert kind in told.value.what


@pytest.mark.parametrize(
    "kind", ["ext4", "xfs", "overlay", "tmpfs", "btrfs", "fuseblk", "virtiofs", "fuse.fuse-overlayfs", "9p"]
)
def test_disks_are_not(mounted, kind):
    mounts.require_disk(mounted(f"/dev/sda1 {{}} {kind} rw 0 0\n"))


def test_the_mount_that_is_nearest_counts_and_of_two_at_one_place_the_later(mounted):
    mounts.require_disk(mounted("hf {} fuse rw 0 0\n/dev/sda1 {}/inner ext4 rw 0 0\n") / "inner" / "workspace")
    mounts.require_disk(mounted("hf {} fuse rw 0 0\n/dev/sda1 {} ext4 rw 0 0\n"))
    with pytest.raises(WorkspaceError):
        mounts.require_disk(mounted("/dev/sda1 {} ext4 rw 0 0\nhf {} fuse rw 0 0\n"))
    mounts.require_disk(mounted("hf {}base fuse rw 0 0\n"))  # a neighbour whose name begins alike
    mounts.require_disk(mounted("").parent)


def test_a_root_of_whatever_kind_is_the_containers_disk(tmp_path, monkeypatch):
    path = tmp_path / "mounts"
    path.write_text("root / fuse rw 0 0\n")
    monkeypatch.setattr(mounts, "MOUNTS", path)
    mounts.require_disk(tmp_path)


def test_names_with_spaces_and_broken_lines_are_read(mounted, tmp_path):
    (tmp_path / "my data").mkdir()
    mounted(f"\n#\nx\nhf {tmp_path}/my\\040data fuse rw 0 0\nx /\\777\\400 \xff rw 0 0\n")
    with pytest.raises(WorkspaceError):
        mounts.require_disk(tmp_path / "my data" / "workspace")


def test_a_link_does_not_hide_where_a_folder_lies(mounted, tmp_path):
    data = mounted("hf {} fuse rw 0 0\n")
    data.mkdir()
    (tmp_path / "home").symlink_to(data)
    with pytest.raises(WorkspaceError):
        mounts.require_disk(tmp_path / "home")


def test_where_nothing_is_known_nothing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "missing")
    mounts.require_disk(tmp_path)


def test_no_database_is_made_there(mounted):
    data = mounted("hf {} fuse.hf-mount rw 0 0\n")
    workspace = Workspace(data).make()
    with pytest.raises(WorkspaceError, match="network storage"):
        Database.open(workspace.database)
    assert not list(data.glob("*.db*"))
