"""What a run builds on is fetched whole and proven, or not at all."""

import json

import pytest

from codex_space.core.errors import CodexError, HubError
from codex_space.core.paths import MANIFEST
from codex_space.hub import parents
from codex_space.hub.fetch import push_rows
from codex_space.hub.parents import Parent
from codex_space.hub.push import push_checkpoint
from tests.fakes.checkpoints import OTHER_RUN_ID, RECIPE, RUN_ID, write_checkpoint

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
