"""Runs on Hugging Face Jobs: the test Hub really executes what a Job is started with."""

import hashlib
import itertools
import os
import subprocess
import sys
import time

import pytest

from codex_space.core.errors import HubAuthError, HubNotFoundError
from codex_space.core.paths import JobDir
from codex_space.core.settings import read_settings
from codex_space.core.sweep import expand
from codex_space.hub.fetch import rows_repo
from codex_space.hub.jobs import SAVE, STOP, asking_tag
from codex_space.services import jobs, runs
from codex_space.services.context import open_context
from codex_space.store import evaluations, metrics
from codex_space.store.runs import FINAL
from tests.e2e.test_hub_runs import RECIPE, REPO, command

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]

ON_JOBS = RECIPE.replace("launch: {", "launch: {where: hf-jobs, flavor: l4x1, ")
TO_HUB = "hub: {repo_id: ada/model, keep_rows: true}\n"


@pytest.fixture
def control_room(hub, tmp_path):
    """Open and close owners of one workspace, as restarts do."""
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "CODEX_SPACE_HOME": str(tmp_path / "control"),
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": "hf_write",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "CODEX_SPACE_JOB_IMAGE": "hf.co/spaces/ada/codex",
    }
    opened = []

    def open_owner(**more):
        while opened:
            opened.pop().close()
        opened.append(open_context(read_settings({**environ, **more}), time.time, own=True))
        return opened[-1]

    yield open_owner
    for each in opened:
        each.close()


