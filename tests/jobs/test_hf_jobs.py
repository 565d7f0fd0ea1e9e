"""The states of a run on Jobs over the test Hub, with short commands instead of a training (that is tests/e2e/test_hf_jobs.py)."""

import shutil
import sys
import time

import pytest

from codex_space.core.errors import RecipeError
from codex_space.core.job_lines import render_line
from codex_space.core.paths import new_run_id
from codex_space.core.recipe import parse_recipe
from codex_space.hub.jobs import JobsHub
from codex_space.jobs import hf_jobs
from codex_space.jobs.hf_jobs import HubJobs
from codex_space.jobs.hf_start import Renting, recipe_elsewhere
from codex_space.store import checkpoints, hub_jobs, metrics, runs
from codex_space.store.db import Database
from codex_space.store.runs import FINAL

RECIPE = """
schema: 1
kind: sft
name: there
model: {model_name_or_path: fresh:tiny}
datasets: [{path: 'sample:python-first-chat'}]
hub: {repo_id: ada/there, keep_rows: true}
launch: {where: hf-jobs, flavor: l4x1, timeout: 1h}
"""
EVENTS = [
    {"t": 1, "e": "attempt", "attempt": 1, "resumed_from_step": 0},
    {"t": 2, "e": "ready", "max_steps": 3, "num_rows": 9},
    *({"t": 2 + step, "e": "log", "step": step, "metrics": {"loss": 1.0 / step}} for step in (1, 2, 3)),
    {"t": 6, "e": "checkpoint", "step": 3, "size_bytes": 10, "metrics": {}},
    {"t": 7, "e": "done", "step": 3, "summary": {}},
    {"t": 8, "e": "upload", "step": 3, "upload": "uploaded", "error": "", "commit_id": "c" * 40},
    {"t": 9, "e": "end", "state": "succeeded", "reason": ""},
]
END = [{"t": 9, "e": "end", "state": "stopped", "reason": "Stopped as asked."}]


def says(events, then=""):
    """Return a command that says these events, then does that."""
    lines = [render_line(number, event) for number, event in enumerate(events, 1)]
    return [sys.executable, "-c", f"import sys, time\nfor line in {lines!r}: print(line, flush=True)\n{then}"]


class Room:
    def __init__(self, hub, workspace):
        self.hub, self.workspace, self.now = hub, workspace, 1_700_000_000.0
        self.db = Database.open(workspace.database)
        hub.state.make_repo("models", "ada/there", private=True)
        self.most = 8
        self.jobs = self.new_owner()

    def new_owner(self):
        def make():
            return JobsHub("hf_write", endpoint=self.hub.endpoint)

        renting = Renting(
            hub=make,
            token="hf_write",
            image="hf.co/spaces/ada/codex",
            environ={"HF_ENDPOINT": self.hub.endpoint},
            most_at_once=self.most,
        )
        return HubJobs(self.db, self.workspace, renting)

    def restart(self):
        self.jobs.close()
        self.jobs = self.new_owner()

    def submit(self, recipe=RECIPE):
        self.now += 1
        run_id = new_run_id("sft", self.now)
        self.workspace.job(run_id).root.mkdir()
        self.workspace.job(run_id).recipe.write_text(recipe)
        values = {"id": run_id, "name": "there", "kind": "sft", "recipe": recipe, "repo_id": "ada/there"}
        return runs.insert_run(self.db, **values, now=self.now, place="hf-jobs").id

    def read(self, run_id):
        return runs.read_run(self.db, run_id)

    def intend(self, run_id, intent):
        """What the supervisor does with a wish."""
        runs.set_intent(self.db, run_id, intent, self.now)
        runs.change_state(self.db, run_id, "stopping", now=self.now)

    def until(self, condition, seconds=0.05):
        deadline = time.monotonic() + 20
        while not condition():
            self.now += seconds
            self.jobs.step(self.now)
            assert time.monotonic() < deadline, [(run.state, run.phase, run.reason) for run in runs.list_runs(self.db)]
            time.sleep(0.005)

    def ended(self, run_id, seconds=0.5):
        self.until(lambda: self.read(run_id).state in FINAL, seconds)
        return self.read(run_id)

    def job(self, run_id):
        return hub_jobs.newest_job(self.db, run_id)


