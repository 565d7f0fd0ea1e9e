"""What a run was made from, as it is kept beside the rows and found again on another machine."""

import json

import pytest

from codex_space.core import durable, sources
from codex_space.core.paths import MANIFEST, JobDir
from codex_space.core.sections import DatasetSection
from codex_space.core.sources import Source, Sources

BASE = Source("ada/base", "main", "c" * 40, "apache-2.0")
DATA = Source("bob/code", "", "d" * 40, "cc-by-4.0")


@pytest.fixture
def job(tmp_path):
    root = tmp_path / "20261121-001530-sft-k3f9"
    root.mkdir()
    return JobDir(root)


def test_notes_add_up_and_are_read_back(job):
    assert sources.read(job) == Sources()
    sources.note(job, datasets=[DATA])
    sources.note(job, model=BASE)
    sources.note(job, datasets=[Source("mine.jsonl")])
    assert sources.read(job) == Sources(BASE, (DATA, Source("mine.jsonl")))


def test_local_rows_are_told_by_name_alone(job):
    paths = [
        "/home/ada/secret/rows.jsonl",
        "sample:python-first-chat",
        "builtin:python-stdlib",
        "dataset:mine",
        "bob/code",
    ]
    sources.note_local(job, [DatasetSection(path=path) for path in paths])
    text = (job.rows / sources.FILE).read_text()
    assert "/home" not in text
    found = {each.id: each.licence for each in sources.read(job).datasets}
    assert found == {
        "rows.jsonl": "",
        "sample:python-first-chat": "apache-2.0",
        "builtin:python-stdlib": "python-2.0",
        "dataset:mine": "",
    }


def test_another_machine_finds_the_base_in_the_newest_checkpoint(job):
    sources.note(job, datasets=[DATA])
    job.checkpoint(5).mkdir()
    (job.checkpoint(5) / MANIFEST).write_text(json.dumps({"sources": Sources(BASE).as_dict()}))
    assert sources.read(job) == Sources(BASE, (DATA,))


def test_a_run_that_goes_on_from_another_inherits_what_that_was_made_from(job, tmp_path):
    parent = JobDir(tmp_path / "20261120-001530-sft-aaaa")
    parent.root.mkdir()
    sources.note(parent, model=BASE, datasets=[DATA])
    sources.inherit(job, parent, "run:x@step-1")
    assert sources.read(job) == Sources(BASE, (DATA,))


def test_of_an_older_run_nothing_is_known_and_nothing_is_made_up(job, tmp_path):
    sources.inherit(job, JobDir(tmp_path / "20261120-001530-sft-bbbb"), "run:x@step-1")
    assert sources.read(job).model == Source("run:x@step-1")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        '{"model": 3, "datasets": 4}',
        '{"model": {"id": ""}, "datasets": [null, {"x": 1}]}',
        '{"model": {"id": {}}}',
    ],
)
def test_a_damaged_note_is_no_note(job, text):
    job.rows.mkdir()
    (job.rows / sources.FILE).write_text(text)
    assert sources.read(job) == Sources()


def test_a_note_from_elsewhere_is_bounded(job):
    job.rows.mkdir()
    (job.rows / sources.FILE).write_text(json.dumps({"model": {"id": "x" * 10_000, "licence": ["a"]}}))
    found = sources.read(job).model
    assert len(found.id) == 200


@pytest.mark.parametrize(
    ("config", "manifest", "run", "found"),
    [
        ({"revision": "c" * 40}, "d" * 40, "e" * 40, "c" * 40),
        ({"revision": None}, "d" * 40, "e" * 40, "d" * 40),
        ({}, None, "e" * 40, "e" * 40),
        ({}, None, None, None),
        ({"base_model_name_or_path": "bob/other"}, "d" * 40, "e" * 40, None),
        ({"revision": 7}, None, None, None),
    ],
)
def test_which_commit_of_its_base_an_adapter_was_trained_on(workspace, config, manifest, run, found):
    job = workspace.job("20261121-001530-sft-k3f9")
    folder = job.checkpoint(2)
    folder.mkdir(parents=True)
    durable.write_json(folder / "adapter_config.json", {"base_model_name_or_path": "ada/base", **config})
    if manifest:
        told = sources.Sources(Source("ada/base", "", manifest)).as_dict()
        durable.write_json(folder / MANIFEST, {"sources": told})
    if run:
        sources.note(job, model=Source("ada/base", "", run))
    assert sources.base_revision(folder) == found
