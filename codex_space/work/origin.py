"""Read what an export's card says of where its model comes from: licence, recipe, scores and curves of the run it is of."""

import re
from pathlib import Path
from typing import Any

from codex_space.core import durable
from codex_space.core.events import current_events, iter_events
from codex_space.core.hub_names import looks_like_repo_id
from codex_space.core.paths import JobDir
from codex_space.core.recipe import parse_recipe
from codex_space.grade.library import PROTOCOL, SCORES
from codex_space.grade.protocol import Protocol
from codex_space.hub.cards import share_recipe
from codex_space.hub.gguf_cards import Origin, Point, Score

_PACKAGES = ("torch", "transformers", "trl", "peft")
MAX_POINTS = 200


def read(source: Path, base: Path, where: str) -> Origin:
    """Return what is known of a model: `source` is its folder, `base` that of the weights it was tuned from."""
    job, licence = JobDir(source.parent), _licence(base)
    if not where.startswith("run:") or not job.recipe.is_file():
        return Origin(model=where if looks_like_repo_id(where) else "", licence=licence)
    text = job.recipe.read_text(encoding="utf-8")
    recipe, environment = parse_recipe(text), durable.read_json(job.env) or {}
    model = getattr(recipe, "model", None)
    ref = model.model_name_or_path if model else ""
    step = int(source.name.rpartition("-")[2]) if source.name.startswith("checkpoint-") else 0
    events = current_events(iter_events(job.events))
    return Origin(
        recipe_text=share_recipe(text),
        model=ref if looks_like_repo_id(ref) else "",
        revision=str((model.revision if model else None) or ""),
        licence=licence,
        datasets=tuple(sorted({row.path for row in recipe.datasets if looks_like_repo_id(row.path)})),
        scores=_scores(job, step),
        protocol=_protocol(job, step),
        losses=_points(events, "loss", step),
        eval_losses=_points(events, "eval_loss", step),
        facts=_facts(environment, events),
    )


def _licence(base: Path) -> str:
    """Return the licence of a model's own card, by the Hub's short name."""
    readme = base / "README.md"
    parts = readme.read_text(encoding="utf-8", errors="replace").split("---\n") if readme.is_file() else []
    found = re.search(r"^license:\s*([\w.-]+)", parts[1], re.MULTILINE) if len(parts) > 2 and not parts[0] else None
    return found.group(1) if found else ""


def _points(events: list[dict[str, Any]], name: str, last: int) -> tuple[Point, ...]:
    logs = (each for each in events if each["e"] == "log" and each.get("step", 0) <= last)
    values = ((each["step"], (each.get("metrics") or {}).get(name)) for each in logs)
    points = [(int(step), float(value)) for step, value in values if isinstance(value, int | float)]
    return tuple(points[:: len(points) // MAX_POINTS + 1])


def _scores(job: JobDir, step: int) -> tuple[Score, ...]:
    before = {score["name"]: float(score["value"]) for score in _read_scores(job, 0)}
    return tuple(
        Score(
            str(score["name"]),
            float(score["value"]),
            float(score["low"]),
            float(score["high"]),
            int(score["num_problems"]),
            before.get(score["name"]),
        )
        for score in _read_scores(job, step)
    )


def _read_scores(job: JobDir, step: int) -> list[dict[str, Any]]:
    names = {"name", "value", "low", "high", "num_problems"}
    files = sorted(job.root.glob(f"evaluations/step-{step}/*/{SCORES}"))
    rows = [row for path in files for row in (durable.read_json(path) or {}).get("scores", [])]
    return [row for row in rows if isinstance(row, dict) and names <= row.keys()]


def _protocol(job: JobDir, step: int) -> str:
    files = sorted(job.root.glob(f"evaluations/step-{step}/*/{PROTOCOL}"))
    lines = []
    for path in files:
        settings: dict[str, Any] = durable.read_json(path) or {}
        if settings:
            settings["stops"] = tuple(settings["stops"])
            lines.append(f"{Protocol(**settings).line()}.")
    return " ".join(lines)


def _facts(environment: dict[str, Any], events: list[dict[str, Any]]) -> tuple[tuple[str, str], ...]:
    packages = environment.get("packages", {})
    gpus = ", ".join(str(gpu.get("name")) for gpu in environment.get("gpus", []))
    machine = ("trained on", gpus or f"CPU, {environment.get('num_threads', 1)} threads")
    times = [each["t"] for each in events if isinstance(each.get("t"), int | float)]
    took = [("time", f"{(max(times) - min(times)) / 60:.0f} minutes")] if times else []
    return (machine, *took, *((name, packages[name]) for name in _PACKAGES if name in packages))
