"""Datasets in a workspace: kept whole or not at all, whatever the file, its name and its path."""

import gzip
import json
import os
import shutil
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import pytest

from codex_space.core.errors import DataError, WorkspaceError
from codex_space.data import catalog

GOOD = '{"prompt": "p", "completion": "c"}\n'
NOW = 1_000_000.0


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.jsonl"
    path.write_text(GOOD * 3)
    return path


def left_over(workspace):
    return sorted(path.name for path in workspace.datasets.iterdir())


def test_a_good_file_is_kept_and_read_back_equal(workspace, good):
    info = catalog.import_file(workspace, good, "My set.jsonl", NOW, source="owner/set")
    assert (info.format, info.num_rows, info.source, info.created_at) == ("prompt_completion", 3, "owner/set", NOW)
    assert info.path.read_text() == GOOD * 3
    assert info.path.parent == workspace.datasets / info.name
    assert catalog.read_dataset(workspace, info.name) == info
    assert catalog.list_datasets(workspace) == [info]
    assert left_over(workspace) == [info.name]


def test_the_mapping_a_person_gave_is_kept(workspace, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("frage,antwort\np,c\n")
    info = catalog.import_file(workspace, path, "a", NOW, columns={"prompt": "frage", "completion": "antwort"})
    assert catalog.preview(info) == [{"prompt": "p", "completion": "c"}]


def test_preview_pages_and_takes_any_numbers(workspace, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"t{number}"}) + "\n" for number in range(50)))
    info = catalog.import_file(workspace, path, "a", NOW)
    assert catalog.preview(info, 48, 10) == [{"text": "t48"}, {"text": "t49"}]
    assert catalog.preview(info, 99, 10) == catalog.preview(info, 0, 0) == catalog.preview(info, 0, -1) == []
    assert len(catalog.preview(info, -5, 10**9)) == 50


def test_the_newest_comes_first_and_deleted_ones_are_gone(workspace, good):
    first = catalog.import_file(workspace, good, "first", NOW)
    second = catalog.import_file(workspace, good, "second", NOW + 1)
    assert catalog.list_datasets(workspace) == [second, first]
    catalog.delete_dataset(workspace, "second")
    assert catalog.list_datasets(workspace) == [first]
    assert left_over(workspace) == ["first"]
    with pytest.raises(DataError, match="no dataset 'second'"):
        catalog.delete_dataset(workspace, "second")


