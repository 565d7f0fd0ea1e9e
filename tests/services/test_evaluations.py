"""What the Evaluate tab and `codex-space evaluate` are told."""

import json

import pytest

from codex_space.core.errors import CodexError, EvaluationError, GradeError, RecipeError, RunError
from codex_space.jobs.grader import Grader
from codex_space.services import evaluations, runs
from codex_space.store import evaluations as rows
from codex_space.store import runs as run_rows
from tests.jobs.test_grader import PROBLEMS, RECIPE, Room, answer

NOW = 1_700_000_000.0


@pytest.fixture
def room(ctx):
    made = Room.__new__(Room)
    made.workspace, made.db = ctx.workspace, ctx.db
    made.grader = Grader(ctx.db, ctx.workspace, workers=1)
    yield made
    made.grader.close()


def graded(room, wrong=(), recipe=RECIPE, at=NOW):
    run_id = room.add(recipe, at=at)
    room.write(run_id, [answer(p, "def f(): pass" if n in wrong else None) for n, p in enumerate(PROBLEMS)])
    room.grader.step(at)
    return f"{run_id}/0/first-steps"


def test_a_recipe_is_made_of_the_choices(ctx):
    text = evaluations.recipe_text("ada/base", "first-steps", limit=5, num_samples=3, temperature=0.8)
    assert "benchmark: first-steps" not in text, "the default is left out"
    assert {"limit: 5", "num_samples: 3", "temperature: 0.8"} <= set(text.splitlines())


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"benchmark": "humanevil"}, GradeError),
        ({"limit": 0}, RecipeError),
        ({"num_samples": 5}, RecipeError),
        ({"temperature": -1.0}, RecipeError),
        ({"mode": "shout"}, RecipeError),
        ({"prompt_form": "shout"}, RecipeError),
        ({"prompt_form": "chat", "mode": "completion"}, RecipeError),
        ({"benchmark": "perplexity"}, RecipeError),
        ({"datasets": ["sample:python-first-chat"]}, RecipeError),
        ({"benchmark": "answers", "datasets": ["sample:x"], "metrics": ["blue"]}, EvaluationError),
        ({"max_new_tokens": 10**9}, RecipeError),
        ({"ref": ""}, RecipeError),
    ],
)
def test_choices_that_cannot_be_are_refused(given, error):
    values = {"ref": "ada/base", "benchmark": "first-steps", **given}
    with pytest.raises(error):
        evaluations.recipe_text(**values)


def test_one_evaluation_with_its_problems_and_answers(ctx, room):
    key = graded(room, wrong={1})
    (brief,) = evaluations.list_evaluations(ctx)
    assert (brief["key"], brief["state"], brief["model"], brief["num_passed"]) == (key, "done", "ada/base", 5)
    found = evaluations.read(ctx, key)
    assert [each["passed"] for each in found["problems"]] == [True, False, True, True, True, True]
    assert found["problems"][0]["tier"] == 1
    problem = evaluations.read_problem(ctx, key, PROBLEMS[1].task_id)
    assert problem["canonical"] == PROBLEMS[1].canonical
    assert (problem["samples"][0]["passed"], problem["samples"][0]["status"]) == (False, "fail")
    assert problem["samples"][0]["error"]


def test_what_a_worker_writes_into_the_results_afterwards_is_not_believed(ctx, room):
    key = graded(room, wrong={1})
    before, task_id = evaluations.read(ctx, key), PROBLEMS[1].task_id
    folder = room.job(key.partition("/")[0]).evaluation(0, "first-steps")
    forged = {"task_id": task_id, "sample": 0, "passed": {"base": True}, "status": "pass", "why": ""}
    (folder / "verdicts.jsonl").write_text(json.dumps(forged) + "\n")
    (folder / "scores.json").write_text('{"scores": [{"name": "first-steps", "value": 1.0}]}')
    assert evaluations.read(ctx, key) == before
    assert evaluations.read_problem(ctx, key, task_id)["samples"][0]["passed"] is False
    room.write(key.partition("/")[0], [answer(PROBLEMS[1])])
    samples = evaluations.read_problem(ctx, key, task_id)["samples"]
    assert [each["flaw"].startswith("This is not the answer that was graded") for each in samples] == [False, True]


@pytest.mark.parametrize("number", [[1], {"a": 1}, None, True, "0"])
def test_an_answer_line_with_any_number_is_shown_and_breaks_nothing(ctx, room, number):
    key = graded(room)
    room.write(key.partition("/")[0], [{**answer(PROBLEMS[0], "x"), "sample": number}])
    samples = evaluations.read_problem(ctx, key, PROBLEMS[0].task_id)["samples"]
    assert samples[0]["passed"] is True
    assert samples[1]["passed"] is None or samples[1]["flaw"].startswith("This is not")


