"""Each verb says the same to a person and, with --json, to a program; a mistake is one line and a code of 1."""

import os

import pytest

from codex_space.services import runs
from codex_space.store import checkpoints, hub_jobs, metrics
from codex_space.store import runs as run_rows
from tests.cli.conftest import RECIPE

NOBODY = "20261121-001530-sft-k3f9"


@pytest.fixture
def run(ctx):
    """A run that was stopped, with a curve and two checkpoints."""
    made = runs.submit(ctx, RECIPE)
    for state in ("preflight", "running", "stopping"):
        run_rows.change_state(ctx.db, made.id, state, now=10.0)
    run_rows.update_progress(ctx.db, made.id, step=4, max_steps=1200, phase="train")
    run_rows.change_state(ctx.db, made.id, "stopped", now=20.0, reason="You stopped it.")
    metrics.add_points(ctx.db, made.id, [("loss", step, 5.0 - step, float(step)) for step in (1, 2, 3, 4)])
    for step, upload in ((2, "uploaded"), (4, "failed")):
        checkpoints.add_checkpoint(
            ctx.db, made.id, step, created_at=1.0, size_bytes=2_500_000, metrics={"loss": 1.0}, upload=upload
        )
    checkpoints.set_upload(ctx.db, made.id, 4, "failed", error="the Hub said no")
    ctx.workspace.job(made.id).log.write_text("first\nsecond needle\nthird\n")
    return runs.show(ctx, made.id)


def test_runs_are_listed_newest_first(ctx, run, run_command):
    newer = runs.submit(ctx, RECIPE.replace("quiet", "louder"))
    said = run_command("runs", "list")
    assert [line.split()[0] for line in said.out.splitlines()] == [newer.id, run.id]
    assert said.out.splitlines()[1].split(maxsplit=3)[1:] == ["stopped", "4/1,200", "quiet  You stopped it."]
    told = run_command("runs", "list", "--json").json
    assert [(one["id"], one["state"]) for one in told] == [(newer.id, "queued"), (run.id, "stopped")]
    assert "recipe" not in told[0]


def test_one_run_is_shown_with_its_checkpoints_and_recipe(run, run_command):
    said = run_command("runs", "show", run.id)
    assert "state: stopped  step: 4/1200  You stopped it." in said.out
    assert "checkpoint step 2: 2.5 MB, Hub: uploaded" in said.out
    assert "checkpoint step 4: 2.5 MB, Hub: failed the Hub said no" in said.out
    assert said.out.endswith(run.recipe)
    told = run_command("runs", "show", "quiet", "--json").json
    assert (told["run"], told["status"], told["final_loss"]) == (run.id, "stopped", 1.0)


def test_the_end_of_a_log_and_what_is_searched_in_it(run, run_command):
    assert run_command("runs", "logs", run.id, "--lines", "2").out == "second needle\nthird\n"
    assert run_command("runs", "logs", run.id, "--search", "needle").out.strip().endswith("second needle")


def test_two_runs_are_compared_by_what_differs(ctx, run, run_command):
    other = runs.submit(ctx, RECIPE + "train: {learning_rate: 1.0e-3}\n")
    said = run_command("runs", "compare", run.id, other.id)
    assert "train.learning_rate" in said.out
    told = run_command("runs", "compare", run.id, other.id, "--json").json
    assert {one["run"] for one in told["rows"]} == {run.id, other.id}
    assert told["keys"] == ["train.learning_rate"]


def test_a_run_is_renamed_stopped_and_deleted(ctx, run, run_command):
    assert run_command("runs", "rename", run.id, "a better name").code == 0
    assert runs.show(ctx, run.id).name == "a better name"
    queued = runs.submit(ctx, RECIPE)
    for verb in ("save", "stop", "cancel"):
        run_command("runs", verb, queued.id)
    assert {wish.run_id for wish in run_rows.take_wishes(ctx.db)} == {queued.id}
    assert run_command("runs", "delete", queued.id).code == 1, "it has not ended"
    assert run_command("runs", "delete", run.id).code == 0
    assert [one.id for one in runs.list_runs(ctx)] == [queued.id]
    deeds = run_command("audit").out
    assert "a better name" in deeds
    assert deeds.index("rename") < deeds.index("delete")
    assert "rename" in run_command("audit", "--json").out


