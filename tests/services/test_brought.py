"""A run's folder from elsewhere is taken up once, and goes on where it was."""

import time

import pytest

from codex_space.cli.main import main
from codex_space.core import durable
from codex_space.core.errors import CodexError, RecipeError, RunError
from codex_space.core.paths import MANIFEST
from codex_space.jobs.supervisor import Supervisor
from codex_space.services import brought, runs
from codex_space.store import runs as run_rows

RUN = "20261121-001530-sft-k3f9"
RECIPE = "kind: sft\nname: brought\nmodel: {model_name_or_path: fresh:tiny}\ndatasets: [{path: sample:x}]\nhub: {repo_id: ada/x}\n"


@pytest.fixture
def job(ctx):
    folder = ctx.workspace.job(RUN)
    folder.root.mkdir()
    folder.recipe.write_text(RECIPE)
    return folder


def test_it_is_queued_once(ctx, job):
    first = brought.take_up(ctx, RUN)
    assert (first.id, first.state, first.repo_id, first.name) == (RUN, "queued", "ada/x", "brought")
    assert brought.take_up(ctx, RUN).id == RUN
    assert len(runs.list_runs(ctx)) == 1


def test_one_that_was_stopped_goes_on_and_one_that_succeeded_stays(ctx, job):
    brought.take_up(ctx, RUN)
    run_rows.change_state(ctx.db, RUN, "stopped", now=1.0)
    brought.take_up(ctx, RUN)
    assert [wish.verb for wish in run_rows.take_wishes(ctx.db)] == ["resume"]
    for state in ("queued", "preflight", "running", "succeeded"):
        run_rows.change_state(ctx.db, RUN, state, now=2.0)
    assert brought.take_up(ctx, RUN).state == "succeeded"
    assert run_rows.take_wishes(ctx.db) == []


def test_a_worker_started_by_hand_goes_on_from_the_newest_checkpoint(ctx, job):
    assert brought.make_ready(ctx, RUN) == str(job.root)
    assert durable.read_json(job.launch)["resume_from_step"] == 0
    job.checkpoint(4).mkdir()
    (job.checkpoint(4) / MANIFEST).write_text("{}")
    job.stop_request.touch()
    brought.make_ready(ctx, RUN)
    facts = durable.read_json(job.launch)
    assert (facts["attempt"], facts["resume_from_step"]) == (2, 4)
    assert not job.stop_request.exists()


@pytest.mark.parametrize("run_id", [RUN, "../../etc", "", "20261121-001530-sft-k3f9/.."])
@pytest.mark.parametrize("verb", [brought.take_up, brought.make_ready])
def test_a_folder_that_is_not_here_is_named(ctx, run_id, verb):
    with pytest.raises(RunError):
        verb(ctx, run_id)


@pytest.mark.parametrize("text", ["", "kind: nothing", "kind: sft\n", "\x00", "[]"])
def test_a_damaged_recipe_is_refused(ctx, job, text):
    job.recipe.write_text(text)
    with pytest.raises((RecipeError, CodexError)):
        brought.take_up(ctx, RUN)
    assert runs.list_runs(ctx) == []


def test_the_command_stands_by_the_attempt_it_queued_not_by_the_end_before_it(workspace, monkeypatch):
    """A folder without a database is taken for a stopped run; read too early, that was told as the end, with 0."""
    folder = workspace.job(RUN)
    folder.root.mkdir()
    folder.recipe.write_text(RECIPE.replace("hub: {repo_id: ada/x}\n", ""))
    seen = []

    def follow(ctx, run_id, **_):
        seen.append(runs.show(ctx, run_id).state)
        if seen[0] not in run_rows.FINAL:
            runs.cancel(ctx, run_id)
            deadline = time.monotonic() + 60
            while runs.show(ctx, run_id).state not in run_rows.FINAL and time.monotonic() < deadline:
                time.sleep(0.05)
        return 0

    monkeypatch.setattr("codex_space.cli.runs.follow", follow)
    monkeypatch.setattr(Supervisor, "wake", lambda self: None)  # the owner sees the wish half a second later
    assert main(["runs", "take-up", RUN, "--workspace", str(workspace.root)]) == 0
    assert len(seen) == 1
    assert seen[0] not in run_rows.FINAL
