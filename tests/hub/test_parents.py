"""What a run builds on is fetched whole and proven, or not at all."""

import json

import pytest

from codex_space.core.errors import CodexError, HubError
from codex_space.core.paths import MANIFEST
from codex_space.hub import parents
from codex_space.hub.fetch import push_rows
from codex_space.hub.parents import Parent
from codex_space.hub.push import push_checkpoint
from tests.fakes.checkpoints import OTHER_RUN_ID, RECIPE, RUN_ID, TOKENIZER_ID, write_checkpoint, write_tokenizer

REPO, COMMIT = "ada/model", "a" * 40
ROW = {"run_id": RUN_ID, "step": 10, "repo_id": REPO, "commit_id": COMMIT}


def pushed(hub, folder):
    hub.client().make_repo(REPO, private=True)
    return push_checkpoint(hub.client(), folder, repo_id=REPO, card="# x", recipe_text=RECIPE, with_resume=True)


def test_its_weights_come_and_its_resume_state_stays(hub, workspace, tmp_path):
    folder = write_checkpoint(tmp_path / "step-10", 10)
    commit = pushed(hub, folder)
    pushed(hub, write_checkpoint(tmp_path / "step-20", 20))  # the commit is what counts, not the newest
    for _ in range(2):  # also once more, as after a restart
        parents.fetch_parents(hub.client(), workspace, [Parent(RUN_ID, 10, REPO, commit)])
    job = workspace.job(RUN_ID)
    assert job.checkpoint_steps() == [10]
    resume = set(json.loads((folder / MANIFEST).read_text())["resume_files"])
    assert resume
    kept = {path.name: path.read_bytes() for path in job.checkpoint(10).iterdir()}
    assert kept == {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in resume}


def test_one_that_is_here_needs_no_hub(hub, workspace, tmp_path):
    commit = pushed(hub, write_checkpoint(tmp_path / "step-10", 10))
    told = [Parent(RUN_ID, 10, REPO, commit)]
    parents.fetch_parents(hub.client(), workspace, told)
    hub.fail("/api/", status=503, times=-1)
    parents.fetch_parents(hub.client(), workspace, told)


@pytest.mark.parametrize("told", [Parent(RUN_ID, 11, REPO, ""), Parent(OTHER_RUN_ID, 10, REPO, "")])
def test_another_checkpoint_than_is_meant_is_not_taken(hub, workspace, tmp_path, told):
    commit = pushed(hub, write_checkpoint(tmp_path / "step-10", 10))
    with pytest.raises(HubError, match="is not step"):
        parents.fetch_parents(hub.client(), workspace, [Parent(told.run_id, told.step, REPO, commit)])
    assert not workspace.job(told.run_id).checkpoint_steps()


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "null", "7", '{"a": 1}', "[1]", "[" * 5000, json.dumps([{**ROW, "step": "x"}]), json.dumps([{**ROW, "step": -1}]),
        json.dumps([{**ROW, "commit_id": "main"}]), json.dumps([{**ROW, "repo_id": "../../etc"}]), json.dumps([ROW] * 17),
        json.dumps([{**ROW, "step": float("inf")}]),
        json.dumps([{name: value for name, value in ROW.items() if name != "step"}]),
    ],
)  # fmt: skip
def test_a_note_that_is_none_is_refused(text):
    with pytest.raises(HubError, match=r"parents\.json"):
        parents.parse(text, "ada/model-rows")


def test_a_run_id_that_is_a_path_writes_nothing(hub, workspace, tmp_path):
    commit = pushed(hub, write_checkpoint(tmp_path / "step-10", 10))
    with pytest.raises(CodexError):
        parents.fetch_parents(hub.client(), workspace, [Parent("../../x", 10, REPO, commit)])
    assert not (tmp_path / "x").exists()


def test_the_note_lies_beside_the_rows(hub, tmp_path):
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / "prepared.json").write_text("{}")
    told = [Parent(RUN_ID, 10, REPO, COMMIT)]
    hub.client().make_repo(REPO, private=True)
    push_rows(hub.client(), rows, repo_id=REPO, run_id=OTHER_RUN_ID, beside={parents.FILE: parents.render(told)})
    push_rows(hub.client(), rows, repo_id=REPO, run_id=RUN_ID, beside={parents.FILE: parents.render([])})
    assert parents.read_parents(hub.client(), REPO, OTHER_RUN_ID) == told
    assert parents.read_parents(hub.client(), REPO, RUN_ID) == []


@pytest.fixture
def rows(hub, tmp_path):
    """A run's rows, and where the test Hub is to have them."""
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "prepared.json").write_text("{}")
    (folder / "train.parquet").write_bytes(b"rows")
    hub.client().make_repo(REPO, private=True)
    return folder