@pytest.fixture
def room(hub, workspace):
    made = Room(hub, workspace)
    yield made
    made.jobs.close()
    made.db.close()


def test_a_run_goes_through_the_states_of_any_run(room):
    room.hub.state.jobs.instead = says(EVENTS)
    run_id = room.submit()
    run = room.ended(run_id)
    assert (run.state, run.step, run.max_steps, run.reason) == ("succeeded", 3, 3, "")
    assert metrics.read_curve(room.db, run_id, "loss").steps == [1, 2, 3]
    (row,) = checkpoints.list_checkpoints(room.db, run_id)
    assert (row.upload, row.commit_id, row.on_disk) == ("uploaded", "c" * 40, False)
    job = room.job(run_id)
    assert (job.stage, job.namespace, job.usd_per_hour) == ("COMPLETED", "ada", 0.9)


def test_a_log_that_is_cut_again_and_again_is_complete_in_the_end(room, monkeypatch):
    monkeypatch.setattr(hf_jobs, "READ_AGAIN_S", 0.05)
    room.hub.state.jobs.instead = says(EVENTS)
    room.hub.state.jobs.cut_logs = [1, 3, 2, 5]
    room.hub.state.jobs.hostile = ["\x00\x1b[2J", "::codex-space:: {", "::codex-space:: " + "[" * 9000]
    run_id = room.submit()
    assert room.ended(run_id, seconds=0.01).state == "succeeded"
    assert metrics.read_curve(room.db, run_id, "loss").steps == [1, 2, 3]


def test_an_owner_that_died_before_it_noted_the_job_finds_it_and_starts_no_second(room):
    room.hub.state.jobs.instead = says(EVENTS[:4], "time.sleep(20)")
    run_id = room.submit()
    room.until(lambda: room.read(run_id).step == 2)
    hub_jobs.update_job(room.db, run_id, 1, job_id="", namespace="", url="")
    room.restart()
    room.until(lambda: room.job(run_id).job_id != "")
    assert list(room.hub.state.jobs.jobs) == [room.job(run_id).job_id]


def test_a_database_that_lost_its_jobs_finds_them_by_their_labels(room):
    room.hub.state.jobs.instead = says(EVENTS[:4], "time.sleep(20)")
    run_id = room.submit()
    room.until(lambda: room.read(run_id).step == 2)
    known = room.job(run_id).job_id
    with room.db.transaction() as cursor:
        cursor.execute("DELETE FROM hub_jobs")
    room.restart()
    room.until(lambda: (found := room.job(run_id)) is not None and found.job_id == known)
    assert list(room.hub.state.jobs.jobs) == [known]


def test_a_run_whose_job_nobody_followed_any_more_is_not_trained_by_two(room):
    room.hub.state.jobs.instead = says(EVENTS[:4], "time.sleep(300)")
    run_id = room.submit()
    room.until(lambda: room.read(run_id).step == 2)
    known = room.job(run_id).job_id
    with room.db.transaction() as cursor:  # as where the database was made again from the folders
        cursor.execute("DELETE FROM hub_jobs")
        cursor.execute("UPDATE runs SET state = 'lost'")
    room.restart()
    runs.change_state(room.db, run_id, "queued", now=room.now)
    run = room.ended(run_id)
    assert run.state == "failed"
    assert "still trains this run" in run.reason
    assert known in run.reason
    JobsHub("hf_write", endpoint=room.hub.endpoint).cancel_job(known, "ada")
    room.until(lambda: room.hub.state.jobs.jobs[known].stage == "CANCELED")
    runs.change_state(room.db, run_id, "queued", now=room.now)
    room.hub.state.jobs.instead = says(EVENTS)
    assert room.ended(run_id).state == "succeeded"


