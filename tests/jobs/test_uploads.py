"""Checkpoints reach the Hub in the end, whatever it answers, and never vanish before they are there."""

import json
import os
import shutil
from pathlib import Path

import pytest

from codex_space.core import durable
from codex_space.core.errors import HubAuthError
from codex_space.core.paths import MANIFEST, JobDir, Workspace
from codex_space.hub.client import Hub
from codex_space.hub.fetch import fetch_run
from codex_space.jobs.spool import spooled_steps, thin
from codex_space.jobs.uploads import Uploader, wait_s
from codex_space.store import costs, evaluations
from codex_space.store.checkpoints import Checkpoint, add_checkpoint, list_checkpoints, set_upload
from codex_space.store.db import Database
from codex_space.store.runs import change_state, insert_run
from tests.fakes.checkpoints import OTHER_RUN_ID, RECIPE, RESUME_FILES, RUN_ID, write_checkpoint
from tests.fakes.hub_fixture import RunningHub

LARGE = 1 << 40


class Space:
    """A workspace with runs, a test Hub, and a clock that only moves when told."""

    def __init__(self, workspace: Workspace, hub: RunningHub) -> None:
        self.workspace, self.hub, self.now = workspace, hub, 1000.0
        self.db = Database.open(workspace.database)
        self.token: str | None = "hf_write"
        self.budget_bytes = LARGE
        hub.client().make_repo("ada/model", private=True)
        hub.client().make_repo("ada/second", private=True)
        self.restart()

    def restart(self) -> None:
        self.uploader = Uploader(
            self.db, self.workspace, self.connect, spool_budget_bytes=self.budget_bytes
        )  # fmt: skip

    def connect(self) -> Hub:
        if self.token is None:
            raise HubAuthError("there is no Hub token", where="HF_TOKEN")
        return self.hub.client(self.token)

    def add_run(self, run_id: str = RUN_ID, recipe: str = RECIPE) -> JobDir:
        insert_run(self.db, id=run_id, name="first", kind="sft", recipe=recipe, repo_id="ada/model", now=self.now)
        job = self.workspace.job(run_id)
        job.root.mkdir(parents=True, exist_ok=True)
        return job

    def save(self, step: int, run_id: str = RUN_ID, size_bytes: int = 2000) -> Path:
        """Do what a worker and the supervisor do: write, hard-link into the spool, record."""
        job = self.workspace.job(run_id)
        folder = write_checkpoint(job.checkpoint(step), step, run_id=run_id, size_bytes=size_bytes)
        shutil.copytree(folder, job.spooled(step), copy_function=os.link)
        self.now += 1
        add_checkpoint(self.db, run_id, step, created_at=self.now, size_bytes=1, metrics={}, upload="queued")
        return job.spooled(step)

    def drain(self) -> int:
        """Step until nothing is due at this moment."""
        num_tries = 0
        while self.uploader.step(self.now):
            num_tries += 1
            assert num_tries < 50
        return num_tries

    def row(self, step: int, run_id: str = RUN_ID) -> Checkpoint:
        return next(row for row in list_checkpoints(self.db, run_id) if row.step == step)

    def states(self, run_id: str = RUN_ID) -> dict[int, str]:
        return {row.step: row.upload for row in list_checkpoints(self.db, run_id)}

    def tags(self, repo_id: str = "ada/model") -> set[str]:
        return set(self.hub.repo(repo_id)["tags"])


@pytest.fixture
def space(workspace: Workspace, hub: RunningHub):
    made = Space(workspace, hub)
    yield made
    made.db.close()


def test_a_saved_checkpoint_is_uploaded_and_leaves_the_spool(space: Space) -> None:
    job = space.add_run()
    space.save(10)
    space.drain()
    row = space.row(10)
    assert (row.upload, row.upload_error) == ("uploaded", "")
    assert row.commit_id == space.hub.repo("ada/model")["tags"]["step-10"]
    assert spooled_steps(job) == []
    assert job.checkpoint_steps() == [10]
    assert "ada/base" in space.hub.state.files("models", "ada/model")["README.md"].decode()