def push(hub, rows, beside, run_id=RUN_ID):
    return push_rows(hub.client(), rows, repo_id=REPO, run_id=run_id, beside=beside)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_tokenizer_lies_beside_the_rows_of_the_run_that_uses_it_and_of_no_other(hub, workspace, tmp_path, rows):
    folder = write_tokenizer(tmp_path / "words")
    push(hub, rows, parents.tokenizer_files(folder))
    push(hub, rows, {}, OTHER_RUN_ID)
    parents.fetch_tokenizers(hub.client(), workspace, REPO, OTHER_RUN_ID)
    parents.fetch_tokenizers(hub.client(), workspace, REPO, RUN_ID, known=[TOKENIZER_ID])
    assert not workspace.job(TOKENIZER_ID).root.exists()
    for _ in range(2):
        parents.fetch_tokenizers(hub.client(), workspace, REPO, RUN_ID)
    assert content(workspace.job(TOKENIZER_ID).checkpoint(0)) == content(folder)
    assert [path.name for path in workspace.job(TOKENIZER_ID).root.iterdir()] == ["checkpoint-0"]


@pytest.mark.parametrize("fault", ["kind", "run", "bytes", "path"])
def test_a_tokenizer_that_is_none_or_another_is_not_taken(hub, workspace, tmp_path, rows, fault):
    folder = write_tokenizer(tmp_path / "words", kind="sft" if fault == "kind" else "tokenizer")
    beside = parents.tokenizer_files(folder)
    if fault == "run":
        beside = {path.replace(TOKENIZER_ID, OTHER_RUN_ID): file for path, file in beside.items()}
    if fault == "path":
        beside = {path.replace(TOKENIZER_ID, "a-b"): file for path, file in beside.items()}
    if fault == "bytes":
        (folder / "words.txt").write_bytes(b"a b d")
    push(hub, rows, beside)
    with pytest.raises(CodexError):
        parents.fetch_tokenizers(hub.client(), workspace, REPO, RUN_ID)
    assert not list(workspace.runs.glob("*/checkpoint-*"))


def test_more_tokenizers_than_any_run_uses_are_not_fetched(hub, workspace, tmp_path, rows):
    beside = {}
    for number in range(parents.MAX_PARENTS + 1):
        run_id = f"{TOKENIZER_ID[:-2]}{number:02d}"
        beside |= parents.tokenizer_files(write_tokenizer(tmp_path / run_id, run_id))
    push(hub, rows, beside)
    with pytest.raises(HubError, match="more than 16 tokenizers"):
        parents.fetch_tokenizers(hub.client(), workspace, REPO, RUN_ID)
    assert not list(workspace.runs.iterdir())


def test_where_no_rows_were_kept_there_is_nothing_to_fetch(hub, workspace):
    parents.fetch_tokenizers(hub.client(), workspace, REPO, RUN_ID)
    assert parents.read_parents(hub.client(), REPO, RUN_ID) == []


def test_what_has_changed_beside_the_rows_is_found_and_the_rows_stay_where_they_are(hub, rows):
    first = push(hub, rows, {parents.FILE: parents.render([])})
    push(hub, rows, {parents.FILE: parents.render([])}, OTHER_RUN_ID)
    (rows / "train.parquet").write_bytes(b"another run's by now")
    assert push(hub, rows, {}) == first == push(hub, rows, {parents.FILE: parents.render([])})
    repo = hub.repo(f"{REPO}-rows", "datasets")
    heads, others = dict(repo["heads"]), parents.read_parents(hub.client(), REPO, OTHER_RUN_ID)
    told = [Parent(RUN_ID, 10, REPO, COMMIT)]
    second = push(hub, rows, {parents.FILE: parents.render(told)})
    num_commits = len(repo["commits"])
    assert second == push(hub, rows, {parents.FILE: parents.render(told)}) == repo["tags"][RUN_ID] == first
    assert len(repo["commits"]) == num_commits
    assert parents.read_parents(hub.client(), REPO, RUN_ID) == told
    assert parents.read_parents(hub.client(), REPO, OTHER_RUN_ID) == others == []
    assert repo["heads"] == heads  # no branch is left, and the newest rows are those of the other run
    assert hub.state.files("datasets", f"{REPO}-rows", RUN_ID)["rows/train.parquet"] == b"rows"


@pytest.mark.parametrize("path", ["/branch/", "/commit/", "/tag/"])
def test_a_change_beside_the_rows_that_was_cut_off_is_made_by_the_next_try(hub, rows, path):
    push(hub, rows, {parents.FILE: parents.render([])})
    told = [Parent(RUN_ID, 10, REPO, COMMIT)]
    hub.fail(path, method="POST", status=503)
    with pytest.raises(HubError):
        push(hub, rows, {parents.FILE: parents.render(told)})
    assert parents.read_parents(hub.client(), REPO, RUN_ID) == []
    push(hub, rows, {parents.FILE: parents.render(told)})
    assert parents.read_parents(hub.client(), REPO, RUN_ID) == told
    assert list(hub.repo(f"{REPO}-rows", "datasets")["heads"]) == ["main"]
