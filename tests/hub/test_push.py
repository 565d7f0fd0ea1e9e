"""A checkpoint goes up as one commit and one tag, proven by hashes, whatever happens on the way."""

import pytest

from codex_space.core.errors import HubAuthError, HubBusyError, HubError, HubNotFoundError, WorkspaceError
from codex_space.core.paths import MANIFEST
from codex_space.hub.push import push_checkpoint
from tests.fakes.checkpoints import OTHER_RUN_ID, RECIPE, RESUME_FILES, RUN_ID, write_checkpoint
from tests.fakes.hub_fixture import RunningHub

CARD = "---\ntags: [codex-space]\n---\n# first\n"


@pytest.fixture
def repo(hub: RunningHub) -> str:
    hub.client().check_writable("ada/model", private=True)
    hub.state.requests.clear()
    return "ada/model"


def push(hub: RunningHub, folder, *, with_resume: bool = True, token: str = "hf_write") -> str:
    return push_checkpoint(
        hub.client(token), folder, repo_id="ada/model", card=CARD, recipe_text=RECIPE, with_resume=with_resume
    )


def num_commits(hub: RunningHub) -> int:
    return len(hub.repo("ada/model")["commits"]) - 1  # without the initial one


def test_one_checkpoint_is_one_commit_and_one_tag(hub: RunningHub, repo: str, tmp_path) -> None:
    folder = write_checkpoint(tmp_path / "step-10", 10)
    commit = push(hub, folder)
    assert num_commits(hub) == 1
    assert hub.repo(repo)["tags"] == {"step-10": commit}
    assert hub.repo(repo)["heads"]["main"] == commit
    files = hub.state.files("models", repo)
    assert files["adapter_model.safetensors"] == (folder / "adapter_model.safetensors").read_bytes()
    assert files[MANIFEST] == (folder / MANIFEST).read_bytes()
    assert files["recipe.yaml"].decode() == RECIPE
    assert files["README.md"].decode() == CARD
    assert {path for path in files if path.startswith("resume/")} == {f"resume/{name}" for name in RESUME_FILES}
    assert "optimizer.pt" not in files


def test_the_resume_state_of_the_newest_replaces_the_older_one(hub: RunningHub, repo: str, tmp_path) -> None:
    first = push(hub, write_checkpoint(tmp_path / "step-10", 10, extra={"scaler.pt": b"s"}))
    push(hub, write_checkpoint(tmp_path / "step-20", 20), with_resume=False)
    assert not [path for path in hub.state.files("models", repo) if path.startswith("resume/")]
    assert [path for path in hub.state.files("models", repo, first) if path.startswith("resume/")]
    assert num_commits(hub) == 2


def test_weights_under_older_names_do_not_stay_beside_the_new_ones(hub: RunningHub, repo: str, tmp_path) -> None:
    push(hub, write_checkpoint(tmp_path / "step-10", 10, extra={"model-00001-of-00002.safetensors": b"half"}))
    push(hub, write_checkpoint(tmp_path / "step-20", 20))
    assert "model-00001-of-00002.safetensors" not in hub.state.files("models", repo)
    assert "model-00001-of-00002.safetensors" in hub.state.files("models", repo, "step-10")


def test_files_of_a_person_in_the_repository_stay(hub: RunningHub, repo: str, tmp_path) -> None:
    hub.state.put("models", repo, {"notes/plan.md": "mine"})
    push(hub, write_checkpoint(tmp_path / "step-10", 10))
    assert hub.state.files("models", repo)["notes/plan.md"] == b"mine"


def test_pushing_again_makes_no_second_commit(hub: RunningHub, repo: str, tmp_path) -> None:
    folder = write_checkpoint(tmp_path / "step-10", 10)
    assert push(hub, folder) == push(hub, folder)
    assert num_commits(hub) == 1


def test_a_lost_answer_makes_no_second_commit(hub: RunningHub, repo: str, tmp_path) -> None:
    folder = write_checkpoint(tmp_path / "step-10", 10)
    hub.fail("/commit/main", how="lose")
    with pytest.raises(HubBusyError):
        push(hub, folder)
    assert num_commits(hub) == 1
    assert hub.repo(repo)["tags"] == {}
    commit = push(hub, folder)
    assert num_commits(hub) == 1
    assert hub.repo(repo)["tags"] == {"step-10": commit}


