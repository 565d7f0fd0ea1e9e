"""Every kind of dataset reference opens as rows, or says why not."""

import pytest

from codex_space.core.errors import DataError
from codex_space.core.sections import DatasetSection
from codex_space.data import catalog
from codex_space.data.sources import fetch_key, is_hub_id, open_source, stdlib_files


def rows_of(workspace=None, fetched=None, **section):
    return list(open_source(DatasetSection(**section), workspace and workspace.root, fetched or {}))


@pytest.mark.parametrize("ref", ["owner/name", "Qwen/Qwen2.5-Coder-0.5B", "a/b.c", "openai/gsm8k", "o_o/n-n"])
def test_a_bare_owner_and_name_is_a_hub_id(ref):
    assert is_hub_id(ref)


@pytest.mark.parametrize(
    "ref",
    ["", "name", "/etc/passwd", "./a/b", "../b", "a/b/c", "a/b.jsonl", "data/x.csv.gz", "dataset:a/b", "run:x", "a/",
     "/a", "owner /name", "sample:python-first-chat", "~/b", "a//b", "https://h/b", "owner/name\n"],
)  # fmt: skip
def test_anything_else_is_none(ref):
    assert not is_hub_id(ref)


def test_a_folder_that_exists_is_no_hub_id(tmp_path, monkeypatch):
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not is_hub_id("owner/name")


def test_a_file_is_read_with_its_renames(tmp_path):
    (tmp_path / "a.csv").write_text("frage,antwort\np,c\n")
    path = str(tmp_path / "a.csv")
    assert rows_of(path=path, columns={"prompt": "frage", "completion": "antwort"}) == [
        {"prompt": "p", "completion": "c"}
    ]


def test_a_dataset_of_the_workspace_is_read_with_the_mapping_it_was_kept_with(workspace, tmp_path):
    (tmp_path / "a.csv").write_text("frage,antwort\np,c\n")
    catalog.import_file(workspace, tmp_path / "a.csv", "a", 0.0, columns={"prompt": "frage", "completion": "antwort"})
    assert rows_of(workspace, path="dataset:a") == [{"prompt": "p", "completion": "c"}]
    assert rows_of(workspace, path="dataset:a", columns={"text": "antwort"}) == [{"text": "c"}]


def test_a_hub_dataset_is_read_from_all_its_files(tmp_path):
    for number in (1, 2):
        (tmp_path / f"{number}.jsonl").write_text(f'{{"text": "t{number}"}}\n')
    files = [tmp_path / "1.jsonl", tmp_path / "2.jsonl"]
    section = DatasetSection(path="owner/name", split="test")
    for key in (fetch_key(section), "owner/name"):
        assert rows_of(fetched={key: files}, path="owner/name", split="test") == [{"text": "t1"}, {"text": "t2"}]


def test_two_splits_of_one_hub_dataset_have_two_keys():
    keys = {
        fetch_key(DatasetSection(path="o/n", **other))
        for other in ({}, {"split": "test"}, {"name": "python"}, {"revision": "v2"})
    }
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("sample:python-frst-chat", "python-first-chat"),
        ("builtin:python", "builtin:python-stdlib"),
        ("dataset:nothing", "no dataset"),
        ("dataset:../../etc", "no dataset"),
        ("sample:../pyproject", "no sample"),
        ("owner/name", "not been downloaded"),
        ("missing.jsonl", "no such file"),
        ("/etc/shadow-of-nothing", "no such file"),
        ("sample:", "no sample"),
    ],
)
def test_a_reference_to_nothing_is_refused(workspace, path, words):
    with pytest.raises(DataError, match=words):
        rows_of(workspace, path=path)


def test_a_dataset_without_a_workspace_is_refused():
    with pytest.raises(DataError, match="workspace"):
        rows_of(path="dataset:a")


def test_a_wrong_row_names_file_and_line(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n\n{"text": ["b"]}\n')
    with pytest.raises(DataError, match=r"a\.jsonl line 3: the column 'text' holds a list"):
        rows_of(path=str(tmp_path / "a.jsonl"))
    (tmp_path / "b.jsonl").write_text('{"foo": "a"}\n')
    with pytest.raises(DataError, match="foo"):
        rows_of(path=str(tmp_path / "b.jsonl"))


def test_the_standard_library_is_source_code_in_a_fixed_order_without_tests():
    files = stdlib_files()
    names = [name for name, _ in files]
    assert names == sorted(set(names))
    assert {"json/decoder.py", "argparse.py"} <= set(names)
    assert not [name for name in names if {"test", "tests", "site-packages", "idlelib"} & set(name.split("/"))]
    texts = [row["text"] for row in rows_of(path="builtin:python-stdlib")]
    assert 300 < len(texts) <= len(names)
    assert sum(map(len, texts)) > 5_000_000
    assert texts == [row["text"] for row in rows_of(path="builtin:python-stdlib")]