@pytest.mark.parametrize("fault", ["folder", "recipe"])
def test_one_run_that_cannot_be_looked_after_does_not_end_the_watch_over_the_others(room, fault):
    room.hub.state.jobs.instead = says(EVENTS)
    good, bad = sorted([room.submit(), room.submit()])
    if fault == "folder":
        room.until(lambda: room.job(bad) is not None and room.job(bad).job_id != "")
        room.restart()
        shutil.rmtree(room.workspace.job(bad).root)
    else:
        with room.db.transaction() as cursor:
            cursor.execute("UPDATE runs SET recipe = 'kind: sorcery' WHERE id = ?", (bad,))
    assert room.ended(good).state == "succeeded"
    if fault == "recipe":
        assert "The Job could not be started: kind: unknown kind" in room.ended(bad).reason


def test_a_mistake_of_ours_at_the_start_is_one_runs_end_and_is_logged(room, monkeypatch, caplog):
    def broken(*_):
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr(hf_jobs, "send_rows", broken)
    run = room.ended(room.submit())
    assert (run.state, run.reason) == ("failed", "The Job could not be started: ZeroDivisionError; the log says more")
    assert "a mistake" in caplog.text


def test_another_owner_goes_on_where_the_first_left_the_curve(room):
    room.hub.state.jobs.instead = says(EVENTS[:4], f"time.sleep(1)\nprint({render_line(5, EVENTS[4])!r})")
    run_id = room.submit()
    room.until(lambda: room.read(run_id).step == 2)
    room.restart()
    room.until(lambda: room.read(run_id).step == 3)
    events = room.workspace.job(run_id).events.read_text().splitlines()
    assert len(events) == 5


@pytest.mark.parametrize("status", [503, 429])
def test_a_busy_hub_is_asked_again(room, status):
    room.hub.state.jobs.instead = says(EVENTS)
    room.hub.fail("/api/jobs/ada", method="POST", status=status)
    run_id = room.submit()
    room.until(lambda: "tried again" in room.read(run_id).phase)
    assert room.ended(run_id).state == "succeeded"
    assert len(room.hub.state.jobs.jobs) == 1


@pytest.mark.parametrize(("status", "said"), [(402, "paid plan or credit"), (403, "may not do this"), (400, "refused")])
def test_a_refusal_is_one_sentence(room, status, said):
    room.hub.fail("/api/jobs/ada", method="POST", status=status)
    run = room.ended(room.submit())
    assert run.state == "failed"
    assert said in run.reason
    assert not room.hub.state.jobs.jobs


def test_a_public_rows_dataset_is_never_written_to(room):
    room.hub.state.put("datasets", "ada/there-rows", {"README.md": "public"})
    run = room.ended(room.submit())
    assert run.state == "failed"
    assert "public" in run.reason
    assert not room.hub.state.jobs.jobs


def test_a_job_that_ends_with_an_error_says_where_to_look(room):
    room.hub.state.jobs.instead = says(EVENTS[:3], "print('Traceback: no module', flush=True); sys.exit(3)")
    run_id = room.submit()
    run = room.ended(run_id)
    assert run.state == "failed"
    assert "exit code: 3" in run.reason
    assert "no module" in room.workspace.job(run_id).log.read_text()


def test_a_job_that_reaches_its_time_limit_says_so(room):
    room.hub.state.jobs.instead = says(EVENTS[:3], "time.sleep(30)")
    run = room.ended(room.submit(RECIPE.replace("1h", "1s")), seconds=0.1)
    assert run.state == "failed"
    assert "time limit" in run.reason


def test_a_job_that_is_gone_is_lost(room):
    room.hub.state.jobs.instead = says(EVENTS[:3], "time.sleep(30)")
    run_id = room.submit()
    room.until(lambda: room.read(run_id).step == 1)
    job = room.hub.state.jobs.jobs.pop(room.job(run_id).job_id)
    run = room.ended(run_id)
    room.hub.state.jobs.kill(job)
    assert run.state == "lost"


def test_a_job_that_is_over_without_a_word_is_not_called_a_success(room, monkeypatch):
    monkeypatch.setattr(hf_jobs, "READ_AGAIN_S", 0.05)
    room.hub.state.jobs.instead = [sys.executable, "-c", "print('hello')"]
    assert room.ended(room.submit()).state == "lost"


