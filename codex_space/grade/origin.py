"""Read what a card says of where a model comes from, out of the folder of the run that made it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from codex_space.core import durable, sources
from codex_space.core.errors import CodexError
from codex_space.core.events import current_events, iter_events
from codex_space.core.licences import judge
from codex_space.core.origin import Graded, Origin, Point, Score
from codex_space.core.paths import JobDir
from codex_space.core.recipe import parse_recipe
from codex_space.core.shared_recipe import BaseRecipe
from codex_space.core.sharing import last_part, share_recipe
from codex_space.core.sources import Source
from codex_space.grade import statistics

_PACKAGES = ("torch", "transformers", "trl", "peft", "datasets")
MAX_POINTS = 200
_NUMBERS = ("value", "low", "high", "num_problems")


def read_origin(job: JobDir, step: int, graded: Iterable[Graded]) -> Origin:
    """Return what is known of a run's checkpoint; `graded` are the evaluations of its run.

    Raises:
        RecipeError: The run's recipe is none.
    """
    text = job.recipe.read_text(encoding="utf-8")
    recipe, environment = parse_recipe(text), durable.read_json(job.env) or {}
    events = list(iter_events(job.events))
    current = current_events(events)
    model, datasets = _sources(job, recipe)
    scores, protocol = _evaluations(graded, step)
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


def _evaluations(graded: Iterable[Graded], step: int) -> tuple[tuple[Score, ...], tuple[str, ...]]:
    """Return scores and protocols of that step, or of the last one before it that was graded."""
    known = [each for each in graded if each.step <= step and any(map(_is_rate, each.scores))]
    last = max((each.step for each in known), default=0)
    if not last:
        return (), ()
    base = {each.benchmark: each for each in known if each.step == 0}
    asked = sorted((each for each in known if each.step == last), key=lambda each: each.benchmark)
    scores = [score for each in asked for score in _scores(each, base.get(each.benchmark))]
    return tuple(scores), tuple(dict.fromkeys(f"{each.protocol}." for each in asked if each.protocol))


def _scores(tuned: Graded, base: Graded | None) -> Iterator[Score]:
    before = {str(row["name"]): float(row["value"]) for row in (base.scores if base else ()) if _is_rate(row)}
    flips = _flips(base, tuned)
    for row in filter(_is_rate, tuned.scores):
        name = str(row["name"])
        whole = flips if name == tuned.benchmark else None  # tiers and other suites are parts of it
        yield Score(
            name, float(row["value"]), float(row["low"]), float(row["high"]), int(row["num_problems"]),
            base=before.get(name), step=tuned.step,
            flips=whole.sentence() if whole else "",
            gained=whole.gained if whole else (),
            lost=whole.lost if whole else (),
        )  # fmt: skip


def _is_rate(row: Mapping[str, Any]) -> bool:
    return bool(row.get("name")) and all(isinstance(row.get(each), int | float) for each in _NUMBERS)


def _flips(base: Graded | None, tuned: Graded) -> statistics.Comparison | None:
    """Return which problems changed sides, None where one of the two was not graded or not asked the same."""
    if base is None or not base.solved or not tuned.solved:
        return None
    try:
        return statistics.compare(base.solved, tuned.solved)
    except CodexError:
        return None


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
