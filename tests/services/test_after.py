"""The export after a training: queued once whatever dies in between, of the right checkpoint, and never silently not."""

import dataclasses
import json

import pytest

from codex_space.core.errors import HubBusyError, HubError, ModelError
from codex_space.core.presets import read_recipe_text
from codex_space.core.recipe import parse_recipe, render_recipe
from codex_space.services import after, checks, export_plan, runs
from codex_space.services.after import BUSY_WAIT_S, After, read
from codex_space.services.commands import command_line
from codex_space.services.context import Context
from codex_space.services.rebuild import rebuild
from codex_space.services.summary import summarize
from codex_space.store import checkpoints as checkpoint_rows
from codex_space.store import evaluations
from codex_space.store import runs as run_rows
from codex_space.store.db import Database
from tests.fakes.checkpoints import write_checkpoint

RECIPE = """
kind: sft
name: one
model: {model_name_or_path: fresh:tiny}
lora: {r: 4}
datasets: [{path: sample:python-first-chat}]
after: [export]
export: {gguf: [Q8_0, F16], system: Be brief.}
"""


@pytest.fixture(autouse=True)
def tools(monkeypatch, tmp_path):
    """llama.cpp is there, on any machine; nothing is exported here."""
    there = {"path": tmp_path}
    monkeypatch.setattr(after, "find_converter", lambda: there["path"])
    monkeypatch.setattr(export_plan, "find_converter", lambda: there["path"])
    monkeypatch.setattr(checks, "require_converter", lambda: tmp_path)
    return there


def train(ctx, text=RECIPE, state="succeeded", losses=((10, 2.0), (20, 1.0), (30, 1.5))):
    run = runs.submit(ctx, text)
    end(ctx, run, state, losses)
    return run


def end(ctx, run, state, losses=()):
    for step, loss in losses:
        write_checkpoint(ctx.workspace.job(run.id).checkpoint(step), step, run_id=run.id)
        checkpoint_rows.add_checkpoint(
            ctx.db, run.id, step, created_at=1.0, size_bytes=1, metrics={"eval_loss": loss} if loss else {}
        )
    for each in ("preflight", "running", state):
        run_rows.change_state(ctx.db, run.id, each, now=ctx.clock())


def exports_of(ctx):
    return [run for run in runs.list_runs(ctx, limit=100) if run.kind == "export"]


def test_a_run_that_succeeded_is_exported_once_with_what_its_recipe_says(ctx):
    run, owner = train(ctx), After(ctx)
    for now in (1.0, 2.0, 3.0):
        owner.step(now)
    After(ctx).step(4.0)
    (export,) = exports_of(ctx)
    recipe = parse_recipe(export.recipe)
    assert recipe.model.model_name_or_path == f"run:{run.id}@step-20", "the lowest eval_loss"
    assert (recipe.gguf, recipe.system, recipe.hub) == (["Q8_0", "F16"], "Be brief.", None)
    assert (export.state, export.name) == ("queued", "one")
    (told,) = summarize(ctx, run.id)["after"]
    assert (told["state"], told["run"], told["types"]) == ("queued", export.id, ["Q8_0", "F16"])


@pytest.mark.parametrize("state", ["failed", "stopped", "lost"])
def test_a_run_that_did_not_succeed_is_exported_only_once_it_has(ctx, state):
    run, owner = train(ctx, state=state), After(ctx)
    owner.step(1.0)
    assert exports_of(ctx) == []
    assert read(ctx, runs.show(ctx, run.id))[0]["reason"] == "It comes once the run has succeeded."
    run_rows.change_state(ctx.db, run.id, "queued", now=2.0)  # resumed
    owner.step(2.0)
    assert exports_of(ctx) == []
    end(ctx, run, "succeeded")
    owner.step(3.0)
    After(ctx).step(4.0)
    assert len(exports_of(ctx)) == 1


def test_an_owner_that_dies_before_the_queuing_leaves_it_to_the_next(ctx):
    After(ctx).step(1.0)
    train(ctx)
    After(ctx).step(2.0)
    assert len(exports_of(ctx)) == 1


