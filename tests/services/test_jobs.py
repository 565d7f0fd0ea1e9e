"""What is refused before a Job costs anything, and what is told of those there are."""

import json
from pathlib import Path

import pytest

from codex_space.core.errors import CodexError, ModelError, RunError
from codex_space.core.paths import MANIFEST
from codex_space.core.recipe import parse_recipe, render_recipe
from codex_space.core.settings import read_settings
from codex_space.hub.jobs import JobsHub
from codex_space.hub.push import push_checkpoint
from codex_space.jobs import hf_start, parents, references
from codex_space.jobs.launch import launch_facts
from codex_space.jobs.parents import find_on_hub
from codex_space.services import checks, job_entry, jobs
from codex_space.services.context import open_context
from codex_space.store import checkpoints, hub_jobs
from codex_space.store import runs as run_rows
from tests.fakes.checkpoints import TOKENIZER_ID, write_checkpoint, write_tokenizer

RECIPE = """
kind: sft
model: {model_name_or_path: 'fresh:tiny'}
datasets: [{path: 'sample:python-first-chat'}]
hub: {repo_id: ada/there, keep_rows: true}
launch: {where: hf-jobs, flavor: l4x1}
"""
PRETRAIN = """
kind: pretrain
architecture: tiny
tokenizer: 'TOKENIZER'
datasets: [{path: ROWS}]
hub: {repo_id: ada/there, keep_rows: true}
launch: {where: hf-jobs, flavor: l4x1}
"""


@pytest.fixture
def room(hub, tmp_path):
    environ = {
        "CODEX_SPACE_HOME": str(tmp_path), "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_write",
        "CODEX_SPACE_JOB_IMAGE": "hf.co/spaces/ada/codex",
    }  # fmt: skip
    context = open_context(read_settings(environ), lambda: 1_700_000_000.0, own=False)
    yield context
    context.close()


def insert(ctx, run_id="20261121-001530-sft-k3f9", **given):
    values = {"id": run_id, "name": "one", "kind": "sft", "recipe": RECIPE, "repo_id": "ada/there", "now": 1.0}
    return run_rows.insert_run(ctx.db, **{**values, **given})


def test_a_recipe_that_a_job_can_train_passes(room):
    checks.require_job(room, parse_recipe(RECIPE))
    (line,) = [line for line in checks.readiness(room, RECIPE) if line.label == "Job"]
    assert (line.ok, line.detail) == (True, "l4x1 of Hugging Face for at most 4h, paid by your account")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("'fresh:tiny'", "'run:20261121-001530-sft-k3f9'"), "20261121-001530-sft-k3f9"),
        (("'fresh:tiny'", "'/tmp'"), "on this one alone"),
        (("l4x1", "l4x9"), "l4x1"),
        (("l4x1", "l4x1, num_processes: 4"), "has 1"),
    ],
)
def test_what_would_only_fail_there_is_refused_here(room, change, said):
    with pytest.raises(CodexError, match=said):
        checks.require_job(room, parse_recipe(RECIPE.replace(*change)))


@pytest.mark.parametrize(
    ("state", "repo_id", "upload", "ref", "said", "cure"),
    [
        ("running", "ada/base", "uploaded", "", "has not ended", "@step-10"),
        ("succeeded", "ada/base", "queued", "", "its upload waits", "Train this one here"),
        ("succeeded", "ada/base", "uploading", "@step-10", "is being uploaded", "Train this one here"),
        ("succeeded", "ada/base", "failed", "", r"has failed \(403: no\)", "Train this one here"),
        ("succeeded", None, "none", "", "without hub.repo_id", "Train this one here"),
        ("succeeded", "ada/base", "uploaded", "@step-11", "no such checkpoint", "@step-10"),
    ],
)
def test_a_base_that_no_job_could_read_is_refused_with_a_cure(room, state, repo_id, upload, ref, said, cure):
    parent = insert(room, repo_id=repo_id)
    for each in ("preflight", "running", state):
        if run_rows.read_run(room.db, parent.id).state != each:
            run_rows.change_state(room.db, parent.id, each, now=2.0)
    checkpoints.add_checkpoint(room.db, parent.id, 10, created_at=2.0, size_bytes=1, metrics={}, upload="none")
    error, commit = ("403: no" if upload == "failed" else ""), ("c" * 40 if upload == "uploaded" else None)
    checkpoints.set_upload(room.db, parent.id, 10, upload, error=error, commit_id=commit)
    recipe = RECIPE.replace("'fresh:tiny'", f"'run:{parent.id}{ref}'").replace("ada/there", "ada/other")
    with pytest.raises(ModelError, match=said) as refused:
        checks.require_job(room, parse_recipe(recipe))
    assert cure in refused.value.cure