def test_a_crash_between_commit_and_tag_is_made_good(hub: RunningHub, repo: str, tmp_path) -> None:
    folder = write_checkpoint(tmp_path / "step-10", 10)
    hub.fail("/tag/", status=503)
    with pytest.raises(HubBusyError):
        push(hub, folder)
    push(hub, folder)
    assert num_commits(hub) == 1
    assert "step-10" in hub.repo(repo)["tags"]


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("path", ["/commit/", "/preupload/", r"\.git/info/lfs", "/_lfs/", "/refs"])
def test_a_busy_answer_anywhere_is_worth_another_try(
    hub: RunningHub, repo: str, tmp_path, path: str, status: int
) -> None:
    folder = write_checkpoint(tmp_path / "step-10", 10)
    hub.fail(path, status=status)
    with pytest.raises(HubBusyError):
        push(hub, folder)
    push(hub, folder)
    assert hub.state.files("models", repo)[MANIFEST] == (folder / MANIFEST).read_bytes()


def test_a_connection_cut_in_the_middle_of_a_file_is_survived(hub: RunningHub, repo: str, tmp_path) -> None:
    folder = write_checkpoint(tmp_path / "step-10", 10, size_bytes=3_000_000)
    hub.fail("/_lfs/", method="PUT", how="drop")
    push(hub, folder)
    sent = hub.state.files("models", repo)["adapter_model.safetensors"]
    assert sent == (folder / "adapter_model.safetensors").read_bytes()


def test_a_slow_upload_is_waited_for(hub: RunningHub, repo: str, tmp_path) -> None:
    hub.fail("/_lfs/", method="PUT", how="slow", delay_s=0.3, times=-1)
    commit = push(hub, write_checkpoint(tmp_path / "step-10", 10))
    assert hub.repo(repo)["tags"] == {"step-10": commit}


def test_a_private_repository_without_room_says_so(hub: RunningHub, repo: str, tmp_path) -> None:
    hub.fail("/commit/", status=403, message="Private repository storage limit reached, please upgrade")
    with pytest.raises(HubError, match="storage on the Hub is full"):
        push(hub, write_checkpoint(tmp_path / "step-10", 10))


def test_files_that_arrived_are_not_sent_again(hub: RunningHub, repo: str, tmp_path) -> None:
    folder = write_checkpoint(tmp_path / "step-10", 10)
    hub.fail("/commit/", status=503)
    with pytest.raises(HubBusyError):
        push(hub, folder)
    num_sent = len(hub.asked("/_lfs/", "PUT"))
    push(hub, folder)
    assert len(hub.asked("/_lfs/", "PUT")) == num_sent


def test_somebody_elses_commit_in_between_is_worth_another_try(hub: RunningHub, repo: str, tmp_path) -> None:
    folder = write_checkpoint(tmp_path / "step-10", 10)
    hub.fail("/commit/", status=412, message="A commit has happened since.")
    with pytest.raises(HubBusyError, match="same moment"):
        push(hub, folder)
    push(hub, folder)


def test_the_commit_is_made_on_top_of_what_was_looked_at(hub: RunningHub, repo: str, tmp_path) -> None:
    client = hub.client()
    real_commit = client.commit

    def commit_after_another(repo_id, change, repo_type="model"):
        hub.state.put("models", repo_id, {"theirs.txt": "x"})
        return real_commit(repo_id, change, repo_type)

    client.commit = commit_after_another
    folder = write_checkpoint(tmp_path / "step-10", 10)
    with pytest.raises(HubBusyError, match="same moment"):
        push_checkpoint(client, folder, repo_id=repo, card=CARD, recipe_text=RECIPE, with_resume=True)
    assert hub.state.files("models", repo) == {"theirs.txt": b"x"}


def test_bytes_that_changed_on_the_way_are_noticed(hub: RunningHub, repo: str, tmp_path) -> None:
    folder = write_checkpoint(tmp_path / "step-10", 10)
    client = hub.client()
    real_commit = client.commit

    def damaging_commit(repo_id, change, repo_type="model"):
        oid = real_commit(repo_id, change, repo_type)
        tree = hub.repo(repo_id)["commits"][oid]["tree"]
        tree["adapter_model.safetensors"] = {**hub.state.keep(b"x" * 2000), "lfs": True}
        return oid

    client.commit = damaging_commit
    with pytest.raises(HubError, match="not what was sent, the first is adapter_model"):
        push_checkpoint(client, folder, repo_id=repo, card=CARD, recipe_text=RECIPE, with_resume=True)
    assert hub.repo(repo)["tags"] == {}