def test_an_exports_files_go_up_with_the_card_the_worker_wrote(space: Space) -> None:
    recipe = "kind: export\nmodel: {model_name_or_path: fresh:tiny}\ngguf: [Q8_0]\nhub: {repo_id: ada/model}\n"
    job = space.add_run(recipe=recipe)
    job.export.mkdir()
    (job.export / "README.md").write_text("# What was proven\n")
    space.save(1)
    space.drain()
    assert space.row(1).upload == "uploaded"
    assert space.hub.state.files("models", "ada/model")["README.md"] == b"# What was proven\n"


def test_nothing_to_do_asks_the_hub_nothing(space: Space) -> None:
    space.add_run()
    space.hub.state.requests.clear()
    assert space.uploader.step(space.now) is False
    assert space.hub.state.requests == []


def test_a_backlog_goes_up_newest_first_with_the_resume_state_of_the_newest_only(space: Space) -> None:
    space.add_run()
    for step in (10, 20, 30):
        space.save(step)
    space.drain()
    assert set(space.states().values()) == {"uploaded"}
    titles = [commit["title"] for commit in space.hub.repo("ada/model")["commits"].values()]
    assert titles[1:] == ["sft step 30", "sft step 20", "sft step 10"]
    with_state = [step for step in (10, 20, 30) if has_resume(space, step)]
    assert with_state == [30]
    repo = space.hub.repo("ada/model")
    assert repo["heads"] == {"main": repo["tags"]["step-30"]}


def test_uploads_slower_than_the_training_always_leave_something_to_go_on_from(space: Space, tmp_path: Path) -> None:
    space.add_run()
    space.save(10)
    for step in (20, 30, 40):
        space.save(step)
        space.uploader.step(space.now)  # one upload to each two checkpoints that were saved meanwhile
        space.save(step + 5)
        fetched = fetch_run(space.hub.client(), "ada/model", Workspace(tmp_path / str(step)).make())
        assert fetched.step == step
    space.drain()
    assert set(space.states().values()) == {"uploaded"}
    assert fetch_run(space.hub.client(), "ada/model", Workspace(tmp_path / "end").make()).step == 45


def test_what_the_worker_linked_a_moment_ago_takes_no_resume_state_away(space: Space) -> None:
    job = space.add_run()
    space.save(10)
    folder = write_checkpoint(job.checkpoint(20), 20)  # its event is not read yet
    shutil.copytree(folder, job.spooled(20), copy_function=os.link)
    space.drain()
    assert has_resume(space, 10)


def has_resume(space: Space, step: int) -> bool:
    return any(path.startswith("resume/") for path in space.hub.state.files("models", "ada/model", f"step-{step}"))


def test_rotation_on_disk_loses_nothing(space: Space) -> None:
    job = space.add_run()
    space.hub.fail("", status=503, times=-1)
    first = space.save(10)
    weights = (first / "adapter_model.safetensors").read_bytes()
    space.drain()
    shutil.rmtree(job.checkpoint(10))
    space.hub.heal()
    space.now += 1000
    space.drain()
    assert space.hub.state.files("models", "ada/model", "step-10")["adapter_model.safetensors"] == weights


@pytest.mark.parametrize("status", [429, 500])
def test_a_hub_that_is_busy_for_minutes_is_caught_up_with(space: Space, status: int) -> None:
    job = space.add_run()
    space.hub.fail("", status=status, times=-1)
    space.save(10)
    for _ in range(5):
        space.drain()
        assert space.row(10).upload == "queued"
        assert f"HTTP {status}" in space.row(10).upload_error
        assert spooled_steps(job)
        space.now = space.row(10).next_try_at
    space.save(20)
    space.drain()
    assert space.states() == {10: "queued", 20: "queued"}
    space.hub.heal()
    space.now += 600
    space.drain()
    assert space.states() == {10: "uploaded", 20: "uploaded"}
    assert space.tags() == {"step-10", "step-20"}


def test_waiting_doubles_up_to_ten_minutes() -> None:
    assert [wait_s(n) for n in (1, 2, 3, 8, 9, 1000)] == [5, 10, 20, 600, 600, 600]


def test_a_try_is_not_made_before_its_time(space: Space) -> None:
    space.add_run()
    space.hub.fail("", status=503, times=-1)
    space.save(10)
    assert space.drain() == 1
    assert space.row(10).next_try_at == space.now + 5
    space.now += 4.9
    assert space.drain() == 0
    space.now += 0.1
    assert space.drain() == 1