def test_someone_cancels_the_job_on_the_hub(room):
    room.hub.state.jobs.instead = says(EVENTS[:3], "time.sleep(30)")
    run_id = room.submit()
    room.until(lambda: room.read(run_id).step == 1)
    room.hub.client()
    JobsHub("hf_write", endpoint=room.hub.endpoint).cancel_job(room.job(run_id).job_id, "ada")
    run = room.ended(run_id)
    assert (run.state, run.reason) == ("stopped", "The Job was cancelled on the Hub.")


def test_cancel_ends_the_job(room):
    room.hub.state.jobs.instead = says(EVENTS[:3], "time.sleep(30)")
    run_id = room.submit()
    room.until(lambda: room.read(run_id).step == 1)
    room.intend(run_id, "cancel")
    run = room.ended(run_id)
    assert (run.state, run.reason) == ("stopped", "Cancelled.")
    assert [job.stage for job in room.hub.state.jobs.jobs.values()] == ["CANCELED"]


def test_cancel_before_there_is_a_job_starts_none(room):
    run_id = room.submit()
    runs.change_state(room.db, run_id, "preflight", now=room.now)
    room.intend(run_id, "cancel")
    assert room.ended(run_id).state == "stopped"
    assert not room.hub.state.jobs.jobs


def test_stop_leaves_a_tag_and_cancels_only_what_does_not_listen(room):
    room.hub.state.jobs.instead = says(EVENTS[:3], "time.sleep(30)")
    run_id = room.submit()
    room.until(lambda: room.read(run_id).step == 1)
    room.intend(run_id, "stop")
    tags = room.hub.repo("ada/there-rows", "datasets")["tags"]
    room.until(lambda: f"{run_id}-1-stop" in tags)
    assert [job.stage for job in room.hub.state.jobs.jobs.values()] == ["RUNNING"]
    room.now += hf_jobs.STOP_S + 1
    run = room.ended(run_id)
    assert run.state == "stopped"
    assert "did not stop by itself" in run.reason
    assert f"{run_id}-1-stop" not in tags


@pytest.mark.parametrize("fault", [{}, {"status": 503, "times": 2}])
def test_a_wish_to_save_becomes_a_tag_whatever_happens_in_between(room, fault):
    room.hub.state.jobs.instead = says(EVENTS[:3], "time.sleep(30)")
    run_id = room.submit()
    room.until(lambda: room.read(run_id).step == 1)
    request = room.workspace.job(run_id).save_request
    if fault:
        room.hub.fail("/tag/", method="POST", **fault)
    request.touch()  # what the supervisor does with a wish
    room.restart()
    tags, tag = room.hub.repo("ada/there-rows", "datasets")["tags"], f"{run_id}-1-save"
    room.until(lambda: tag in tags, 2.0)
    room.until(lambda: not request.exists())
    assert [job.stage for job in room.hub.state.jobs.jobs.values()] == ["RUNNING"]
    room.intend(run_id, "cancel")
    room.ended(run_id)
    assert tag not in tags  # nobody was there to take it


def test_two_who_press_save_before_the_job_has_heard_of_it_get_one_checkpoint_and_a_later_third_another(room):
    room.hub.state.jobs.instead = says(EVENTS[:3], "time.sleep(60)")
    run_id = room.submit()
    room.until(lambda: room.read(run_id).step == 1)
    request, tag = room.workspace.job(run_id).save_request, f"{run_id}-1-save"
    tags = room.hub.repo("ada/there-rows", "datasets")["tags"]
    request.touch()
    room.until(lambda: tag in tags and not request.exists())
    pressed_at = room.now
    request.touch()
    room.until(lambda: not request.exists())
    assert room.now - pressed_at < 1.0
    del tags[tag]  # what the Job does with a wish that it grants
    for _ in range(30):
        room.now += 1.0
        room.jobs.step(room.now)
    assert tag not in tags
    request.touch()
    room.until(lambda: tag in tags)


def test_a_wish_to_save_that_comes_too_late_is_forgotten(room):
    room.hub.state.jobs.instead = says(EVENTS)
    run_id = room.submit()
    room.until(lambda: room.job(run_id) is not None)
    room.intend(run_id, "cancel")
    room.workspace.job(run_id).save_request.touch()
    room.ended(run_id)
    assert not room.workspace.job(run_id).save_request.exists()
    assert not [tag for tag in room.hub.repo("ada/there-rows", "datasets")["tags"] if "save" in tag]


