"""Submitting, listing, renaming, cloning, deleting; what is refused and in which words."""

import pytest

from codex_space.core.errors import CodexError, DataError, HubError, ModelError, RecipeError, RunError
from codex_space.core.paths import MANIFEST
from codex_space.core.sweep import expand
from codex_space.services import first_model, runs
from codex_space.services.summary import compare
from codex_space.store import checkpoints as checkpoint_rows
from codex_space.store import runs as run_rows
from codex_space.store.metrics import add_points

RECIPE = """
kind: sft
name: one
model: {model_name_or_path: fresh:tiny}
lora: {r: 4}
datasets: [{path: sample:python-first-chat}]
"""


def ended(ctx, run, state="stopped"):
    run_rows.change_state(ctx.db, run.id, state, now=ctx.clock())
    return run


def test_a_double_click_starts_one_run(ctx):
    first = runs.submit(ctx, RECIPE, request_key="press-1")
    again = runs.submit(ctx, RECIPE, request_key="press-1")
    other = runs.submit(ctx, RECIPE, request_key="press-2")
    assert again.id == first.id != other.id
    assert sorted(folder.name for folder in ctx.workspace.runs.iterdir()) == sorted([first.id, other.id])


def test_an_id_that_is_taken_is_drawn_anew(ctx, monkeypatch):
    drawn = iter(["20260101-000000-sft-aaaa"] * 2 + ["20260101-000000-sft-bbbb"])
    monkeypatch.setattr(runs, "new_run_id", lambda *_: next(drawn))
    assert [runs.submit(ctx, RECIPE).id[-4:] for _ in range(2)] == ["aaaa", "bbbb"]
    assert not list(drawn)


def test_a_submitted_run_is_queued_with_its_recipe_in_its_folder(ctx):
    run = runs.submit(ctx, RECIPE, overrides=["lora.r=8"])
    assert run.state == "queued"
    assert "r: 8" in ctx.workspace.job(run.id).recipe.read_text()


def test_a_relative_file_is_found_from_wherever_the_worker_runs(ctx, tmp_path, monkeypatch):
    (tmp_path / "my.jsonl").write_text('{"text": "a"}\n')
    monkeypatch.chdir(tmp_path)
    run = runs.submit(ctx, RECIPE.replace("sample:python-first-chat", "my.jsonl"))
    assert str(tmp_path / "my.jsonl") in run.recipe


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (("fresh:tiny", "run:20260101-000000-sft-aaaa"), RunError, "20260101-000000-sft-aaaa"),
        (("fresh:tiny", "/no/such/folder"), ModelError, "no such model folder"),
        (("sample:python-first-chat", "sample:nothing"), DataError, "python-first-chat"),
        (("sample:python-first-chat", "dataset:nothing"), DataError, "nothing"),
        (("sample:python-first-chat", "dataset:../../etc"), DataError, "etc"),
        (("sample:python-first-chat", "nothing.jsonl"), DataError, "no such file"),
        (("kind: sft", "kind: sfx"), RecipeError, "sft"),
    ],
)
def test_a_recipe_that_cannot_run_is_refused_before_it_is_queued(ctx, change, error, said):
    with pytest.raises(error, match=said):
        runs.submit(ctx, RECIPE.replace(*change))
    assert runs.list_runs(ctx) == []
    assert list(ctx.workspace.runs.iterdir()) == []


def test_pushing_without_a_token_is_refused_before_the_start(ctx):
    with pytest.raises(HubError, match="token"):
        runs.submit(ctx, RECIPE + "hub: {repo_id: me/model}\n")


@pytest.mark.parametrize("name", ["", "   ", "x" * 81, "<b>bold</b>", "a\x00b", "back`tick"])
def test_a_name_that_could_break_a_page_is_refused(ctx, name):
    run = runs.submit(ctx, RECIPE)
    with pytest.raises(RunError):
        runs.rename(ctx, run.id, name)


def test_rename_and_find_by_name(ctx):
    run = runs.submit(ctx, RECIPE)
    runs.rename(ctx, run.id, "  better   name ")
    assert runs.show(ctx, "better name").id == run.id


def test_an_unknown_run_is_a_sentence(ctx):
    for verb in (runs.show, runs.stop, runs.cancel, runs.resume, runs.delete, runs.save_now, runs.clone_text):
        with pytest.raises(RunError):
            verb(ctx, "nobody")


def test_a_clone_is_the_same_recipe_under_another_name(ctx):
    run = runs.submit(ctx, RECIPE)
    clone = runs.submit(ctx, runs.clone_text(ctx, run.id))
    assert clone.name == "one copy"
    assert runs.differences(ctx, run.id, clone.id) == [("name", "one", "one copy")]


