"""A run comes back from the Hub alone, or not at all."""

import json

import pytest

from codex_space.core.errors import (
    HubAuthError,
    HubBusyError,
    HubError,
    HubGatedError,
    HubNotFoundError,
    RunError,
)
from codex_space.core.paths import MANIFEST, Workspace
from codex_space.hub.fetch import fetch_rows, fetch_run, push_rows
from codex_space.hub.push import push_checkpoint
from tests.fakes.checkpoints import OTHER_RUN_ID, RECIPE, RUN_ID, write_checkpoint
from tests.fakes.hub_fixture import RunningHub

REPO = "ada/model"


def push(hub: RunningHub, folder, *, with_resume: bool = True) -> str:
    hub.client().make_repo(REPO, private=True)
    return push_checkpoint(hub.client(), folder, repo_id=REPO, card="# x", recipe_text=RECIPE, with_resume=with_resume)


def content(folder) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_checkpoint_comes_back_byte_for_byte(hub: RunningHub, workspace: Workspace, tmp_path) -> None:
    folder = write_checkpoint(tmp_path / "step-10", 10, extra={"sub/extra.json": b"{}"})
    commit = push(hub, folder)
    run = fetch_run(hub.client(), REPO, workspace)
    assert (run.run_id, run.step, run.commit_id, run.num_row_files) == (RUN_ID, 10, commit, 0)
    assert content(run.checkpoint) == content(folder)
    assert run.job.recipe.read_text() == RECIPE == run.recipe_text
    assert run.job.checkpoint_steps() == [10]
    assert [path.name for path in run.job.root.iterdir() if path.name.startswith(".")] == []


def test_the_newest_checkpoint_with_its_resume_state_is_chosen(hub, workspace: Workspace, tmp_path) -> None:
    push(hub, write_checkpoint(tmp_path / "step-9", 9))
    push(hub, write_checkpoint(tmp_path / "step-10", 10))
    push(hub, write_checkpoint(tmp_path / "step-20", 20), with_resume=False)
    assert fetch_run(hub.client(), REPO, workspace).step == 10
    assert fetch_run(hub.client(), REPO, workspace, step=9).step == 9


def test_a_step_that_cannot_be_resumed_is_said(hub: RunningHub, workspace: Workspace, tmp_path) -> None:
    push(hub, write_checkpoint(tmp_path / "step-10", 10), with_resume=False)
    with pytest.raises(HubNotFoundError, match="no checkpoint of step 10"):
        fetch_run(hub.client(), REPO, workspace, step=10)
    with pytest.raises(HubNotFoundError, match="no checkpoint to resume"):
        fetch_run(hub.client(), REPO, workspace)


def test_a_repository_of_something_else_is_refused(hub: RunningHub, workspace: Workspace) -> None:
    hub.state.put("models", "bob/base", {"config.json": "{}"})
    with pytest.raises(HubNotFoundError, match="no checkpoint to resume"):
        fetch_run(hub.client(), "bob/base", workspace)


def test_an_unknown_repository_is_named(hub: RunningHub, workspace: Workspace) -> None:
    with pytest.raises(HubNotFoundError, match="ada/absent"):
        fetch_run(hub.client(), "ada/absent", workspace)


def test_a_private_repository_is_hidden_from_others(hub: RunningHub, workspace: Workspace, tmp_path) -> None:
    push(hub, write_checkpoint(tmp_path / "step-10", 10))
    with pytest.raises(HubNotFoundError):
        fetch_run(hub.client("hf_other"), REPO, workspace)


def test_a_gated_repository_says_so(hub: RunningHub, workspace: Workspace, tmp_path) -> None:
    push(hub, write_checkpoint(tmp_path / "step-10", 10))
    hub.repo(REPO).update(private=False, gated=True)
    with pytest.raises(HubGatedError, match="terms"):
        fetch_run(hub.client("hf_other"), REPO, workspace)