def test_many_jobs_are_asked_of_less_often(room):
    room.hub.state.jobs.instead = says(EVENTS[:3], "time.sleep(60)")
    ids = [room.submit() for _ in range(6)]
    room.until(lambda: [room.read(run_id).state for run_id in ids].count("running") == 6)
    room.hub.state.requests.clear()
    for _ in range(180):
        room.now += 0.5
        room.jobs.step(room.now)
    assert 30 * 0.8 <= len(room.hub.asked("/api/jobs/ada/", "GET")) <= 66  # in 90 s, where 6 Jobs every 3 s are 180


def test_only_so_many_at_once(room):
    room.most = 2
    room.restart()
    room.hub.state.jobs.instead = says(EVENTS[:3], "time.sleep(30)")
    ids = [room.submit() for _ in range(3)]
    room.until(lambda: [room.read(run_id).state for run_id in ids].count("running") == 2)
    assert room.read(ids[2]).state == "queued"
    room.intend(ids[0], "cancel")
    room.until(lambda: room.read(ids[2]).state == "running")


def test_a_second_attempt_is_a_second_job(room):
    room.hub.state.jobs.instead = says([EVENTS[0], EVENTS[1], EVENTS[2], *END])
    run_id = room.submit()
    assert room.ended(run_id).state == "stopped"
    runs.change_state(room.db, run_id, "queued", now=room.now)
    room.hub.state.jobs.instead = says(EVENTS)
    assert room.ended(run_id).state == "succeeded"
    assert len(hub_jobs.list_jobs(room.db, run_id)) == 2
    assert metrics.read_curve(room.db, run_id, "loss").steps == [1, 2, 3]


def test_what_a_job_is_started_with(room):
    room.hub.state.jobs.instead = says(EVENTS)
    run_id = room.submit()
    room.ended(run_id)
    (job,) = room.hub.state.jobs.jobs.values()
    assert job.spec["spaceId"] == "ada/codex"
    assert job.spec["command"] == ["python", "-m", "codex_space", "job", "ada/there", run_id, "--attempt", "1"]
    assert job.spec["secrets"] == {"HF_TOKEN": "hf_write"}
    assert job.spec["environment"] == {"HF_ENDPOINT": room.hub.endpoint, "CODEX_SPACE_JOB_FLAVOR": "l4x1"}
    assert (job.spec["flavor"], job.spec["timeoutSeconds"]) == ("l4x1", 3600)
    files = room.hub.state.files("datasets", "ada/there-rows", run_id)
    assert {"recipe.yaml", "rows/train.parquet", "rows/prepared.json"} <= set(files)
    assert b"where" not in files["recipe.yaml"]


def test_the_recipe_of_a_job_names_no_path_of_this_machine():
    recipe = parse_recipe(RECIPE.replace("'sample:python-first-chat'", "/home/ada/secret-plans/rows.jsonl"))
    text = recipe_elsewhere(recipe)
    assert "secret-plans" not in text
    assert parse_recipe(text).launch.where == "local"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("hub: {repo_id: ada/there, keep_rows: true}\n", ""), "hub.repo_id"),
        (("keep_rows: true", "keep_rows: false"), "consent"),
        (("timeout: 1h", "timeout: forever"), "timeout"),
        (("timeout: 1h", "timeout: -1h"), "timeout"),
        (("timeout: 1h", "timeout: 0h"), "no time"),
        (("flavor: l4x1", "flavor: 'l4x1; rm'"), "flavor"),
        (("timeout: 1h", "namespace: a/b"), "namespace"),
        (("where: hf-jobs", "where: moon"), "local"),
    ],
)
def test_a_recipe_that_no_job_could_run_is_refused(change, said):
    with pytest.raises(RecipeError, match=said):
        parse_recipe(RECIPE.replace(*change))


def test_a_tokenizer_is_made_here():
    with pytest.raises(RecipeError, match="tokenizer run is made here"):
        parse_recipe("kind: tokenizer\ndatasets: [{path: 'builtin:python-stdlib'}]\nlaunch: {where: hf-jobs}\n")