def test_only_an_ended_run_can_be_resumed_and_only_an_unfinished_one_stopped(ctx):
    run = runs.submit(ctx, RECIPE)
    with pytest.raises(RunError, match="not ended"):
        runs.resume(ctx, run.id)
    ended(ctx, run)
    assert runs.resume_blocked(ctx, run.id) == ""
    assert runs.resume_point(ctx, run.id) == 0
    with pytest.raises(RunError, match="ended already"):
        runs.stop(ctx, run.id)


def test_resume_point_is_the_newest_complete_checkpoint(ctx):
    run = ended(ctx, runs.submit(ctx, RECIPE))
    job = ctx.workspace.job(run.id)
    for step in (10, 20, 30):
        job.checkpoint(step).mkdir()
        if step < 30:
            (job.checkpoint(step) / MANIFEST).write_text("{}")
    assert runs.resume_point(ctx, run.id) == 20


def test_delete_keeps_what_others_need(ctx):
    parent = ended(ctx, runs.submit(ctx, RECIPE))
    child = runs.submit(ctx, RECIPE.replace("fresh:tiny", f"run:{parent.id}"))
    with pytest.raises(RunError, match="builds on it"):
        runs.delete(ctx, parent.id)
    with pytest.raises(RunError, match="not ended"):
        runs.delete(ctx, child.id)
    ended(ctx, child)
    runs.delete(ctx, parent.id)
    assert not ctx.workspace.job(parent.id).root.exists()
    with pytest.raises(RunError):
        runs.show(ctx, parent.id)


def test_delete_waits_for_uploads(ctx):
    run = ended(ctx, runs.submit(ctx, RECIPE))
    checkpoint_rows.add_checkpoint(ctx.db, run.id, 10, created_at=1.0, size_bytes=5, metrics={}, upload="queued")
    with pytest.raises(RunError, match="wait for their upload"):
        runs.delete(ctx, run.id)
    assert ctx.workspace.job(run.id).root.exists()


def test_the_first_model_is_three_runs_that_build_on_each_other_and_one_press_makes_one(ctx):
    assert first_model.status(ctx) is None
    made = first_model.start(ctx, "press")
    again = first_model.start(ctx, "press")
    assert made == again == first_model.status(ctx)
    assert f"run:{made.tokenizer.id}" in made.pretrain.recipe
    assert f"run:{made.pretrain.id}" in made.sft.recipe


def test_hostile_ids_never_reach_the_disk(ctx):
    for hostile in ("../..", "/etc/passwd", "a/b", "%2e%2e", "x' OR 1=1 --"):
        with pytest.raises(CodexError):
            runs.log_tail(ctx, hostile)


def test_runs_are_compared_in_what_differs_and_the_best_is_marked(ctx):
    texts = expand(RECIPE + "sweep: {train.learning_rate: [1e-4, 1e-3], seed: [1, 2]}\n")
    ids = [runs.submit(ctx, text).id for text in texts]
    for run_id, losses in zip(ids, ((3.0, 2.5), (3.0, 2.0), (3.0, 2.2), (3.0,)), strict=True):
        add_points(ctx.db, run_id, [("loss", step, loss, 1.0) for step, loss in enumerate(losses, start=1)])
    found = compare(ctx, ids)
    assert found["keys"] == ["seed", "train.learning_rate"]
    assert [row["values"] for row in found["rows"]] == [[1, 1e-4], [2, 1e-4], [1, 1e-3], [2, 1e-3]]
    assert found["by"] == "final_loss"
    assert [row["best"] for row in found["rows"]] == [False, True, False, False]
    add_points(ctx.db, ids[0], [("eval_loss", 1, 1.5, 1.0)])
    assert compare(ctx, ids)["by"] == "final_loss", "not all of them have one"


@pytest.mark.parametrize("ids", [[], ["a"], ["a", "a"], ["a", "b"], ["x"] * 100, [f"r{n}" for n in range(70)]])
def test_what_cannot_be_compared_is_one_sentence(ctx, ids):
    with pytest.raises(RunError):
        compare(ctx, ids)


def test_the_same_wish_is_queued_once_until_a_run_of_its_kind_has_ended(ctx):
    first = runs.submit_once(ctx, RECIPE)
    assert runs.submit_once(ctx, RECIPE).id == first.id
    other = runs.submit_once(ctx, RECIPE + "seed: 7\n")
    assert other.id != first.id
    evaluated = runs.submit_once(ctx, "kind: evaluate\nmodel: {model_name_or_path: fresh:tiny}\n")
    ended(ctx, evaluated)
    assert runs.submit_once(ctx, RECIPE).id == first.id, "another kind's end changes nothing"
    ended(ctx, other)
    assert runs.submit_once(ctx, RECIPE).id != first.id