@pytest.mark.parametrize("ref", ["", "@step-0"])
def test_a_job_finds_the_tokenizer_beside_its_rows(room, hub, tmp_path, ref):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a b c"}\n' * 9)
    recipe = parse_recipe(PRETRAIN.replace("TOKENIZER", f"run:{TOKENIZER_ID}{ref}").replace("ROWS", str(rows)))
    insert(room, TOKENIZER_ID, kind="tokenizer", repo_id=None)
    with pytest.raises(ModelError, match="no complete checkpoint on this machine"):
        checks.require_job(room, recipe)
    words = write_tokenizer(room.workspace.job(TOKENIZER_ID).checkpoint(0))
    checkpoints.add_checkpoint(room.db, TOKENIZER_ID, 0, created_at=2.0, size_bytes=1, metrics={}, upload="none")
    checks.require_job(room, recipe)
    pinned = references.pinned(recipe, parents.pin(room.db, recipe))
    assert f"run:{TOKENIZER_ID}@step-0" in render_recipe(pinned)
    run = insert(room, recipe=render_recipe(pinned), kind="pretrain", place="hf-jobs")
    job = room.workspace.job(run.id)
    job.root.mkdir()
    hf_start.send_rows(JobsHub("hf_write", endpoint=hub.endpoint), room.db, room.workspace, run)
    environ = {"CODEX_SPACE_HOME": str(tmp_path / "there"), "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_write"}
    there = open_context(read_settings(environ), lambda: 1_700_000_000.0, own=False)
    try:
        taken = parse_recipe(job_entry.take_up(there, "ada/there", run.id).recipe)
        facts = launch_facts(taken, there.workspace, there.workspace.job(run.id), attempt=1)
    finally:
        there.close()
    brought = Path(facts["references"][f"run:{TOKENIZER_ID}@step-0"])
    assert brought.is_relative_to(tmp_path / "there")
    assert {path.name: path.read_bytes() for path in brought.iterdir()} == {
        path.name: path.read_bytes() for path in words.iterdir()
    }


def test_two_runs_never_push_to_one_repository_at_once(room):
    insert(room, place="hf-jobs")
    with pytest.raises(RunError, match="pushes to ada/there too"):
        checks.require_job(room, parse_recipe(RECIPE))


def test_without_an_image_the_cure_is_named(hub, ctx):
    with pytest.raises(CodexError, match="CODEX_SPACE_JOB_IMAGE"):
        checks.require_job(ctx, parse_recipe(RECIPE))


def test_a_hub_that_does_not_answer_forbids_nothing(room, hub):
    hub.fail("/api/jobs/hardware", method="GET", status=503)
    checks.require_job(room, parse_recipe(RECIPE))


def test_costs_add_up_over_the_attempts_and_an_unknown_one_makes_the_sum_unknown(room):
    run = insert(room, place="hf-jobs")
    assert jobs.brief(room, run)["usd"] is None
    for attempt in (1, 2):
        hub_jobs.add_job(room.db, run.id, attempt, flavor="l4x1", timeout_s=60, now=attempt, log_offset=0)
        hub_jobs.update_job(room.db, run.id, attempt, usd_per_hour=0.9, running_s=400.0, stage="COMPLETED", job_id="j")
    told = jobs.brief(room, run)
    assert (told["usd"], told["seconds"]) == (0.2, 800.0)
    hub_jobs.update_job(room.db, run.id, 2, usd_per_hour=None)
    assert jobs.brief(room, run)["usd"] is None
    assert [row["attempt"] for row in jobs.list_jobs(room)] == [2, 1]


def test_a_run_of_this_machine_has_no_job(room):
    run = insert(room)
    assert jobs.brief(room, run) is None
    with pytest.raises(RunError, match="trains on this machine"):
        jobs.require_run_on_jobs(room, run.id)


def test_a_column_that_is_not_there_is_never_written(room):
    with pytest.raises(ValueError, match="no column"):
        hub_jobs.update_job(room.db, "x", 1, **{"stage = 'x' --": "y"})


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5"])
def test_a_number_of_jobs_that_is_none_is_refused(text):
    with pytest.raises(CodexError, match="CODEX_SPACE_MAX_JOBS"):
        read_settings({"CODEX_SPACE_MAX_JOBS": text})


def test_a_checkpoint_that_names_its_own_run_as_base_is_asked_for_once(room, hub, tmp_path):
    """A worker wrote that, and the Hub keeps it: it must not be followed for ever."""
    parent = insert(room, repo_id="ada/base")
    folder = write_checkpoint(tmp_path / "step-10", 10, run_id=parent.id)
    told = json.loads((folder / MANIFEST).read_text()) | {"base_model": f"run:{parent.id}"}
    (folder / MANIFEST).write_text(json.dumps(told))
    hub.client().make_repo("ada/base", private=True)
    commit = push_checkpoint(hub.client(), folder, repo_id="ada/base", card="#", recipe_text=RECIPE, with_resume=True)
    for state in ("preflight", "running", "succeeded"):
        run_rows.change_state(room.db, parent.id, state, now=2.0)
    checkpoints.add_checkpoint(room.db, parent.id, 10, created_at=2.0, size_bytes=1, metrics={}, upload="none")
    checkpoints.set_upload(room.db, parent.id, 10, "uploaded", commit_id=commit)
    recipe = parse_recipe(RECIPE.replace("'fresh:tiny'", f"'run:{parent.id}'").replace("ada/there", "ada/other"))
    assert [(one.run_id, one.step) for one in find_on_hub(room.db, hub.client(), recipe)] == [(parent.id, 10)]
