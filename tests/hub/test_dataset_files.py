"""The files of a split are found by the Hub's rules; scripts never run."""

import pytest

from codex_space.core.errors import DataError, HubGatedError, HubNotFoundError
from codex_space.hub.dataset_files import choose_converted, choose_files
from codex_space.hub.fetch import fetch_dataset_files
from tests.fakes.hub_fixture import RunningHub


def choose(paths: list[str], split: str = "train", name: str | None = None, readme: str = "") -> list[str]:
    return choose_files(sorted(paths), name, split, readme, where="bob/rows")


@pytest.mark.parametrize(
    ("paths", "split", "expected"),
    [
        (["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "x.csv"], "train", 2),
        (["data/train-00000-of-00001-abc.parquet", "data/test-00000-of-00001.parquet"], "test", 1),
        (["data/my_split-00000-of-00001.parquet"], "my_split", 1),
        (["train.jsonl", "test.jsonl"], "train", 1),
        (["my-training-set.csv", "eval.csv"], "train", 1),
        (["my_train_data.csv", "dev_1.csv"], "validation", 1),
        (["train/a.json", "train/b.json", "test/a.json"], "train", 2),
        (["en/valid/a.json", "en/train/a.json"], "validation", 1),
        (["rows.jsonl", "more.jsonl"], "train", 2),
        (["constrained.jsonl"], "train", 1),
        (["trainer.jsonl", "contest.jsonl"], "train", 2),
    ],
)
def test_splits_are_found_by_name(paths: list[str], split: str, expected: int) -> None:
    assert len(choose(paths, split)) == expected


def test_a_split_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(DataError, match="It has: test, train"):
        choose(["train.jsonl", "test.jsonl"], "validation")


README = """---
configs:
- config_name: main
  default: true
  data_files:
  - {split: train, path: "a/*.jsonl"}
  - {split: test, path: ["b/**/t*.jsonl", "c/[xy].jsonl"]}
- config_name: second
  data_dir: d
- config_name: third
  data_files: "**/all.csv"
---
# Text
"""
FILES = [
    "a/1.jsonl",
    "a/deep/2.jsonl",
    "b/t1.jsonl",
    "b/x/y/t2.jsonl",
    "c/x.jsonl",
    "c/z.jsonl",
    "d/train.csv",
    "e/all.csv",
]


@pytest.mark.parametrize(
    ("name", "split", "expected"),
    [
        (None, "train", ["a/1.jsonl"]),
        ("main", "test", ["b/t1.jsonl", "b/x/y/t2.jsonl", "c/x.jsonl"]),
        ("second", "train", ["d/train.csv"]),
        ("third", "train", ["e/all.csv"]),
    ],
)
def test_the_readme_decides_where_it_names_files(name, split: str, expected: list[str]) -> None:
    assert choose(FILES, split, name, README) == expected


def test_an_unknown_configuration_names_those_there_are() -> None:
    with pytest.raises(DataError, match="main, second, third"):
        choose(FILES, name="fourth", readme=README)
    with pytest.raises(DataError, match="Leave `name` out"):
        choose(["train.jsonl"], name="fourth")


def test_several_configurations_and_none_chosen_is_said() -> None:
    readme = README.replace("  default: true\n", "")
    with pytest.raises(DataError, match=r"none is chosen.*main, second, third"):
        choose(FILES, readme=readme)


@pytest.mark.parametrize("front", ["configs: [", "a: [1, 2\n]b", "configs: {x: &a", "a: 2026-99-99", "[" * 5000])
def test_a_readme_that_is_not_yaml_is_said(front: str) -> None:
    with pytest.raises(DataError, match="not YAML"):
        choose(["train.jsonl"], readme=f"---\n{front}\n---\n")


@pytest.mark.parametrize("front", ["configs: 3", "configs: [3]", "- 1", "configs: [{config_name: a}]", ""])
def test_a_readme_without_data_files_falls_back_to_names(front: str) -> None:
    assert choose(["train.jsonl"], readme=f"---\n{front}\n---\n") == ["train.jsonl"]


def test_the_parquet_copy_is_read_by_configuration_and_split() -> None:
    paths = ["default/train/0000.parquet", "default/train/0001.parquet", "default/partial-test/0000.parquet"]
    assert len(choose_converted(paths, None, "train", where="x")) == 2
    assert len(choose_converted(paths, None, "test", where="x")) == 1
    with pytest.raises(DataError, match="It has: test, train"):
        choose_converted(paths, None, "dev", where="x")
    with pytest.raises(DataError, match="one of: a, b"):
        choose_converted(["a/train/0.parquet", "b/train/0.parquet"], None, "train", where="x")


def fetch(hub: RunningHub, into, *, repo_id: str = "bob/rows", split: str = "train", revision: str | None = None):
    return fetch_dataset_files(hub.client(), repo_id, None, split, revision, into)


def test_the_files_of_a_split_are_downloaded(hub: RunningHub, tmp_path) -> None:
    hub.state.put("datasets", "bob/rows", {"train.jsonl": '{"text": "a"}\n', "test.jsonl": "no", "README.md": "# x"})
    (path,) = fetch(hub, tmp_path)
    assert path == tmp_path / "train.jsonl"
    assert path.read_text() == '{"text": "a"}\n'


def test_a_revision_can_be_named(hub: RunningHub, tmp_path) -> None:
    old = hub.state.put("datasets", "bob/rows", {"train.jsonl": "old"})
    hub.state.put("datasets", "bob/rows", {"train.jsonl": "new"})
    assert fetch(hub, tmp_path, revision=old)[0].read_text() == "old"


def test_a_script_dataset_is_read_from_the_parquet_copy(hub: RunningHub, tmp_path) -> None:
    hub.state.put("datasets", "bob/rows", {"rows.py": "raise SystemExit"})
    hub.state.put("datasets", "bob/rows", {"default/train/0000.parquet": "PAR1"}, revision="refs/convert/parquet")
    assert [path.name for path in fetch(hub, tmp_path)] == ["0000.parquet"]


def test_a_script_alone_is_refused(hub: RunningHub, tmp_path) -> None:
    hub.state.put("datasets", "bob/rows", {"rows.py": "raise SystemExit"})
    with pytest.raises(DataError, match="only a loading script"):
        fetch(hub, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_without_data_is_refused(hub: RunningHub, tmp_path) -> None:
    hub.state.put("datasets", "bob/rows", {"README.md": "# nothing", "picture.png": "x"})
    with pytest.raises(DataError, match="no data files"):
        fetch(hub, tmp_path)


def test_an_unknown_or_gated_dataset_is_named(hub: RunningHub, tmp_path) -> None:
    with pytest.raises(HubNotFoundError, match="bob/absent"):
        fetch(hub, tmp_path, repo_id="bob/absent")
    hub.state.put("datasets", "bob/rows", {"train.jsonl": "x"}, gated=True)
    with pytest.raises(HubGatedError, match=f"{hub.endpoint}/datasets/bob/rows"):
        fetch(hub, tmp_path)


@pytest.mark.parametrize("split", ["train[:10%]", "train+test", "", "../x"])
def test_a_slice_of_a_split_is_refused(hub: RunningHub, tmp_path, split: str) -> None:
    with pytest.raises(DataError, match="not the name of a split"):
        fetch(hub, tmp_path, split=split)


def test_a_dataset_larger_than_the_disk_is_refused_before_the_download(hub: RunningHub, tmp_path) -> None:
    hub.state.put("datasets", "bob/rows", {"train.jsonl": "x"})
    repo = hub.repo("bob/rows", "datasets")
    repo["commits"][repo["heads"]["main"]]["tree"]["train.jsonl"]["size"] = 1 << 60
    with pytest.raises(Exception, match="disk are free"):
        fetch(hub, tmp_path)
    assert hub.asked("/resolve/", "GET") == []