def test_what_is_queued_or_failed_before_its_first_answer_is_listed_too(ctx, room):
    run = runs.submit(ctx, evaluations.recipe_text("fresh:tiny", "first-steps", limit=3))
    (brief,) = evaluations.list_evaluations(ctx)
    assert (brief["state"], brief["run_state"], brief["num_samples"]) == ("waiting", "queued", 0)
    assert [each["passed"] for each in evaluations.read(ctx, brief["key"])["problems"]] == [None, None, None]
    run_rows.change_state(ctx.db, run.id, "failed", now=1.0, reason="the model cannot be loaded")
    (brief,) = evaluations.list_evaluations(ctx)
    assert (brief["state"], brief["reason"]) == ("failed", "the model cannot be loaded")


def test_two_evaluations_are_paired(ctx, room):
    base, tuned = graded(room, wrong={0, 1, 2}), graded(room, wrong={2, 3}, at=NOW + 60)
    found = evaluations.compare(ctx, base, tuned)
    assert found["gained"] == [PROBLEMS[0].task_id, PROBLEMS[1].task_id]
    assert found["lost"] == [PROBLEMS[3].task_id]
    assert found["num_same"] == 3
    assert "No difference can be claimed" in found["sentence"]


def test_what_was_asked_other_problems_is_not_paired(ctx, room):
    base = graded(room)
    other = room.add(RECIPE.replace("limit: 6", "limit: 2"), num_samples=2, at=NOW + 60)
    room.write(other, [answer(problem) for problem in (PROBLEMS[0], PROBLEMS[3])])
    room.grader.step(NOW)
    with pytest.raises(EvaluationError, match="graded for one model only"):
        evaluations.compare(ctx, base, f"{other}/0/first-steps")


def test_two_benchmarks_are_not_paired(ctx):
    with pytest.raises(EvaluationError, match="two benchmarks"):
        evaluations.compare(ctx, "a/0/humaneval", "b/0/humaneval+")


def test_what_a_run_was_asked_in_training_is_its_point_whatever_is_asked_later(ctx, room):
    training = (
        "kind: sft\nmodel: {model_name_or_path: fresh:tiny}\ndatasets: [{path: sample:python-first-chat}]\n"
        "evaluate: {benchmarks: [first-steps], limit: 6}\n"
    )
    trained = room.add(training, "sft", step=20)
    room.write(trained, [answer(problem) for problem in PROBLEMS], step=20)
    room.grader.step(NOW)
    asked = room.add(at=NOW + 60)
    rows.start(ctx.db, asked, 0, "first-steps", target=(trained, 20), num_samples=6, protocol="", now=NOW + 61)
    (found,) = evaluations.list_of_run(ctx, trained)
    assert (found["key"], found["state"]) == (f"{trained}/20/first-steps", "done")


def test_an_evaluation_whose_problems_are_not_there_yet_is_shown_without_them(ctx):
    run = runs.submit(ctx, evaluations.recipe_text("fresh:tiny", "humaneval"))
    found = evaluations.read(ctx, f"{run.id}/0/humaneval")
    assert (found["state"], found["problems"]) == ("waiting", [])


def test_what_is_not_done_is_not_paired(ctx, room):
    base = graded(room)
    waiting = room.add(at=NOW + 60)
    with pytest.raises(RunError, match="not done"):
        evaluations.compare(ctx, base, f"{waiting}/0/first-steps")


@pytest.mark.parametrize(
    "key", ["", "/", "a/b/c", "../../etc/passwd", "20261121-000000-sft-aaaa/0/x", "x/" + "9" * 40 + "/y"]
)
def test_an_unknown_key_is_said(ctx, key):
    for ask in (evaluations.read, lambda c, k: evaluations.read_problem(c, k, "x")):
        with pytest.raises(RunError, match="no such evaluation"):
            ask(ctx, key)


def test_an_unknown_problem_is_said(ctx, room):
    key = graded(room)
    with pytest.raises(RunError, match="was asked"):
        evaluations.read_problem(ctx, key, "../" + PROBLEMS[0].task_id)


def test_a_checkpoint_shows_its_newest_score_at_its_own_step(ctx, room):
    trained = room.add("kind: sft\nmodel: {model_name_or_path: a/b}\ndatasets: [{path: sample:x}]\n", "sft", step=20)
    asked = room.add(at=NOW + 60)
    rows.start(ctx.db, asked, 0, "first-steps", target=(trained, 20), num_samples=6, protocol="", now=NOW + 61)
    rows.finish(ctx.db, rows.read_evaluation(ctx.db, asked, 0, "first-steps"), [])
    found = evaluations.list_of_run(ctx, trained)
    assert [(each["step"], each["key"]) for each in found] == [(20, f"{asked}/0/first-steps")]


def test_a_run_is_asked_at_its_newest_checkpoint_and_the_recipe_says_so(ctx, room):
    trained = room.add("kind: sft\nmodel: {model_name_or_path: a/b}\ndatasets: [{path: sample:x}]\n", "sft", step=20)
    with pytest.raises(CodexError, match="no complete checkpoint"):
        runs.submit(ctx, evaluations.recipe_text(f"run:{trained}", "first-steps"))
    folder = room.job(trained).checkpoint(20)
    folder.mkdir()
    (folder / "codex_manifest.json").write_text("{}")
    run = runs.submit(ctx, evaluations.recipe_text(f"run:{trained}", "first-steps"))
    assert f"run:{trained}@step-20" in run.recipe
    assert run.name == "first-steps of asked step-20"
