"""The card beside GGUF files: what each was found to be against its model, where that came from, and how to run it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from codex_space.core import scrub
from codex_space.hub.ollama import use_lines

CARD, CURVES = "README.md", "curves.svg"
Point = tuple[int, float]
_WIDTH, _HEIGHT, _EDGE = 720, 260, 44


@dataclass(frozen=True)
class Score:
    """A pass rate with its 95 % interval; `base` is that of the model before it was tuned, None where it was not asked."""

    name: str
    value: float
    low: float
    high: float
    num_problems: int
    base: float | None = None


@dataclass(frozen=True)
class Origin:
    """What an exported model came from; all of it empty where it is not known.

    Attributes:
        model: Hub id of the base model.
        protocol: How the scores were asked, in one line.
        losses: Of the training, by step; `eval_losses` those on rows held out.
        facts: (name, value) of machine, time and packages.
    """

    recipe_text: str = ""
    model: str = ""
    revision: str = ""
    licence: str = ""
    datasets: tuple[str, ...] = ()
    scores: tuple[Score, ...] = ()
    protocol: str = ""
    losses: tuple[Point, ...] = ()
    eval_losses: tuple[Point, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()


def render_gguf_card(results: Mapping[str, Any], origin: Origin, *, repo_id: str = "") -> str:
    """Return the README of an export; equal input gives equal text."""
    front = yaml.safe_dump(_front_matter(str(results["name"]), origin), sort_keys=False, allow_unicode=True)
    whence = f" of [{origin.model}](https://huggingface.co/{origin.model})" if origin.model else ""
    pinned = f" at `{origin.revision}`" if origin.revision else ""
    licence = origin.licence or "not stated by the base model; look there before you pass these files on"
    parts = [
        f"---\n{front}---\n\n# {results['name']}\n",
        f"GGUF files{whence}{pinned}, for Ollama, LM Studio, llama.cpp and others. Licence: {licence}.\n",
        _files(results),
        _scores(origin) if origin.scores else "",
        _use(results, repo_id),
        _training(origin) if origin.recipe_text else "",
    ]
    return scrub.clean("\n".join(part for part in parts if part))


def render_curves(losses: Sequence[Point], eval_losses: Sequence[Point]) -> str:
    """Return an SVG of the loss by step, the line of the held-out rows broken; empty with fewer than two points."""
    everything = [*losses, *eval_losses]
    if len(losses) < 2:
        return ""
    last, top, bottom = max(x for x, _ in everything), max(y for _, y in everything), min(y for _, y in everything)
    lines = []
    for points, style in ((losses, "#0f766e"), (eval_losses, '#c2410c" stroke-dasharray="5 4')):
        placed = (
            f"{_EDGE + x / last * (_WIDTH - 2 * _EDGE):.1f},{_EDGE + (top - y) / ((top - bottom) or 1) * (_HEIGHT - 2 * _EDGE):.1f}"
            for x, y in points
        )
        lines.append(f'<polyline fill="none" stroke-width="2" stroke="{style}" points="{" ".join(placed)}"/>')
    words = (
        (_EDGE, _EDGE - 14, f"loss {top:.3g} to {bottom:.3g}; green in training, orange on rows held out"),
        (_EDGE, _HEIGHT - 14, f"step 0 to {last:,}"),
    )
    texts = "".join(f'<text x="{x}" y="{y}">{text}</text>' for x, y, text in words)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="13">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{"".join(lines)}{texts}</svg>\n'
    )


def _front_matter(name: str, origin: Origin) -> dict[str, Any]:
    front: dict[str, Any] = {"library_name": "gguf", "pipeline_tag": "text-generation"}
    if origin.licence:
        front["license"] = origin.licence
    if origin.model:
        front |= {"base_model": origin.model, "base_model_relation": "quantized"}
    if origin.datasets:
        front["datasets"] = list(origin.datasets)
    front["tags"] = ["codex-space", "gguf", "code"]
    if origin.scores:
        results = [
            {
                "task": {"type": "text-generation"},
                "dataset": {"name": score.name, "type": score.name},
                "metrics": [{"type": "pass@1", "value": score.value, "name": "pass@1"}],
            }
            for score in origin.scores
        ]
        front["model-index"] = [{"name": name, "results": results}]
    return front


def _files(results: Mapping[str, Any]) -> str:
    offered, reference = [row for row in results["files"] if row["passed"]], results["reference"]
    rows = "\n".join(
        f"| `{row['path']}` | {row['type']} | {row['bytes'] / 1e6:,.1f} MB | {row['kl']:.2g} | {100 * row['top1']:.1f} % |"
        for row in offered
    )
    return (
        f"| File | Type | Size | KL | Same top token |\n|---|---|---|---|---|\n{rows}\n\n"
        f"KL is the mean divergence from the model in {reference['dtype']}, in nats a token, over {reference['num_tokens']:,} "
        f"tokens of code; each file cuts all of {offered[0]['num_strings']} test strings into the model's own tokens, and "
        f"carries its chat template.\n"
    )


def _scores(origin: Origin) -> str:
    rows = "\n".join(
        f"| {score.name} | {100 * score.value:.1f} % | {100 * score.low:.0f} to {100 * score.high:.0f} % | "
        f"{'' if score.base is None else f'{100 * score.base:.1f} %'} | {score.num_problems} |"
        for score in origin.scores
    )
    head = "| Benchmark | pass@1 | 95 % interval | before tuning | problems |\n|---|---|---|---|---|"
    return f"## Evaluation\n\nOf the model before it became these files. {origin.protocol}\n\n{head}\n{rows}\n"


def _use(results: Mapping[str, Any], repo_id: str) -> str:
    lines = use_lines(str(results["name"]), str(results["usual"]), repo_id)
    return "## Use it\n\n" + "\n\n".join(f"**{name}**\n\n```\n{text}\n```" for name, text in lines) + "\n"


def _training(origin: Origin) -> str:
    facts = "\n".join(f"- {name}: {value}" for name, value in origin.facts)
    image = f"![Loss by step]({CURVES})\n\n" if len(origin.losses) > 1 else ""
    return f"## How it was trained\n\n{image}```yaml\n{origin.recipe_text.strip()}\n```\n\n{facts}\n"