def test_another_file_under_a_taken_name_changes_nothing(workspace, good, tmp_path):
    info = catalog.import_file(workspace, good, "a", NOW)
    other = tmp_path / "other.jsonl"
    other.write_text(GOOD)
    with pytest.raises(DataError, match="already"):
        catalog.import_file(workspace, other, "a", NOW)
    assert catalog.read_dataset(workspace, "a") == info
    assert left_over(workspace) == ["a"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b"", "no row"),
        ("a.jsonl", b'{"foo": "a"}\n', "foo"),
        ("a.jsonl", GOOD.encode() * 70_000 + b"{broken\n", "a.jsonl line 70001"),
        ("a.jsonl", GOOD.encode() + b'{"prompt": ["p"], "completion": "c"}\n', "line 2"),
        ("a.jsonl", GOOD.encode() + b'{"prompt": "caf\xe9", "completion": "c"}\n', "line 2"),
        ("a.csv", b"prompt,completion\np\n", "line 2"),
        ("a.parquet", b"text", "Parquet"),
        ("a.exe", b"MZ", ".jsonl"),
    ],
)
def test_a_bad_file_is_refused_by_its_own_name_and_leaves_nothing(workspace, tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        catalog.import_file(workspace, path, "a", NOW)
    assert name in str(caught.value)
    assert "rows." not in str(caught.value)
    assert left_over(workspace) == []


HOSTILE = ["../../etc/passwd", "..", ".", "/etc/passwd", "a/../../b", "..\\..\\b", "a\0b", "", "   ", ".hidden", "-rf",
           "x" * 5000, "ä" * 300, "CON", "a\nb", "$(reboot)", "\u202egnp.exe", ".incoming-1", "dataset.json", "~root"]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_inside_or_is_refused(workspace, good, name):
    before = sorted(workspace.root.parent.rglob("*"))
    try:
        info = catalog.import_file(workspace, good, name, NOW)
    except DataError:
        assert sorted(workspace.root.parent.rglob("*")) == before
        return
    assert info.path.resolve().parent.parent == workspace.datasets.resolve()
    assert not info.name.startswith((".", "-"))
    assert len(info.name) <= 80
    assert catalog.list_datasets(workspace) == [info]


@pytest.mark.parametrize("name", HOSTILE)
def test_reading_and_deleting_a_hostile_name_finds_nothing(workspace, good, name):
    catalog.import_file(workspace, good, "kept", NOW)
    (workspace.root.parent / "b").mkdir()
    for act in (catalog.read_dataset, catalog.delete_dataset):
        with pytest.raises(DataError, match="no dataset"):
            act(workspace, name)
    assert [info.name for info in catalog.list_datasets(workspace)] == ["kept"]


def test_a_symlink_is_not_followed(workspace, tmp_path, good):
    link = tmp_path / "link.jsonl"
    link.symlink_to(good)
    with pytest.raises(DataError, match="link"):
        catalog.import_file(workspace, link, "a", NOW)
    assert left_over(workspace) == []


def test_a_path_through_dots_is_refused(workspace, good):
    with pytest.raises(DataError, match=r"\.\."):
        catalog.import_file(workspace, good.parent / "workspace" / ".." / good.name, "a", NOW)


def test_a_pipe_a_folder_and_a_device_are_refused_at_once(workspace, tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    for path in (tmp_path / "pipe.jsonl", tmp_path / "folder.jsonl", tmp_path / "missing.jsonl"):
        with pytest.raises(DataError):
            catalog.import_file(workspace, path, "a", NOW)
    assert left_over(workspace) == []


def test_a_full_disk_is_told_before_and_nothing_is_left(workspace, good, monkeypatch):
    usage = namedtuple("usage", "total used free")(10, 9, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(WorkspaceError, match="disk"):
        catalog.import_file(workspace, good, "a", NOW)
    assert left_over(workspace) == []


def test_what_a_killed_import_left_is_swept_a_day_later(workspace, good):
    catalog.import_file(workspace, good, "a", NOW)
    leftover = workspace.datasets / ".incoming-killed"
    shutil.copytree(workspace.datasets / "a", leftover)
    os.utime(leftover, (NOW, NOW))
    assert [info.name for info in catalog.list_datasets(workspace)] == ["a"]
    catalog.import_file(workspace, good, "b", NOW + 3600)
    assert leftover.exists(), "another import may still be writing there"
    catalog.import_file(workspace, good, "c", NOW + 90_000)
    assert not leftover.exists()


def test_imports_beside_each_other_do_not_meet(workspace, tmp_path):
    def import_some(number):
        for turn in range(8):
            name = f"set-{number}-{turn}"
            path = tmp_path / f"{name}.jsonl"
            path.write_text(GOOD * (turn + 1))
            assert catalog.import_file(workspace, path, name, NOW).num_rows == turn + 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(import_some, range(8)))
    assert len(catalog.list_datasets(workspace)) == 64


def test_a_folder_that_goes_while_the_stale_ones_are_looked_for_harms_nothing(workspace, good):
    (workspace.datasets / ".incoming-gone").symlink_to("nowhere")
    assert catalog.import_file(workspace, good, "good", NOW).num_rows == 3


@pytest.mark.parametrize("facts", ["", "[]", "{}", '{"file": "../../secret"}', '{"file": 3}', '{"file": "rows.jsonl"}'])
def test_a_broken_folder_is_passed_over(workspace, good, facts):
    catalog.import_file(workspace, good, "good", NOW)
    catalog.import_file(workspace, good, "bad", NOW)
    (workspace.datasets / "bad" / "dataset.json").write_text(facts)
    assert [info.name for info in catalog.list_datasets(workspace)] == ["good"]
    with pytest.raises(DataError, match="no dataset"):
        catalog.read_dataset(workspace, "bad")


def test_many_problems_are_counted_and_the_first_hundred_told(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(GOOD + "{broken\n" * 300 + '{"prompt": 1, "completion": "c"}\n' * 200)
    found = catalog.inspect_file(path)
    assert (found.num_rows, found.num_problems, len(found.problems)) == (501, 500, 100)
    assert [problem.line for problem in found.problems] == list(range(2, 102))
    assert all(problem.what and problem.cure for problem in found.problems)


def test_an_inspection_says_format_mapping_columns_and_shows_rows(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"question": "p", "answer": "c", "id": 1}\n' * 20))
    found = catalog.inspect_file(path)
    assert (found.format, found.num_rows, found.problems) == ("prompt_completion", 20, [])
    assert found.mapping == {"prompt": "question", "completion": "answer"}
    assert found.columns == ["question", "answer", "id"]
    assert found.preview[0] == {"prompt": "p", "completion": "c"}
    assert found.size_bytes == path.stat().st_size


def test_wrong_columns_and_no_rows_are_problems_of_an_inspection(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"foo": "a"}\n')
    assert "foo" in catalog.inspect_file(path).problems[0].what
    path.write_text("")
    assert "no row" in catalog.inspect_file(path).problems[0].what


def test_mbpp_is_recognised_and_kept(workspace, real_data):
    info = catalog.import_file(workspace, (real_data / "mbpp.jsonl.gz").resolve(), "mbpp", NOW)
    assert (info.format, info.num_rows) == ("prompt_completion", 974)
    assert info.mapping == {"prompt": "text", "completion": "code"}
    assert catalog.preview(info, 0, 1)[0]["completion"].startswith("R = 3")


def test_a_dataset_outside_the_folder_is_not_found_through_its_name(workspace, good):
    info = catalog.import_file(workspace, good, "kept", NOW)
    shutil.copytree(info.path.parent, workspace.root / "outside")
    (workspace.datasets / ".hidden").mkdir()
    shutil.copytree(info.path.parent, workspace.datasets / ".hidden", dirs_exist_ok=True)
    for name in ("../outside", "../datasets/kept", "kept/", "./kept", str(workspace.root / "outside"), ".hidden"):
        for act in (catalog.read_dataset, catalog.delete_dataset):
            with pytest.raises(DataError, match="no dataset"):
                act(workspace, name)
    assert (workspace.root / "outside" / "rows.jsonl").is_file()