def test_a_newer_checkpoint_does_not_overtake_one_that_waits(space: Space) -> None:
    space.add_run()
    space.save(10)
    space.hub.fail("/commit/", status=503)
    space.drain()
    space.save(20)
    assert space.drain() == 0
    space.now += 10
    space.drain()
    assert space.states() == {10: "uploaded", 20: "uploaded"}


def test_a_run_that_waits_does_not_hold_up_another(space: Space) -> None:
    space.add_run()
    space.save(10)
    space.hub.fail("/ada/model/", status=503, times=-1)
    space.drain()
    space.add_run(OTHER_RUN_ID, RECIPE.replace("ada/model", "ada/second"))
    space.save(5, OTHER_RUN_ID)
    space.drain()
    assert space.states() == {10: "queued"}
    assert space.states(OTHER_RUN_ID) == {5: "uploaded"}


def test_a_refusal_fails_with_its_sentence_and_keeps_the_files(space: Space) -> None:
    job = space.add_run()
    space.save(10)
    space.token = "hf_read"
    space.drain()
    row = space.row(10)
    assert row.upload == "failed"
    assert "ada/model: the token may not do this" in row.upload_error
    assert "write role" in row.upload_error
    assert spooled_steps(job) == [10]
    space.token = "hf_write"
    set_upload(space.db, RUN_ID, 10, "queued")
    space.drain()
    assert space.row(10).upload == "uploaded"


def test_no_token_at_all_is_said(space: Space) -> None:
    space.add_run()
    space.save(10)
    space.token = None
    space.drain()
    assert "no Hub token" in space.row(10).upload_error


def test_a_checkpoint_retried_after_newer_ones_does_not_become_main(space: Space) -> None:
    space.add_run()
    space.save(10)
    space.hub.fail("/commit/", status=403)
    space.drain()
    space.save(20)
    space.drain()
    assert space.states() == {10: "failed", 20: "uploaded"}
    set_upload(space.db, RUN_ID, 10, "queued")
    space.drain()
    repo = space.hub.repo("ada/model")
    assert repo["heads"] == {"main": repo["tags"]["step-20"]}
    assert space.tags() == {"step-10", "step-20"}
    assert has_resume(space, 20)


def test_a_restart_in_the_middle_of_an_upload_goes_on_with_it(space: Space) -> None:
    space.add_run()
    space.save(10)
    set_upload(space.db, RUN_ID, 10, "uploading", tries=1)
    space.restart()
    space.drain()
    assert space.row(10).upload == "uploaded"


def test_making_an_uploader_changes_nothing_of_another_owner(space: Space) -> None:
    job = space.add_run()
    space.save(10)
    set_upload(space.db, RUN_ID, 10, "uploading", tries=1)
    space.restart()
    assert space.row(10).upload == "uploading"
    assert spooled_steps(job) == [10]


def test_a_crash_after_the_proof_leaves_no_files_behind(space: Space) -> None:
    job = space.add_run()
    space.save(10)
    spare = space.save(20)
    set_upload(space.db, RUN_ID, 10, "uploaded", commit_id="x")
    space.restart()
    space.hub.fail("", status=503, times=-1)
    space.drain()
    assert spooled_steps(job) == [20]
    assert spare.is_dir()


def test_an_interrupt_in_the_middle_leaves_the_checkpoint_queued(space: Space) -> None:
    space.add_run()
    space.save(10)

    def interrupted() -> Hub:
        raise KeyboardInterrupt

    uploader = Uploader(space.db, space.workspace, interrupted, spool_budget_bytes=LARGE)
    with pytest.raises(KeyboardInterrupt):
        uploader.step(space.now)
    assert space.row(10).upload == "queued"
    space.now += 5
    space.drain()
    assert space.row(10).upload == "uploaded"


def test_a_cut_answer_makes_one_commit_only(space: Space) -> None:
    space.add_run()
    space.save(10)
    space.hub.fail("/commit/", how="lose")
    space.drain()
    assert space.row(10).upload == "queued"
    space.now += 5
    space.drain()
    assert len(space.hub.repo("ada/model")["commits"]) == 2