def test_a_download_cut_off_leaves_no_checkpoint_and_can_be_repeated(hub, workspace: Workspace, tmp_path) -> None:
    folder = write_checkpoint(tmp_path / "step-10", 10, size_bytes=2_000_000)
    push(hub, folder)
    hub.fail("adapter_model.safetensors", method="HEAD", status=503)
    with pytest.raises(HubBusyError):
        fetch_run(hub.client(), REPO, workspace)
    assert workspace.job(RUN_ID).checkpoint_steps() == []
    assert content(fetch_run(hub.client(), REPO, workspace).checkpoint) == content(folder)


def test_a_file_that_is_not_the_saved_one_is_refused(hub: RunningHub, workspace: Workspace, tmp_path) -> None:
    commit = push(hub, write_checkpoint(tmp_path / "step-10", 10))
    tree = hub.repo(REPO)["commits"][commit]["tree"]
    tree["resume/optimizer.pt"] = {**hub.state.keep(b"another run's"), "lfs": True}
    with pytest.raises(HubError, match=r"optimizer\.pt is not the file that was saved"):
        fetch_run(hub.client(), REPO, workspace)
    assert workspace.job(RUN_ID).checkpoint_steps() == []


def test_a_checkpoint_with_a_file_gone_is_not_taken_for_none(hub: RunningHub, workspace: Workspace, tmp_path) -> None:
    commit = push(hub, write_checkpoint(tmp_path / "step-10", 10))
    del hub.repo(REPO)["commits"][commit]["tree"]["adapter_model.safetensors"]
    with pytest.raises(HubError, match="a file of step 10 is gone") as caught:
        fetch_run(hub.client(), REPO, workspace)
    assert not isinstance(caught.value, HubNotFoundError), "the run would begin anew"
    assert workspace.job(RUN_ID).checkpoint_steps() == []


def test_a_file_larger_than_its_manifest_says_is_not_downloaded(
    hub: RunningHub, workspace: Workspace, tmp_path
) -> None:
    commit = push(hub, write_checkpoint(tmp_path / "step-10", 10))
    tree = hub.repo(REPO)["commits"][commit]["tree"]
    tree["adapter_model.safetensors"] = {**hub.state.keep(b"x" * 100_000), "lfs": True}
    with pytest.raises(HubError, match=r"adapter_model\.safetensors is not the file that was saved"):
        fetch_run(hub.client(), REPO, workspace)
    assert hub.asked("adapter_model", "GET") == hub.asked("adapter_model", "HEAD") == []
    assert not list(workspace.job(RUN_ID).root.glob(".*fetch"))


@pytest.mark.parametrize(
    ("old", "new"), [('"step": 10', '"step": Infinity'), ('"size": 2000', '"size": 1e999'), ('"metrics": {', '"metrics": {"a": 1' + "0" * 400 + ", "), ('"metrics": ', '"deep": ' + "[" * 100_000 + ', "metrics": ')]
)  # fmt: skip
def test_a_manifest_of_numbers_that_are_none_is_refused(
    hub: RunningHub, workspace: Workspace, tmp_path, old, new
) -> None:
    folder = write_checkpoint(tmp_path / "step-10", 10)
    commit = push(hub, folder)
    text = (folder / MANIFEST).read_text()
    assert old in text
    hub.repo(REPO)["commits"][commit]["tree"][MANIFEST] = hub.state.keep(text.replace(old, new).encode())
    with pytest.raises(HubError, match="is not a manifest"):
        fetch_run(hub.client(), REPO, workspace)
    assert list(workspace.runs.iterdir()) == []


def test_a_checkpoint_that_is_here_already_is_not_downloaded(hub, workspace: Workspace, tmp_path) -> None:
    push(hub, write_checkpoint(tmp_path / "step-10", 10))
    fetch_run(hub.client(), REPO, workspace)
    hub.state.requests.clear()
    fetch_run(hub.client(), REPO, workspace)
    assert hub.asked("adapter_model", "GET") == []