def test_an_owner_that_dies_between_queuing_and_noting_does_not_make_two(ctx, monkeypatch):
    run = train(ctx)

    def die(path, value):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(after.durable, "write_json", die)
        with pytest.raises(KeyboardInterrupt):
            After(ctx).step(1.0)
    (export,) = exports_of(ctx)
    assert not ctx.workspace.job(run.id).after.exists()
    After(ctx).step(2.0)
    assert [one.id for one in exports_of(ctx)] == [export.id]
    assert json.loads(ctx.workspace.job(run.id).after.read_text()) == {"run": export.id}


def test_an_export_that_a_person_deleted_does_not_come_back(ctx):
    run = train(ctx)
    After(ctx).step(1.0)
    (export,) = exports_of(ctx)
    run_rows.change_state(ctx.db, export.id, "stopped", now=2.0)
    runs.delete(ctx, export.id)
    After(ctx).step(3.0)
    assert exports_of(ctx) == []
    assert read(ctx, runs.show(ctx, run.id))[0]["state"] == "deleted"


def test_a_database_made_again_does_not_export_again(ctx, tmp_path):
    from codex_space.jobs.record import write_record

    run = train(ctx)
    After(ctx).step(1.0)
    for one in runs.list_runs(ctx):
        write_record(ctx.workspace.job(one.id), one)
    db = Database.open(tmp_path / "again.db")
    rebuild(db, ctx.workspace, ctx.hub, 5.0)
    again = Context(ctx.settings, ctx.workspace, db, ctx.clock)
    assert runs.show(again, run.id).state == "succeeded"
    After(again).step(6.0)
    assert len(exports_of(again)) == 1
    db.close()


@pytest.mark.parametrize(
    ("change", "losses", "step"),
    [
        ("", ((10, 2.0), (20, 1.0), (30, 1.5)), 20),
        ("checkpoint: last, ", ((10, 2.0), (20, 1.0), (30, 1.5)), 30),
        ("", ((10, None), (30, None)), 30),  # nothing says which is best
        ("", ((10, 1.0), (20, 1.0)), 10),  # of equals the first, as the worker keeps it
    ],
)
def test_the_checkpoint_is_the_one_the_recipe_means(ctx, change, losses, step):
    run = train(ctx, RECIPE.replace("export: {", f"export: {{{change}"), losses=losses)
    After(ctx).step(1.0)
    assert parse_recipe(exports_of(ctx)[0].recipe).model.model_name_or_path == f"run:{run.id}@step-{step}"


def test_where_pass_rates_choose_the_best_it_waits_for_their_grading(ctx):
    text = RECIPE + "evaluate: {benchmarks: [first-steps]}\ncheckpoints: {metric: pass@1 first-steps}\n"
    run, owner = train(ctx, text), After(ctx)
    for step in (10, 30):
        evaluations.start(
            ctx.db, run.id, step, "first-steps", target=(run.id, step), num_samples=2, protocol="p", now=1.0
        )
    finish(ctx, run, 10, 0.5)
    owner.step(1.0)
    assert exports_of(ctx) == []
    assert read(ctx, runs.show(ctx, run.id))[0]["state"] == "waiting"
    finish(ctx, run, 30, 0.2)
    owner.step(2.0)
    assert parse_recipe(exports_of(ctx)[0].recipe).model.model_name_or_path == f"run:{run.id}@step-10"


def finish(ctx, run, step, value):
    row = evaluations.read_evaluation(ctx.db, run.id, step, "first-steps")
    assert row
    evaluations.finish(ctx.db, row, [{"name": "first-steps", "value": value, "low": 0, "high": 1}])


def test_without_llama_cpp_it_waits_and_says_for_what(ctx, tools, tmp_path):
    tools["path"] = None
    run, owner = train(ctx), After(ctx)
    owner.step(1.0)
    told = read(ctx, runs.show(ctx, run.id))[0]
    assert (told["state"], told["reason"]) == ("waiting", after.NO_TOOLS)
    tools["path"] = tmp_path
    After(ctx).step(2.0)
    assert read(ctx, runs.show(ctx, run.id))[0]["state"] == "queued"


