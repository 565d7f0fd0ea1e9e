"""Ask models benchmarks, and show what became of it: scores, problems, answers, and one model against another."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from codex_space.core import durable
from codex_space.core.errors import EvaluationError, GradeError, RunError
from codex_space.core.paths import JobDir
from codex_space.core.recipe import MEASURED, EvaluateRecipe, parse_recipe, render_recipe, validate
from codex_space.grade import library, statistics, text_metrics
from codex_space.grade.library import SAMPLES
from codex_space.jobs import references
from codex_space.services.context import Context
from codex_space.store import evaluations as rows
from codex_space.store import runs as run_rows
from codex_space.store.evaluations import Evaluation
from codex_space.store.runs import FINAL, Run

MAX_FILE_BYTES = 256 << 20
_MEASURED = {
    "perplexity": ("Perplexity and bits per byte", "How well the model foresees texts of yours; bits per byte compare across tokenizers"),
    "answers": ("Answers by text metrics", "Prompts of yours, each answer compared with the completion beside it"),
}  # fmt: skip


def benchmarks() -> list[dict[str, Any]]:
    """Return {name, title, about, num_problems} of every benchmark; those that measure a dataset have no number."""
    with_problems = [(entry.name, entry.title, entry.about, entry.num_problems) for entry in library.entries()]
    of_rows = [(name, *_MEASURED[name], None) for name in MEASURED]
    names = ("name", "title", "about", "num_problems")
    return [dict(zip(names, each, strict=True)) for each in (*with_problems, *of_rows)]


def recipe_text(  # noqa: PLR0913  # the recipe's own keys, by keyword
    ref: str,
    benchmark: str,
    *,
    mode: str = "auto",
    prompt_form: str = "auto",
    limit: int | None = None,
    num_samples: int = 1,
    temperature: float = 0.0,
    max_new_tokens: int = 512,
    problems: str | None = None,
    datasets: Sequence[str] = (),
    metrics: Sequence[str] = (),
    endpoint: Mapping[str, Any] | None = None,
) -> str:
    """Return the recipe of an evaluation; with `endpoint` (the section's keys), `ref` is what that server calls its model.

    Raises:
        RecipeError: A value is out of range.
        GradeError: There is no such benchmark.
        EvaluationError: There is no such metric.
    """
    text_metrics.require(metrics)
    if benchmark not in MEASURED:
        library.find(benchmark)
    values: dict[str, Any] = {
        "kind": "evaluate",
        "name": "",
        "model": {"model_name_or_path": ref},
        "benchmark": benchmark,
        "problems": problems,
        "mode": mode,
        "prompt_form": prompt_form,
        "limit": limit,
        "num_samples": num_samples,
        "temperature": temperature,
        "max_new_tokens": max_new_tokens,
        "datasets": [{"path": path} for path in datasets],
    }
    if metrics:
        values["metrics"] = list(metrics)
    if endpoint:
        values["endpoint"] = dict(endpoint)
    return render_recipe(validate(values))


def pin(ctx: Context, recipe: EvaluateRecipe) -> EvaluateRecipe:
    """Return the recipe with the newest step written into a bare `run:ID`, so that the score says what was asked.

    One without a name is called after its benchmark and its model.

    Raises:
        ModelError: That run has no checkpoint here.
    """
    ref = recipe.model.model_name_or_path
    ref = ref if recipe.endpoint else references.pin_model(ctx.workspace, ref)
    model = recipe.model.model_copy(update={"model_name_or_path": ref})
    run_id, _, step = ref.removeprefix("run:").partition("@")
    is_run = ref.startswith("run:") and not recipe.endpoint
    named = run_rows.list_runs(ctx.db, ids=(run_id,)) if is_run else []
    asked = f"{named[0].name} {step}" if named else ref.rpartition("/")[2]
    name = re.sub(r"[^\w .+-]+", " ", f"{recipe.benchmark} of {asked}")[:80].strip()
    return recipe.model_copy(update={"model": model, "name": recipe.name or name})


def list_evaluations(ctx: Context, limit: int = 100) -> list[dict[str, Any]]:
    """Return evaluations, newest first; one whose model has written nothing yet is there already."""
    found = rows.list_evaluations(ctx.db, limit=limit)
    written = {row.run_id for row in found}
    asked = run_rows.list_runs(ctx.db, limit=limit, search="-evaluate-")
    found += [_before_answers(run) for run in asked if run.kind == "evaluate" and run.id not in written]
    found = sorted(found, key=lambda row: -row.started_at)[:limit]
    ids = {row.run_id for row in found} | {row.target_run for row in found if row.target_run}
    known = {run.id: run for run in run_rows.list_runs(ctx.db, limit=10_000, ids=tuple(sorted(ids)))} if ids else {}
    return [_brief(row, known) for row in found]


def list_of_run(ctx: Context, run_id: str) -> list[dict[str, Any]]:
    """Return one evaluation for each step and benchmark of a run's checkpoints, by step.

    What it was asked in training comes first, since that is one protocol for all steps; of others the newest that is done.
    """
    newest: dict[tuple[int, str], Evaluation] = {}
    for row in rows.list_evaluations(ctx.db, target_run=run_id):
        kept = newest.setdefault((row.target_step, row.benchmark), row)
        if _rank(row, run_id) > _rank(kept, run_id):
            newest[row.target_step, row.benchmark] = row
    return [
        {
            "step": step,
            "benchmark": benchmark,
            "key": _key(row),
            "state": row.state,
            "num_graded": row.num_graded,
            "num_samples": row.num_samples,
            "num_passed": row.num_passed,
            "scores": row.scores,
        }
        for (step, benchmark), row in sorted(newest.items())
    ]


def _rank(row: Evaluation, run_id: str) -> tuple[bool, bool]:
    return row.state == "done", row.run_id == run_id


def count_waiting(ctx: Context, run_id: str) -> int:
    """Return how many of the evaluations whose answers a run wrote are not graded yet."""
    return sum(row.state == "waiting" for row in rows.of_writer(ctx.db, run_id))


def read(ctx: Context, key: str) -> dict[str, Any]:
    """Return one evaluation with its problems.

    Raises:
        RunError: There is none of that key.
    """
    row, run = _find(ctx, key)
    targets = run_rows.list_runs(ctx.db, ids=(row.target_run,)) if row.target_run else []
    known = {each.id: each for each in (run, *targets)}
    try:
        problems = _problems(ctx, row, run)
    except GradeError:  # not fetched yet, or gone: what is known without the file is shown
        problems = []
    return {**_brief(row, known), "problems": problems}


def read_problem(ctx: Context, key: str, task_id: str) -> dict[str, Any]:
    """Return a problem with every answer to it.

    Raises:
        RunError: There is no such evaluation or problem.
    """
    row, run = _find(ctx, key)
    loaded = _loaded(ctx, row, run)
    problem = next((one for one in loaded.problems if one.task_id == task_id), None)
    if problem is None:
        raise RunError(f"no problem {task_id[:80]!r} was asked", where=key[:200])
    folder = _job(ctx, row).evaluation(row.step, row.benchmark)
    verdicts = {str(each["sample"]): each for each in rows.list_verdicts(ctx.db, row, task_id)}
    answers = [each for each in _lines(folder / SAMPLES) if each.get("task_id") == task_id]
    question = loaded.questions[task_id]
    return {
        "task_id": task_id,
        "prompt": next((each["asked"] for each in answers if each.get("asked")), question["prompt"]),
        "canonical": problem.canonical,
        "samples": [_answer(each, verdicts.get(str(each.get("sample")), {})) for each in answers],
    }


def compare(ctx: Context, key: str, other_key: str) -> dict[str, Any]:
    """Pair two evaluations of one benchmark: the first as the base, the second as the tuned model.

    Raises:
        RunError: One of them is not there, or not done.
        EvaluationError: They were not asked the same problems.
    """
    if key.rpartition("/")[2] != other_key.rpartition("/")[2]:
        raise EvaluationError("these are two benchmarks", cure="Compare evaluations of the same one.")
    base, tuned = (_passed(ctx, each) for each in (key, other_key))
    found = statistics.compare(base, tuned)
    return {
        "sentence": found.sentence(),
        "gained": list(found.gained),
        "lost": list(found.lost),
        "num_same": len(found.same),
    }


def _passed(ctx: Context, key: str) -> dict[str, bool]:
    row, run = _find(ctx, key)
    if row.state != "done":
        raise RunError("this evaluation is not done", where=key, cure="Compare them when both are.")
    return {each["task_id"]: bool(each["passed"]) for each in _problems(ctx, row, run)}


def _problems(ctx: Context, row: Evaluation, run: Run) -> list[dict[str, Any]]:
    loaded = _loaded(ctx, row, run)
    by_task: dict[str, list[dict[str, Any]]] = {}
    for each in rows.list_verdicts(ctx.db, row):
        by_task.setdefault(each["task_id"], []).append(each)
    found = []
    for problem in loaded.problems:
        graded = by_task.get(problem.task_id, [])
        passed = [all(each["passed"].values()) for each in graded]
        found.append(
            {
                "task_id": problem.task_id,
                "tier": loaded.tiers.get(problem.task_id),
                "passed": None if not graded else statistics.is_solved(passed),
                "num_samples": len(graded),
                "num_passed": sum(passed),
                "rule": graded[0].get("rule") or "" if graded else "",
                "error": next((str(each.get("why")) for each in graded if each.get("why")), ""),
            }
        )
    return found


def _answer(sample: dict[str, Any], verdict: dict[str, Any]) -> dict[str, Any]:
    told = {name: str(sample.get(name) or "") for name in ("text", "program", "rule", "flaw")}
    if verdict and library.program_hash(told["program"]) != verdict["program_sha256"]:
        told["flaw"] = "This is not the answer that was graded: the file was changed afterwards."
    return {
        **told,
        "passed": all(verdict["passed"].values()) if verdict else None,
        "status": verdict.get("status"),
        "error": str(verdict.get("why") or ""),
        "seconds": verdict.get("cpu_s"),
    }


def _brief(row: Evaluation, known: dict[str, Run]) -> dict[str, Any]:
    run, target = known.get(row.run_id), known.get(row.target_run or "")
    return {
        "key": _key(row),
        "run_id": row.run_id,
        "run_name": run.name if run else row.run_id,
        "kind": run.kind if run else "",
        "run_state": run.state if run else "",
        "step": row.step,
        "model": _model(row, run, target),
        "benchmark": row.benchmark,
        "measured": row.benchmark in MEASURED,
        "state": row.state,
        "reason": row.reason,
        "num_samples": row.num_samples,
        "num_graded": row.num_graded,
        "num_passed": row.num_passed,
        "scores": row.scores,
        "protocol": row.protocol,
        "weaker": row.num_live,
        "at": row.started_at,
    }


def _model(row: Evaluation, run: Run | None, target: Run | None) -> str:
    if row.target_run:
        name = target.name if target else row.target_run
        return f"{name} · step {row.target_step:,}" if row.target_step else f"{name} · base"
    recipe = parse_recipe(run.recipe) if run else None
    if not isinstance(recipe, EvaluateRecipe):
        return row.run_id
    ref = recipe.model.model_name_or_path
    return f"{ref} · {urlsplit(recipe.endpoint.url).netloc}" if recipe.endpoint else ref


def _loaded(ctx: Context, row: Evaluation, run: Run) -> library.Loaded:
    if row.benchmark in MEASURED:
        raise GradeError("texts that were measured have no problems", cure="Compare the figures and their intervals.")
    path, limit = library.asked_of(parse_recipe(run.recipe), row.benchmark, ctx.workspace.benchmarks)
    return library.load(row.benchmark, path, limit)


def _find(ctx: Context, key: str) -> tuple[Evaluation, Run]:
    run_id, _, rest = key.partition("/")
    step, _, benchmark = rest.partition("/")
    if step.isascii() and step.isdigit() and len(step) < 16:
        found = rows.read_evaluation(ctx.db, run_id, int(step), benchmark)
        runs = run_rows.list_runs(ctx.db, ids=(run_id,))
        if found is None and runs and runs[0].kind == "evaluate" and not rows.of_writer(ctx.db, run_id):
            found = _before_answers(runs[0])
        if found is not None and _key(found) == key:
            return found, runs[0]
    raise RunError("there is no such evaluation", where=key[:200], cure="The Evaluate tab lists them.")


def _before_answers(run: Run) -> Evaluation:
    """Return what is known of an evaluation that is queued, loads its model, or failed before its first answer."""
    recipe = parse_recipe(run.recipe)
    benchmark = recipe.benchmark if isinstance(recipe, EvaluateRecipe) else ""
    target_run, target_step = references.target_of(run, 0)
    return Evaluation(
        run.id, 0, benchmark, target_run, target_step,
        state="failed" if run.state in FINAL else "waiting",
        reason=run.reason,
        protocol="",
        started_at=run.created_at,
        num_samples=0,
        num_graded=0,
        num_passed=0,
        num_live=0,
        scores=[],
    )  # fmt: skip


def _key(row: Evaluation) -> str:
    return f"{row.run_id}/{row.step}/{row.benchmark}"


def _job(ctx: Context, row: Evaluation) -> JobDir:
    return ctx.workspace.job(row.run_id)


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines there are; the last may still be being written."""
    try:
        with durable.open_plain(path) as file:
            return list(library.read_lines(file.read(MAX_FILE_BYTES)))
    except FileNotFoundError:
        return []