def test_a_step_saved_again_during_its_upload_goes_up_again(space: Space) -> None:
    job = space.add_run()
    space.save(10)
    real = space.connect

    def connect_while_the_worker_saves() -> Hub:
        hub = real()
        commit = hub.set_tag

        def tag_then_save(*args, **kwargs):
            commit(*args, **kwargs)
            shutil.rmtree(job.spooled(10))
            write_checkpoint(job.spooled(10), 10, size_bytes=3000)

        hub.set_tag = tag_then_save
        return hub

    uploader = Uploader(space.db, space.workspace, connect_while_the_worker_saves, spool_budget_bytes=LARGE)
    uploader.step(space.now)
    assert space.row(10).upload == "queued"
    space.drain()
    assert len(space.hub.state.files("models", "ada/model", "step-10")["adapter_model.safetensors"]) == 3000
    assert spooled_steps(job) == []


def test_a_damaged_file_fails_and_is_not_sent(space: Space) -> None:
    job = space.add_run()
    space.save(10)
    path = job.spooled(10) / "adapter_model.safetensors"
    path.write_bytes(b"X" + path.read_bytes()[1:])
    space.drain()
    assert "not what was saved" in space.row(10).upload_error
    assert space.tags() == set()


def test_the_runs_own_copy_is_used_when_the_spool_is_gone(space: Space) -> None:
    job = space.add_run()
    space.save(10)
    shutil.rmtree(job.spool)
    space.drain()
    assert space.row(10).upload == "uploaded"
    assert has_resume(space, 10)


def test_files_that_are_gone_are_said(space: Space) -> None:
    job = space.add_run()
    space.save(10)
    shutil.rmtree(job.root)
    space.drain()
    assert "no longer on this machine" in space.row(10).upload_error