def test_a_busy_hub_is_asked_again_and_a_refusal_is_told_once(ctx, monkeypatch):
    run, owner, asked = train(ctx), After(ctx), []

    def refuse(error):
        def submit(*given, **key):
            asked.append(error)
            raise error

        monkeypatch.setattr(after.runs, "submit", submit)

    refuse(HubBusyError("the Hub answers 503", where="me/one-GGUF"))
    for now in (1.0, 2.0, 1.0 + BUSY_WAIT_S):
        owner.step(now)
    assert len(asked) == 2, "not more often than every half minute"
    assert "503" in read(ctx, runs.show(ctx, run.id))[0]["reason"]
    refuse(HubError("no right to write", where="me/one-GGUF"))
    for now in (100.0, 200.0):
        owner.step(now)
    After(ctx).step(300.0)
    assert len(asked) == 3
    told = read(ctx, runs.show(ctx, run.id))[0]
    assert (told["state"], "no right to write" in told["reason"]) == ("failed", True)


def test_a_run_whose_checkpoints_are_gone_says_so(ctx):
    run = train(ctx, losses=())
    After(ctx).step(1.0)
    told = read(ctx, runs.show(ctx, run.id))[0]
    assert told["state"] == "failed"
    assert after.NO_CHECKPOINT in told["reason"]


def test_a_damaged_note_is_no_end(ctx):
    run = train(ctx)
    ctx.workspace.job(run.id).after.write_text("{half")
    After(ctx).step(1.0)
    assert read(ctx, runs.show(ctx, run.id))[0]["state"] == "queued"


def test_runs_that_ask_for_nothing_are_left_alone(ctx):
    text = RECIPE.partition("after:")[0] + "samples: {prompts: ['what comes after: export?']}\n"
    run = train(ctx, text)
    After(ctx).step(1.0)
    assert exports_of(ctx) == []
    assert read(ctx, runs.show(ctx, run.id)) == []


def test_a_clone_keeps_it_and_is_exported_for_itself(ctx):
    run = train(ctx)
    clone = runs.submit(ctx, runs.clone_text(ctx, run.id))
    end(ctx, clone, "succeeded", ((10, 1.0),))
    After(ctx).step(1.0)
    named = {parse_recipe(one.recipe).model.model_name_or_path.partition("@")[0] for one in exports_of(ctx)}
    assert named == {f"run:{run.id}", f"run:{clone.id}"}


def test_the_command_line_says_it_as_overrides():
    text = read_recipe_text("sft/tiny-cpu")
    asked = parse_recipe(text, ["after=[export]", "export.gguf=[Q8_0, F16]"])
    shown = command_line(render_recipe(asked))
    assert shown == "codex-space train sft/tiny-cpu 'after=[export]' 'export.gguf=[Q8_0, F16]'"


def line_of(ctx, text):
    (line,) = [line for line in checks.readiness(ctx, text) if line.label == "Afterwards"]
    return line


def test_the_checklist_says_what_will_come_and_what_it_takes(ctx):
    line = line_of(ctx, RECIPE)
    assert line.ok is True
    assert line.detail.startswith("Q8_0, F16 of the best checkpoint; takes about 874 kB of disk")


def test_the_checklist_warns_and_lets_it_train_where_tools_or_disk_are_wanting(ctx, tools, monkeypatch):
    tools["path"] = None
    line = line_of(ctx, RECIPE)
    assert (line.ok, "llama.cpp is not set up yet" in line.cure) == (None, True)
    assert runs.submit(ctx, RECIPE).state == "queued"
    monkeypatch.setattr(export_plan, "room_bytes", lambda *given, **more: 1 << 60)
    line = line_of(ctx, RECIPE)
    assert (line.ok, "take fewer types" in line.cure) == (None, True)


def test_a_model_that_is_never_exported_is_refused_before_it_trains(ctx, monkeypatch):
    find_shape = export_plan.estimate.find_shape
    monkeypatch.setattr(
        export_plan.estimate, "find_shape", lambda *given: dataclasses.replace(find_shape(*given), family="gemma3_text")
    )
    line = line_of(ctx, RECIPE)
    assert (line.ok, "gemma3_text" in line.detail) == (False, True)
    with pytest.raises(ModelError, match="are not exported"):
        runs.submit(ctx, RECIPE)
    assert runs.list_runs(ctx) == []
