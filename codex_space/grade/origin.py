"""Read what a card says of where a model comes from, out of the folder of the run that made it."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from codex_space.core import durable, sources
from codex_space.core.errors import CodexError
from codex_space.core.events import current_events, iter_events
from codex_space.core.licences import judge
from codex_space.core.origin import Origin, Point, Score
from codex_space.core.paths import JobDir
from codex_space.core.recipe import BaseRecipe, parse_recipe
from codex_space.core.sharing import last_part, share_recipe
from codex_space.core.sources import Source
from codex_space.grade import statistics
from codex_space.grade.library import PROTOCOL, SCORES, VERDICTS
from codex_space.grade.protocol import Protocol

_PACKAGES = ("torch", "transformers", "trl", "peft", "datasets")
MAX_POINTS = 200
MAX_VERDICTS_BYTES = 64 << 20


def read_origin(job: JobDir, step: int) -> Origin:
    """Return what is known of a run's checkpoint.

    Raises:
        RecipeError: The run's recipe is none.
    """
    text = job.recipe.read_text(encoding="utf-8")
    recipe, environment = parse_recipe(text), durable.read_json(job.env) or {}
    events = list(iter_events(job.events))
    current = current_events(events)
    model, datasets = _sources(job, recipe)
    scores, protocol = _evaluations(job, step)
    return Origin(
        recipe_text=share_recipe(text),
        model=model,
        datasets=datasets,
        licence=judge(model.stated if model else None, (each.stated for each in datasets)),
        scores=scores,
        protocol=protocol,
        losses=_points(current, "loss", step),
        eval_losses=_points(current, "eval_loss", step),
        facts=_facts(environment, events),
    )


def _sources(job: JobDir, recipe: BaseRecipe) -> tuple[Source | None, tuple[Source, ...]]:
    """Return the base model and all data, those of the runs it goes on from among them."""
    known = sources.read(job)
    section, model = getattr(recipe, "model", None), known.model
    is_noted = (job.rows / sources.FILE).is_file() and known.datasets
    if model is None and section and not section.model_name_or_path.startswith("fresh:"):
        ref = section.model_name_or_path
        model = None if is_noted and ref.startswith("run:") else Source(last_part(ref), section.revision or "")
    noted = {each.id: each for each in known.datasets}
    found = {}
    for section in recipe.sources:
        name = last_part(section.path)
        found[name] = noted.pop(name, None) or sources.of_path(section.path, name)
    return model, (*found.values(), *noted.values())


def _points(events: Iterable[Mapping[str, Any]], name: str, last: int) -> tuple[Point, ...]:
    logs = (each for each in events if each["e"] == "log" and isinstance(each.get("metrics"), dict))
    values = ((each.get("step"), each["metrics"].get(name)) for each in logs)
    points = [
        (step, float(value))
        for step, value in values
        if isinstance(step, int) and step <= last and isinstance(value, int | float)
    ]
    return tuple(points[:: len(points) // MAX_POINTS + 1])


def _evaluations(job: JobDir, step: int) -> tuple[tuple[Score, ...], tuple[str, ...]]:
    """Return scores and protocols of that step, or of the last one before it that was graded."""
    steps = sorted(int(path.name[5:]) for path in job.root.glob("evaluations/step-*") if path.name[5:].isdigit())
    for asked in [each for each in reversed(steps) if 0 < each <= step]:
        if scores := _scores(job, asked):
            return scores, tuple(dict.fromkeys(_protocols(job, asked)))
    return (), ()


def _scores(job: JobDir, step: int) -> tuple[Score, ...]:
    found = []
    for folder in sorted(path.parent for path in job.root.glob(f"evaluations/step-{step}/*/{SCORES}")):
        before = {str(row["name"]): float(row["value"]) for row in _rows(job.evaluation(0, folder.name))}
        flips = _flips(job.evaluation(0, folder.name), folder)
        for row in _rows(folder):
            name = str(row["name"])
            whole = flips if name == folder.name else None  # tiers and other suites are parts of it
            found.append(
                Score(
                    name, float(row["value"]), float(row["low"]), float(row["high"]), int(row["num_problems"]),
                    base=before.get(name), step=step,
                    flips=whole.sentence() if whole else "",
                    gained=whole.gained if whole else (),
                    lost=whole.lost if whole else (),
                )
            )  # fmt: skip
    return tuple(found)


def _rows(folder: Path) -> list[dict[str, Any]]:
    """Return the scores in a folder that are pass rates."""
    rows = (durable.read_json(folder / SCORES) or {}).get("scores")
    numbers, known = ("value", "low", "high", "num_problems"), []
    for row in rows if isinstance(rows, list) else []:
        if (
            isinstance(row, dict)
            and row.get("name")
            and all(isinstance(row.get(each), int | float) for each in numbers)
        ):
            known.append(row)
    return known


def _flips(base: Path, tuned: Path) -> statistics.Comparison | None:
    """Return which problems changed sides, None where one of the two was not graded or not asked the same."""
    before, after = _passed(base), _passed(tuned)
    try:
        return statistics.compare(before, after) if before and after else None
    except CodexError:
        return None


def _passed(folder: Path) -> dict[str, bool]:
    """Return which problems were solved, in every suite."""
    answers: dict[str, list[bool]] = {}
    try:
        with durable.open_plain(folder / VERDICTS) as file:
            lines = file.read(MAX_VERDICTS_BYTES).splitlines()
    except OSError:
        return {}
    for line in lines:
        try:
            row = json.loads(line)
            answers.setdefault(str(row["task_id"]), []).append(all(row["passed"].values()))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}  # a damaged file says nothing of flips
    return {task: statistics.is_solved(passed) for task, passed in answers.items()}


def _protocols(job: JobDir, step: int) -> list[str]:
    lines = []
    for path in sorted(job.root.glob(f"evaluations/step-{step}/*/{PROTOCOL}")):
        settings: dict[str, Any] = durable.read_json(path) or {}
        try:
            settings["stops"] = tuple(settings["stops"])
            lines.append(f"{Protocol(**settings).line()}.")
        except (
            CodexError,
            KeyError,
            TypeError,
            ValueError,
        ):  # of another version, or of a measurement without problems
            continue
    return lines


def _facts(environment: Mapping[str, Any], events: list[dict[str, Any]]) -> tuple[tuple[str, str], ...]:
    packages = environment.get("packages") or {}
    gpus = [str(gpu.get("name")) for gpu in environment.get("gpus") or []]
    machine = " and ".join(gpus) or f"CPU, {environment.get('num_threads', 1)} threads"
    facts = [("Hardware", machine)] if environment else []
    if seconds := _trained_s(events):
        facts.append(("Time", f"{seconds / 60:,.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"))
    if kwh := _energy_kwh(events):
        facts.append(("Energy", f"{kwh:.2g} kWh of the GPU, from its own power readings"))
    if environment.get("python"):
        facts.append(("Python", str(environment["python"])))
    facts += [(name, str(packages[name])) for name in _PACKAGES if name in packages]
    if environment.get("commit"):
        facts.append(("codex_space", str(environment["commit"])))
    rows = (environment.get("data") or {}).get("train_sha256")
    return (*facts, ("Training rows, SHA-256", str(rows))) if rows else tuple(facts)


def _trained_s(events: list[dict[str, Any]]) -> float:
    """Return how long its attempts ran; the time between them does not count."""
    spans: list[list[float]] = []
    for event in events:
        if event["e"] == "attempt" or not spans:
            spans.append([])
        if isinstance(event.get("t"), int | float):
            spans[-1].append(float(event["t"]))
    return sum(max(times) - min(times) for times in spans if times)


def _energy_kwh(events: list[dict[str, Any]]) -> float | None:
    """Return the energy that the power readings of all attempts add up to; None without readings."""
    joules, before, seen = 0.0, None, False
    for event in events:
        metrics = event.get("metrics")
        t, watts = event.get("t"), metrics.get("gpu_power_w") if isinstance(metrics, dict) else None
        if event["e"] == "attempt":
            before = None
        if isinstance(t, int | float) and isinstance(watts, int | float):
            if before is not None:
                joules += (t - before[0]) * (watts + before[1]) / 2
                seen = True
            before = (t, watts)
    return joules / 3.6e6 if seen else None