def test_a_small_file_that_changed_on_the_way_is_noticed_too(hub: RunningHub, repo: str, tmp_path) -> None:
    folder = write_checkpoint(tmp_path / "step-10", 10)
    commit = push(hub, folder)
    entry = hub.repo(repo)["commits"][commit]["tree"]["tokenizer.json"]
    entry["oid"] = "0" * 40
    push(hub, folder)
    assert num_commits(hub) == 2


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "tokenizer.json", "optimizer.pt"])
def test_a_file_damaged_on_disk_is_not_sent(hub: RunningHub, repo: str, tmp_path, name: str) -> None:
    folder = write_checkpoint(tmp_path / "step-10", 10)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(b"X" + content[1:])
    with pytest.raises(WorkspaceError, match="not what was saved"):
        push(hub, folder)
    assert num_commits(hub) == 0


def test_a_missing_file_or_manifest_is_not_sent(hub: RunningHub, repo: str, tmp_path) -> None:
    folder = write_checkpoint(tmp_path / "step-10", 10)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(WorkspaceError, match="missing"):
        push(hub, folder)
    (folder / MANIFEST).unlink()
    with pytest.raises(WorkspaceError, match="not complete"):
        push(hub, folder)
    assert num_commits(hub) == 0


def test_a_manifest_that_names_files_elsewhere_is_refused(hub: RunningHub, repo: str, tmp_path) -> None:
    (tmp_path / "secret.txt").write_text("token")
    folder = write_checkpoint(tmp_path / "step-10", 10)
    manifest = folder / MANIFEST
    manifest.write_text(manifest.read_text().replace('"tokenizer.json"', '"../secret.txt"'))
    with pytest.raises(HubError, match=r"\.\./secret\.txt"):
        push(hub, folder)


def test_a_link_in_place_of_a_file_is_not_followed(hub: RunningHub, repo: str, tmp_path) -> None:
    folder = write_checkpoint(tmp_path / "step-10", 10)
    (folder / "tokenizer.json").rename(tmp_path / "elsewhere.json")
    (folder / "tokenizer.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(WorkspaceError):
        push(hub, folder)


def test_a_read_token_is_refused_for_good(hub: RunningHub, repo: str, tmp_path) -> None:
    folder = write_checkpoint(tmp_path / "step-10", 10)
    with pytest.raises(HubAuthError, match="may not do this"):
        push(hub, folder, token="hf_read")
    assert num_commits(hub) == 0


def test_a_repository_that_was_deleted_meanwhile_is_named(hub: RunningHub, repo: str, tmp_path) -> None:
    folder = write_checkpoint(tmp_path / "step-10", 10)
    hub.state.repos.clear()
    with pytest.raises(HubNotFoundError, match="ada/model"):
        push(hub, folder)


def test_a_late_checkpoint_gets_its_tag_and_main_keeps_the_newest(hub: RunningHub, repo: str, tmp_path) -> None:
    newest = push(hub, write_checkpoint(tmp_path / "step-20", 20))
    late = write_checkpoint(tmp_path / "step-10", 10)
    push(hub, late, with_resume=False)
    state = hub.repo(repo)
    assert state["heads"] == {"main": newest}
    assert set(state["tags"]) == {"step-10", "step-20"}
    weights = hub.state.files("models", repo, "step-10")["adapter_model.safetensors"]
    assert weights == (late / "adapter_model.safetensors").read_bytes()


def test_another_run_in_the_same_repository_loses_nothing(hub: RunningHub, repo: str, tmp_path) -> None:
    first = push(hub, write_checkpoint(tmp_path / "a" / "step-10", 10))
    second = push(hub, write_checkpoint(tmp_path / "b" / "step-10", 10, run_id=OTHER_RUN_ID))
    assert hub.repo(repo)["tags"] == {"step-10": second, f"{RUN_ID}-step-10": first}
    assert hub.repo(repo)["heads"]["main"] == second


def test_a_repository_with_a_manifest_that_is_not_ours_is_written_over_with_care(
    hub: RunningHub, repo: str, tmp_path
) -> None:
    hub.state.put("models", repo, {MANIFEST: "[1, 2", "keep.txt": "x"})
    push(hub, write_checkpoint(tmp_path / "step-10", 10))
    assert hub.state.files("models", repo)["keep.txt"] == b"x"