def until(condition, timeout_s=240.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def until_seen(ctx, run_id, condition):
    """Wait for something that a live run shows; its end comes too early."""

    def is_seen():
        run = runs.show(ctx, run_id)
        assert run.state not in FINAL, run
        return condition(run)

    until(is_seen)


def ended(ctx, run_id):
    until(lambda: runs.show(ctx, run_id).state in FINAL)
    return runs.show(ctx, run_id)


def weights_on_hub(hub, repo_id, tag):
    return hashlib.sha256(hub.state.files("models", repo_id, tag)["adapter_model.safetensors"]).hexdigest()


def curve(ctx, run_id):
    found = metrics.read_curve(ctx.db, run_id, "loss")
    return dict(zip(found.steps, found.values, strict=True))


def test_a_job_trains_what_this_machine_would_and_survives_a_restart_of_its_control_room(hub, tmp_path, control_room):
    local = tmp_path / "local"
    done = subprocess.run(
        command("train", "-", "--json", workspace=local), input=RECIPE, text=True, capture_output=True, cwd=REPO
    )
    assert done.returncode == 0, done.stderr
    (local_run,) = (local / "runs").iterdir()
    ctx = control_room()
    run = runs.submit(ctx, ON_JOBS + TO_HUB)
    until_seen(ctx, run.id, lambda run: curve(ctx, run.id))  # live, while it trains
    assert runs.show(ctx, run.id).state == "running"
    ctx = control_room()
    run = ended(ctx, run.id)
    assert (run.state, run.step) == ("succeeded", 24), run.reason
    there = [(row.step, row.upload, row.on_disk) for row in runs.checkpoints(ctx, run.id)]
    assert there == [(step, "uploaded", False) for step in (6, 12, 18, 24)]
    folder = JobDir(local_run).checkpoint(24)
    ours = hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()
    assert weights_on_hub(hub, "ada/model", "step-24") == ours
    assert curve(ctx, run.id) == curve_of_events(local_run)
    (job,) = jobs.list_jobs(ctx)
    assert job["stage"] == "COMPLETED"
    assert job["usd"] == pytest.approx(0.9 * job["seconds"] / 3600, abs=1e-4)
    assert len(hub.state.jobs.jobs) == 1
    assert_no_token_but_in_secrets(hub, tmp_path)


def curve_of_events(folder):
    from codex_space.core.events import current_events, read_events

    events = current_events(read_events(JobDir(folder).events)[0])
    return {e["step"]: e["metrics"]["loss"] for e in events if e["e"] == "log" and "loss" in e["metrics"]}


def assert_no_token_but_in_secrets(hub, tmp_path):
    for job in hub.state.jobs.jobs.values():
        spec = {key: value for key, value in job.spec.items() if key != "secrets"}
        assert "hf_write" not in str(spec)
        assert job.spec["secrets"] == {"HF_TOKEN": "hf_write"}
        assert not [line for line, _ in job.lines if "hf_write" in line]
        for path in job.folder.rglob("*"):
            assert not path.is_file() or b"hf_write" not in path.read_bytes(), path
    for path in (tmp_path / "control").rglob("*"):
        assert not path.is_file() or b"hf_write" not in path.read_bytes(), path


LONG = ON_JOBS.replace("max_steps: 24", "max_steps: 4000").replace("every_steps: 6", "every_steps: 10")


def test_a_cancelled_job_ends_at_once_and_what_it_pushed_is_gone_on_from(hub, control_room):
    ctx = control_room()
    run = runs.submit(ctx, LONG + TO_HUB)
    until_seen(ctx, run.id, lambda run: any(row.upload == "uploaded" for row in runs.checkpoints(ctx, run.id)))
    hub.state.jobs.stubborn = True  # it dies without a word, its note in the Hub still held
    runs.cancel(ctx, run.id)
    run = ended(ctx, run.id)
    assert run.state == "stopped"
    assert "Cancelled. It can go on from step" in run.reason
    until(lambda: [job.stage for job in hub.state.jobs.jobs.values()] == ["CANCELED"], 20)
    kept = runs.resume_point(ctx, run.id)
    runs.resume(ctx, run.id)
    until(lambda: runs.show(ctx, run.id).state not in FINAL)
    until_seen(ctx, run.id, lambda run: run.state == "running" and run.step > kept)
    assert len(jobs.list_jobs(ctx)) == 2
    runs.stop(ctx, run.id)  # this time it saves first
    run = ended(ctx, run.id)
    assert run.state == "stopped"
    assert "Stopped as asked" in run.reason
    last = runs.checkpoints(ctx, run.id)[-1]
    assert (last.step, last.upload) == (run.step, "uploaded")
    assert run.step > kept
    assert not [tag for tag in hub.repo(rows_repo("ada/model"), "datasets")["tags"] if "stop" in tag]


def test_a_job_saves_when_asked_and_listens_to_nobody_else(hub, control_room):
    ctx, rows = control_room(), rows_repo("ada/model")
    recipe = ON_JOBS.replace("max_steps: 24", "max_steps: 4000").replace("every_steps: 6", "every_steps: 4000")
    run = runs.submit(ctx, recipe + TO_HUB)
    until_seen(ctx, run.id, lambda run: run.step > 2)
    head = hub.repo(rows, "datasets")["heads"]["main"]
    for is_private, tokens in ((True, ("hf_other", "hf_read", None)), (False, ("hf_other", "hf_read"))):
        hub.repo(rows, "datasets")["private"] = is_private
        for token, what in itertools.product(tokens, (STOP, SAVE)):
            with pytest.raises((HubAuthError, HubNotFoundError)):
                hub.client(token).set_tag(rows, asking_tag(run.id, 1, what), head, "dataset")
    hub.repo(rows, "datasets")["private"] = True
    own = hub.state.make_repo("datasets", "bob/model-rows")  # what he may write is of his own
    for what in (STOP, SAVE):
        hub.client("hf_other").set_tag("bob/model-rows", asking_tag(run.id, 1, what), own["heads"]["main"], "dataset")
    looks = len(hub.asked(f"/api/datasets/{rows}/refs", "GET"))
    until_seen(ctx, run.id, lambda _: len(hub.asked(f"/api/datasets/{rows}/refs", "GET")) > looks + 1)
    assert not runs.checkpoints(ctx, run.id)
    step = runs.show(ctx, run.id).step
    for uploads in (["uploaded"], ["uploaded", "uploaded"]):
        runs.save_now(ctx, run.id)
        until_seen(ctx, run.id, lambda _, there=uploads: [row.upload for row in runs.checkpoints(ctx, run.id)] == there)
        until(lambda: asking_tag(run.id, 1, SAVE) not in hub.repo(rows, "datasets")["tags"])
    first, second = (row.step for row in runs.checkpoints(ctx, run.id))
    assert step < first < second < 4000
    assert runs.show(ctx, run.id).state == "running"
    runs.cancel(ctx, run.id)
    assert ended(ctx, run.id).state == "stopped"
    assert {f"step-{first}", f"step-{second}"} <= set(hub.repo("ada/model")["tags"])


def test_a_sweep_trains_in_parallel_beside_a_run_of_this_machine(hub, control_room):
    ctx = control_room()
    texts = expand(LONG + TO_HUB + "sweep: {train.learning_rate: [1.0e-3, 1.0e-4]}\n")
    queued = [runs.submit(ctx, text) for text in texts]
    here = runs.submit(ctx, LONG.replace("where: hf-jobs, flavor: l4x1, ", ""))
    all_of_them = [*queued, here]
    until(lambda: {runs.show(ctx, run.id).state for run in all_of_them} == {"running"})
    assert [run.repo_id for run in queued] == ["ada/model-1", "ada/model-2"]
    for run in all_of_them:
        runs.cancel(ctx, run.id)
    assert {ended(ctx, run.id).state for run in all_of_them} == {"stopped"}


def test_submit_leaves_and_another_command_takes_it_up(hub, tmp_path):
    environ = {
        **os.environ,
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": "hf_write",
        "CODEX_SPACE_JOB_IMAGE": "hf.co/spaces/ada/codex",
    }

    def codex_space(*args, **given):
        line = [sys.executable, "-m", "codex_space", *args, "--workspace", str(tmp_path)]
        return subprocess.run(line, env=environ, cwd=REPO, capture_output=True, text=True, timeout=300, **given)

    done = codex_space("jobs", "submit", "-", input=ON_JOBS + TO_HUB)
    assert done.returncode == 0, done.stderr
    run_id, state, flavor, url = done.stdout.split()[:4]
    assert (state, flavor) == ("preflight", "l4x1")
    assert url.startswith(f"{hub.endpoint}/jobs/ada/")
    followed = codex_space("jobs", "logs", run_id, "--follow")
    assert followed.returncode == 0, followed.stderr
    assert followed.stdout.strip()
    listed = codex_space("jobs", "list")
    assert "succeeded" in listed.stdout
    assert "COMPLETED" in listed.stdout


def test_scores_of_a_job_come_home(hub, control_room):
    ctx = control_room()
    run = runs.submit(
        ctx, ON_JOBS + TO_HUB + "evaluate: {benchmarks: [first-steps], every_steps: 12, limit: 3, max_new_tokens: 16}\n"
    )
    run = ended(ctx, run.id)
    assert run.state == "succeeded", run.reason
    scored = [(row.step, row.state, len(row.scores)) for row in evaluations.of_writer(ctx.db, run.id)]
    assert [step for step, *_ in scored] == [0, 12, 24]
    assert {(state, bool(number)) for _, state, number in scored} <= {("done", True), ("failed", False)}
    assert any(state == "done" for _, state, _ in scored)