@pytest.mark.parametrize(
    "name", ["../../evil.py", "/tmp/evil", "..\\evil", "a/../../b", ".bashrc", "x//y", "./x", "a\nb", "\ud800"]
)
def test_a_hostile_manifest_writes_nothing(hub: RunningHub, workspace: Workspace, tmp_path, name: str) -> None:
    folder = write_checkpoint(tmp_path / "step-10", 10)
    commit = push(hub, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = manifest["files"]["tokenizer.json"]
    hub.repo(REPO)["commits"][commit]["tree"][MANIFEST] = hub.state.keep(json.dumps(manifest).encode())
    with pytest.raises(HubError, match="not a file of it"):
        fetch_run(hub.client(), REPO, workspace)
    assert list(workspace.runs.iterdir()) == []


@pytest.mark.parametrize("run_id", ["../../etc", "", "sft"])
def test_a_hostile_run_id_is_refused(hub: RunningHub, workspace: Workspace, tmp_path, run_id: str) -> None:
    folder = write_checkpoint(tmp_path / "step-10", 10)
    commit = push(hub, folder)
    text = (folder / MANIFEST).read_text().replace(f'"run_id": "{RUN_ID}"', f'"run_id": "{run_id}"')
    hub.repo(REPO)["commits"][commit]["tree"][MANIFEST] = hub.state.keep(text.encode())
    with pytest.raises(RunError, match="not a run id"):
        fetch_run(hub.client(), REPO, workspace)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": 1}', '{"schema": 1, "files": 3}', "\x00", '{"files": {}}'])
def test_a_broken_manifest_is_said(hub: RunningHub, workspace: Workspace, tmp_path, text: str) -> None:
    commit = push(hub, write_checkpoint(tmp_path / "step-10", 10))
    hub.repo(REPO)["commits"][commit]["tree"][MANIFEST] = hub.state.keep(text.encode())
    with pytest.raises(HubError, match=r"codex_manifest\.json"):
        fetch_run(hub.client(), REPO, workspace)


def test_a_newer_manifest_says_to_update(hub: RunningHub, workspace: Workspace, tmp_path) -> None:
    folder = write_checkpoint(tmp_path / "step-10", 10)
    commit = push(hub, folder)
    text = (folder / MANIFEST).read_text().replace('"schema": 1', '"schema": 2')
    hub.repo(REPO)["commits"][commit]["tree"][MANIFEST] = hub.state.keep(text.encode())
    with pytest.raises(HubError, match="Update this program"):
        fetch_run(hub.client(), REPO, workspace)


@pytest.fixture
def rows(tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "train.parquet").write_bytes(b"PAR1 train" * 100)
    (folder / "validation.parquet").write_bytes(b"PAR1 validation")
    (folder / "prepared.json").write_text("{}")
    return folder


def test_rows_go_to_a_private_dataset_and_come_back(hub: RunningHub, workspace: Workspace, rows, tmp_path) -> None:
    push_rows(hub.client(), rows, repo_id=REPO, run_id=RUN_ID)
    assert hub.repo("ada/model-rows", "datasets")["private"] is True
    push(hub, write_checkpoint(tmp_path / "step-10", 10))
    run = fetch_run(hub.client(), REPO, workspace)
    assert run.num_row_files == 3
    assert content(run.job.rows) == content(rows)


def test_a_run_that_is_still_here_keeps_its_recipe_and_rows(hub, workspace: Workspace, rows, tmp_path) -> None:
    push_rows(hub.client(), rows, repo_id=REPO, run_id=RUN_ID)
    push(hub, write_checkpoint(tmp_path / "step-10", 10))
    job = workspace.job(RUN_ID)
    job.rows.mkdir(parents=True)
    job.recipe.write_text("mine")
    (job.rows / "train.parquet").write_bytes(b"mine")
    (job.rows / "prepared.json").write_text("{}")
    assert fetch_run(hub.client(), REPO, workspace).num_row_files == 2
    assert job.recipe.read_text() == "mine"
    assert (job.rows / "train.parquet").read_bytes() == b"mine"


def test_rows_are_never_pushed_to_a_public_dataset(hub: RunningHub, rows) -> None:
    hub.state.put("datasets", "ada/model-rows", {"README.md": "public"})
    with pytest.raises(HubError, match="public, so the rows are not pushed"):
        push_rows(hub.client(), rows, repo_id=REPO, run_id=RUN_ID)
    assert list(hub.state.files("datasets", "ada/model-rows")) == ["README.md"]


def test_rows_need_a_token_that_can_write(hub: RunningHub, rows) -> None:
    with pytest.raises(HubAuthError):
        push_rows(hub.client("hf_read"), rows, repo_id=REPO, run_id=RUN_ID)


def test_rows_are_pushed_once(hub: RunningHub, rows) -> None:
    first = push_rows(hub.client(), rows, repo_id=REPO, run_id=RUN_ID)
    assert push_rows(hub.client(), rows, repo_id=REPO, run_id=RUN_ID) == first


def test_each_run_gets_its_own_rows_back(hub: RunningHub, rows, tmp_path) -> None:
    push_rows(hub.client(), rows, repo_id=REPO, run_id=RUN_ID)
    (rows / "train.parquet").write_bytes(b"PAR1 other rows")
    push_rows(hub.client(), rows, repo_id=REPO, run_id=OTHER_RUN_ID)
    fetch_rows(hub.client(), REPO, RUN_ID, tmp_path / "first")
    fetch_rows(hub.client(), REPO, OTHER_RUN_ID, tmp_path / "second")
    assert (tmp_path / "first" / "train.parquet").read_bytes() == b"PAR1 train" * 100
    assert (tmp_path / "second" / "train.parquet").read_bytes() == b"PAR1 other rows"


def test_what_an_earlier_run_left_there_is_not_taken_for_this_ones(hub: RunningHub, rows, tmp_path) -> None:
    (rows / "sources.json").write_text("{}")
    push_rows(
        hub.client(), rows, repo_id=REPO, run_id=RUN_ID, beside={"recipe.yaml": "kind: sft", "parents.json": "[]"}
    )
    (rows / "sources.json").unlink()
    (rows / "validation.parquet").unlink()
    hub.state.put("datasets", f"{REPO}-rows", {**hub.state.files("datasets", f"{REPO}-rows"), "mine.txt": "a person's"})
    push_rows(hub.client(), rows, repo_id=REPO, run_id=OTHER_RUN_ID)
    fetch_rows(hub.client(), REPO, OTHER_RUN_ID, tmp_path / "second")
    assert {path.name for path in (tmp_path / "second").iterdir()} == {"train.parquet", "prepared.json"}
    assert not {"recipe.yaml", "parents.json"} & set(hub.state.files("datasets", f"{REPO}-rows"))
    assert "mine.txt" in hub.state.files("datasets", f"{REPO}-rows")
    assert fetch_rows(hub.client(), REPO, RUN_ID, tmp_path / "first") == 4, "the earlier run still has its own"


def test_rows_that_were_not_kept_are_zero_files(hub: RunningHub, tmp_path) -> None:
    assert fetch_rows(hub.client(), REPO, RUN_ID, tmp_path / "rows") == 0
    assert not (tmp_path / "rows").exists()


def test_a_busy_hub_while_rows_are_looked_for_is_not_taken_for_none(hub: RunningHub, rows, tmp_path) -> None:
    push_rows(hub.client(), rows, repo_id=REPO, run_id=RUN_ID)
    hub.fail("/refs", status=503)
    with pytest.raises(HubBusyError):
        fetch_rows(hub.client(), REPO, RUN_ID, tmp_path / "rows2")