@pytest.mark.parametrize(
    "words",
    [
        ["runs", "show", NOBODY], ["runs", "logs", NOBODY], ["runs", "stop", NOBODY], ["runs", "rename", NOBODY, "x"],
        ["runs", "delete", NOBODY], ["runs", "compare", NOBODY, NOBODY], ["runs", "fetch", NOBODY, "2"],
        ["runs", "resume", NOBODY], ["runs", "take-up", NOBODY], ["runs", "take-up", "--ready", "../../etc"],
        ["jobs", "logs", NOBODY], ["jobs", "cancel", NOBODY], ["data", "delete", "nothing"], ["data", "inspect", "/nowhere.jsonl"],
        ["data", "import", "/nowhere.jsonl"], ["export", "run:" + NOBODY], ["export", "fresh:tiny", "--gguf", "Q9_9"],
        ["evaluate", "run:" + NOBODY], ["train", "sft/tiny-cpu", "train.lerning_rate=1"], ["train", "no/such-recipe"],
        ["check", "sft/tiny-cpu", "datasets.0.path="], ["workspace", "restore", "/nowhere.tar.zst"],
        ["workspace", "clean", "everything"],
    ],
    ids=lambda words: " ".join(words[:3]),
)  # fmt: skip
def test_a_mistake_is_one_line_and_a_code_of_1(run_command, words):
    said = run_command(*words)
    assert said.code == 1
    problems = (said.err or said.out).strip()
    assert problems
    assert said.err.count("\n") <= 1


def test_a_file_is_inspected_imported_listed_and_deleted(ctx, run_command, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "a", "reply": "b"}\n' * 1200)
    columns = ("--column", "prompt=question", "--column", "completion=reply")
    said = run_command("data", "inspect", str(path), *columns)
    assert (said.code, said.out) == (0, f"{path}: 1,200 rows, format prompt_completion\n")
    assert run_command("data", "inspect", str(path), "--column", "prompt").code == 1
    imported = run_command("data", "import", os.path.relpath(path), "--name", "mine", *columns)
    assert imported.out == "dataset:mine  1,200 rows  prompt_completion\n"
    assert run_command("data", "list").out == imported.out
    assert run_command("data", "list", "--json").json[0]["num_rows"] == 1200
    assert run_command("data", "delete", "mine").code == 0
    assert run_command("data", "list", "--json").json == []


def test_a_broken_file_is_told_by_line(run_command, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n' * 6 + "not json\n")
    said = run_command("data", "inspect", str(path))
    assert said.code == 1
    assert "line 7" in said.out
    assert run_command("data", "inspect", str(path), "--json").json["problems"][0]["line"] == 7


def test_jobs_are_listed_with_what_they_cost(ctx, run_command):
    assert run_command("jobs", "list").out == ""
    run = run_rows.insert_run(
        ctx.db, id=NOBODY, name="rented", kind="sft", recipe=RECIPE, repo_id="ada/x", now=1.0, place="hf-jobs"
    )
    hub_jobs.add_job(ctx.db, run.id, 1, flavor="l4x1", timeout_s=60.0, now=1.0, log_offset=0)
    hub_jobs.update_job(ctx.db, run.id, 1, stage="RUNNING", running_s=1800.0, usd_per_hour=0.8)
    said = run_command("jobs", "list").out.split()
    assert said == [NOBODY, "queued", "l4x1", "RUNNING", "1800", "s", "$0.40", "rented"]
    assert run_command("jobs", "list", "--json").json[0]["usd"] == 0.4


def test_the_disk_is_told_and_nothing_goes_unasked(run, run_command):
    said = run_command("workspace", "disk")
    assert "together" in said.out
    told = run_command("workspace", "disk", "--json").json
    assert told["free_bytes"] > 0
    assert set(told["may_go"]) == {"checkpoints", "newest", "scratch", "caches", "models"}
    assert run_command("workspace", "clean", "--dry-run").code == 0
    assert run_command("workspace", "clean", "--dry-run", "--json").json["removed"] == []


def test_a_backup_is_restored_elsewhere_and_a_database_made_again(ctx, run, run_command, tmp_path):
    archive = tmp_path / "kept.tar.zst"
    assert run_command("workspace", "backup", str(archive), "--json").json["runs"] == 1
    assert "1 runs" in run_command("workspace", "backup", str(tmp_path / "again.tar.zst")).out
    said = run_command("workspace", "restore", str(archive))
    assert said.code == 1, "a workspace that holds something is left alone"
    ctx.db.close()
    assert "1 runs brought back" in run_command("workspace", "rebuild").out


def test_a_recipe_is_checked_and_told_as_a_command(run_command):
    said = run_command("check", "sft/tiny-cpu", "datasets.0.path=dataset:nowhere")
    assert said.code == 1
    assert [line[:2] for line in said.out.splitlines()].count("NO") == 1
    told = run_command("check", "sft/tiny-cpu", "datasets.0.path=dataset:nowhere", "--json").json
    assert [line["label"] for line in told if line["ok"] is False] == ["Data"]
    said = run_command("show-command", "sft/tiny-cpu", "train.learning_rate=2e-3")
    assert said.out.strip() == "codex-space train sft/tiny-cpu train.learning_rate=0.002"