def test_past_the_budget_the_oldest_resume_state_goes_and_never_weights(space: Space) -> None:
    space.budget_bytes = 1
    space.restart()
    job = space.add_run()
    space.hub.fail("", status=503, times=-1)
    for step in (10, 20):
        space.save(step)
    space.drain()
    for step in (10, 20):
        left = {path.name for path in job.spooled(step).iterdir()}
        assert left == {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", MANIFEST}
        assert all((job.checkpoint(step) / name).is_file() for name in RESUME_FILES)
    space.hub.heal()
    space.now += 600
    space.drain()
    assert space.states() == {10: "uploaded", 20: "uploaded"}
    assert not has_resume(space, 20)


def test_the_budget_also_counts_what_the_hub_refused(space: Space) -> None:
    space.budget_bytes = 1
    space.restart()
    job = space.add_run()
    space.save(10)
    set_upload(space.db, RUN_ID, 10, "failed", error="refused")
    space.drain()
    assert not (job.spooled(10) / "optimizer.pt").exists()
    assert (job.spooled(10) / "adapter_model.safetensors").is_file()


def test_the_budget_takes_the_oldest_run_first(space: Space) -> None:
    first, second = space.add_run(), space.add_run(OTHER_RUN_ID)
    for run_id, job, seconds in ((RUN_ID, first, 100), (OTHER_RUN_ID, second, 200)):
        os.utime(space.save(10, run_id) / MANIFEST, (seconds, seconds))
        assert (job.spooled(10) / "optimizer.pt").is_file()
    size_bytes = sum(p.stat().st_size for job in (first, second) for p in job.spooled(10).iterdir())
    thin({second: 10, first: 10}, size_bytes - 1)
    assert not (first.spooled(10) / "optimizer.pt").exists()
    assert (second.spooled(10) / "optimizer.pt").is_file()


def test_rows_are_kept_only_with_consent_and_once(space: Space) -> None:
    job = space.add_run()
    job.rows.mkdir()
    (job.rows / "train.parquet").write_bytes(b"PAR1")
    space.save(10)
    space.drain()
    assert list(space.hub.state.repos) == ["models/ada/model", "models/ada/second"]

    agreed = RECIPE.replace("repo_id: ada/second", "").replace(
        "{repo_id: ada/model}", "{repo_id: ada/second, keep_rows: true}"
    )
    other = space.add_run(OTHER_RUN_ID, agreed)
    other.rows.mkdir()
    (other.rows / "train.parquet").write_bytes(b"PAR1")
    space.save(10, OTHER_RUN_ID)
    space.save(20, OTHER_RUN_ID)
    space.drain()
    rows = space.hub.repo("ada/second-rows", "datasets")
    assert rows["private"] is True
    assert len(rows["commits"]) == 2
    assert durable.read_json(other.rows_upload) == {"commit_id": rows["tags"][OTHER_RUN_ID], "error": ""}


def test_rows_that_are_refused_do_not_hold_up_checkpoints(space: Space) -> None:
    job = space.add_run(recipe=RECIPE.replace("{repo_id: ada/model}", "{repo_id: ada/model, keep_rows: true}"))
    job.rows.mkdir()
    (job.rows / "train.parquet").write_bytes(b"PAR1")
    space.hub.state.put("datasets", "ada/model-rows", {"README.md": "public"})
    space.save(10)
    space.drain()
    assert space.row(10).upload == "uploaded"
    note = durable.read_json(job.rows_upload)
    assert note is not None
    assert "public" in note["error"]


def test_a_run_comes_back_from_the_hub_into_an_empty_workspace(space: Space, tmp_path) -> None:
    job = space.add_run(recipe=RECIPE.replace("{repo_id: ada/model}", "{repo_id: ada/model, keep_rows: true}"))
    job.rows.mkdir()
    (job.rows / "train.parquet").write_bytes(b"PAR1")
    for step in (10, 20):
        space.save(step)
    space.drain()
    elsewhere = Workspace(tmp_path / "elsewhere").make()
    run = fetch_run(space.hub.client(), "ada/model", elsewhere)
    assert (run.run_id, run.step, run.num_row_files) == (RUN_ID, 20, 1)
    for path in job.checkpoint(20).iterdir():
        assert (run.checkpoint / path.name).read_bytes() == path.read_bytes()


def test_a_recipe_without_a_repository_is_said(space: Space) -> None:
    space.add_run(recipe=RECIPE.replace("hub: {repo_id: ada/model}\n", ""))
    space.save(10)
    space.drain()
    assert "names no repository" in space.row(10).upload_error


def test_no_path_of_this_machine_reaches_the_repository(space: Space) -> None:
    space.add_run(recipe=RECIPE.replace("sample:python-first-chat", "/home/ada/secret-project/rows.jsonl"))
    space.save(10)
    space.drain()
    files = space.hub.state.files("models", "ada/model")
    assert b"{path: rows.jsonl}" in files["recipe.yaml"]
    assert not [data for data in files.values() if b"secret-project" in data]


def test_a_token_never_reaches_the_disk_or_the_repository(space: Space) -> None:
    space.add_run()
    space.save(10)
    space.hub.fail("/commit/", status=503)
    space.drain()
    space.now += 5
    space.drain()
    sent = space.hub.state.files("models", "ada/model").values()
    kept = [path.read_bytes() for path in space.workspace.root.rglob("*") if path.is_file()]
    assert not [data for data in [*sent, *kept] if b"hf_write" in data]


def card_on_hub(space: Space) -> str:
    return space.hub.state.files("models", "ada/model")["README.md"].decode()


def grade(space: Space, step: int, value: float) -> None:
    """Do what worker and grader do: answers asked for, their verdicts and scores."""
    score = {"name": "first-steps", "value": value, "low": 0.0, "high": 1.0, "num_problems": 2}
    evaluations.start(
        space.db, RUN_ID, step, "first-steps", target=(RUN_ID, step), num_samples=2, protocol="p", now=1.0
    )
    row = evaluations.read_evaluation(space.db, RUN_ID, step, "first-steps")
    assert row
    for number, task_id in enumerate(("a", "b"), 1):
        verdict = {"task_id": task_id, "sample": 0, "passed": {"base": number <= 2 * value}}
        evaluations.add_verdict(space.db, row, verdict, num_graded=number, num_passed=0, num_live=0)
    evaluations.finish(space.db, row, [score])


def end_run(space: Space, run_id: str = RUN_ID) -> None:
    for state in ("preflight", "running", "succeeded"):
        change_state(space.db, run_id, state, now=space.now)


def write_log(job: JobDir) -> None:
    job.recipe.write_text(RECIPE)
    lines = (f'{{"e": "log", "t": {step}, "step": {step}, "metrics": {{"loss": {9 - step}}}}}\n' for step in (1, 2, 3))
    job.events.write_text("".join(lines))


def test_the_card_comes_with_its_curve_and_what_the_run_has_cost(space: Space) -> None:
    job = space.add_run()
    write_log(job)
    costs.add(space.db, RUN_ID, at=1.0, seconds=3600, usd=0.8)
    space.save(10)
    space.drain()
    assert "![Loss by step](curves.svg)" in card_on_hub(space)
    assert "\\$0.80" in card_on_hub(space)
    assert space.hub.state.files("models", "ada/model")["curves.svg"].startswith(b"<svg")
    assert "license: other" in card_on_hub(space), "the base's licence was not written down"


def test_flips_on_the_card_are_those_of_the_database_whatever_the_folder_says(space: Space) -> None:
    write_log(space.add_run())
    grade(space, 0, 0.0)
    grade(space, 10, 0.5)
    folder = space.workspace.job(RUN_ID).evaluation(10, "first-steps")
    folder.mkdir(parents=True)
    forged = {"name": "first-steps", "value": 1.0, "low": 1.0, "high": 1.0, "num_problems": 2}
    durable.write_json(folder / "scores.json", {"scores": [forged]})
    lines = (json.dumps({"task_id": task, "sample": 0, "passed": {"base": True}}) + "\n" for task in "ab")
    (folder / "verdicts.jsonl").write_text("".join(lines))
    space.save(10)
    space.drain()
    assert "| first-steps | 50.0 %" in card_on_hub(space)
    assert "1 gained and 0 lost of 2 problems" in card_on_hub(space)


def test_scores_that_were_graded_after_the_last_upload_reach_the_card_once(space: Space) -> None:
    write_log(space.add_run())
    space.save(10)
    space.drain()
    evaluations.start(space.db, RUN_ID, 10, "first-steps", target=(RUN_ID, 10), num_samples=2, protocol="p", now=1.0)
    end_run(space)
    space.now += 60
    space.drain()
    assert "first-steps" not in card_on_hub(space), "they are not graded yet"
    grade(space, 10, 0.75)
    space.now += 60
    space.drain()
    assert "| first-steps | 75.0 %" in card_on_hub(space)
    assert set(space.tags()) == {"step-10"}
    assert "adapter_model.safetensors" in space.hub.state.files("models", "ada/model")
    space.restart()
    space.hub.state.requests.clear()
    space.now += 60
    space.drain()
    assert space.hub.state.requests == [], "it was told once"


def test_a_card_waits_for_a_busy_hub_and_leaves_another_runs_alone(space: Space) -> None:
    write_log(space.add_run())
    space.save(10)
    space.drain()
    grade(space, 10, 0.75)
    end_run(space)
    space.hub.fail("/commit/", status=503)
    space.now += 60
    space.drain()
    assert "first-steps" not in card_on_hub(space)
    space.hub.heal()
    space.now += 700
    space.drain()
    assert "| first-steps | 75.0 %" in card_on_hub(space)
    space.add_run(OTHER_RUN_ID)
    space.save(25, OTHER_RUN_ID)
    space.drain()
    others = card_on_hub(space)
    (space.workspace.job(RUN_ID).card).unlink()
    grade(space, 10, 0.25)
    space.restart()
    space.now += 60
    space.drain()
    assert card_on_hub(space) == others, "the repository holds the other run's checkpoint now"


@pytest.mark.parametrize("name", ["recipe.yaml", "events.jsonl", "env.json", "rows/sources.json"])
@pytest.mark.parametrize(
    "text", ["\x00", "[1]", '{"e": "log", "metrics": 4}\n', '{"gpus": 3, "packages": 4, "data": 5}']
)
def test_nonsense_in_the_folder_makes_a_shorter_card_and_holds_no_weights_back(
    space: Space, name: str, text: str
) -> None:
    job = space.add_run()
    write_log(job)
    (job.root / name).parent.mkdir(exist_ok=True)
    (job.root / name).write_text(text)
    space.save(10)
    space.drain()
    assert space.row(10).upload == "uploaded"
    assert "# first" in card_on_hub(space)
