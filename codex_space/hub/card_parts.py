"""The parts that all cards share: sources, licence, scores and facts as Markdown, and what goes into the front matter.

Covered: text from outside (names of runs, files, datasets, benchmarks and problems) is shown as it is and is neither
markup, nor HTML, nor the end of a table cell, a code block or the front matter.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from codex_space.core.hub_names import looks_like_repo_id
from codex_space.core.licences import OTHER
from codex_space.core.origin import Origin, Point, Score
from codex_space.core.sources import Source

CURVES = "curves.svg"
MAX_NAMED = 20
MAX_SENTENCE_CHARS = 2000
_MARKUP = re.compile(r"([\\`*\[\]<>|~$&]|^[#+=-]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
_WIDTH, _HEIGHT, _EDGE = 720, 260, 44


def plain(text: str, most_chars: int = 300) -> str:
    """Return text of one line in which nothing is markup."""
    return _MARKUP.sub(r"\\\1", _line(text)[:most_chars])


def code(text: str) -> str:
    """Return a code span, in a table's cell too."""
    line = _line(text)[:300] or " "
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}".replace("|", "\\|")


def block(text: str, language: str = "") -> str:
    """Return a code block that its own text cannot end."""
    text = "".join(each if each.isprintable() or each in "\n\t" else " " for each in text)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.strip()}\n{fence}"


def _line(text: str) -> str:
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def link(source: Source, kind: str = "") -> str:
    """Return a Hub id as a link, any other name as code."""
    if not looks_like_repo_id(source.id):
        return code(source.id)
    return f"[{plain(source.id)}](https://huggingface.co/{kind}{source.id})"


def licence_front(origin: Origin) -> dict[str, str]:
    """Return the front matter's licence; one that is not known, or that is a question, is never one of the Hub's names."""
    verdict = origin.licence
    front = {"license": verdict.licence}
    return {**front, "license_name": verdict.name} if verdict.licence == OTHER else front


def dataset_front(origin: Origin) -> dict[str, list[str]]:
    """Return the front matter's datasets, those of the Hub."""
    found = sorted({each.id for each in origin.datasets if looks_like_repo_id(each.id)})
    return {"datasets": found} if found else {}


def model_index(name: str, scores: Iterable[Score]) -> dict[str, Any]:
    """Return the front matter's model-index, as huggingface_hub's EvalResult reads it back."""
    results = [
        {
            "task": {"type": "text-generation"},
            "dataset": {"name": score.name, "type": score.name},
            "metrics": [{"type": "pass@1", "value": score.value, "name": "pass@1"}],
        }
        for score in scores
    ]
    return {"model-index": [{"name": name, "results": results}]} if results else {}


def render_sources(origin: Origin) -> str:
    """Return what it was made from, and what that means for its licence."""
    rows = [("base model", origin.model, "")] if origin.model else []
    rows += [("data", each, "datasets/") for each in origin.datasets]
    if not rows:
        return ""
    table = "\n".join(
        f"| {what} | {link(each, kind)} | {code(each.revision) if each.revision else ''} | {plain(each.stated.shown)} |"
        for what, each, kind in rows
    )
    return f"## Made from\n\n| | | Commit | Licence |\n|---|---|---|---|\n{table}\n\n{render_licence(origin)}"


def render_licence(origin: Origin) -> str:
    """Return the licence in sentences: conflicts and what is unknown are said, never decided."""
    verdict = origin.licence
    if verdict.conflicts:
        said = "The licences of what this was made from do not plainly go together, and which one holds is for a person to decide."
    elif verdict.unknown:
        said = "Not all licences of what this was made from are known; look there before you pass it on."
    elif verdict.licence != OTHER:
        said = f"Licence: {plain(verdict.licence)}, as the base model's."
    else:
        said = f"Licence: {plain(verdict.name)}." if origin.model else "Whoever trained it has chosen no licence yet."
    points = [*verdict.conflicts, *verdict.unknown, *verdict.duties]
    listed = "".join(f"- {plain(each)}\n" for each in points)
    return f"{said}\n\n{listed}" if listed else f"{said}\n"


def render_scores(origin: Origin, intro: str) -> str:
    """Return the table of pass rates with what may be claimed of them, and the problems that changed sides."""
    if not origin.scores:
        return ""
    rows = "\n".join(
        f"| {plain(score.name)} | {100 * score.value:.1f} % | {100 * score.low:.0f} to {100 * score.high:.0f} % | "
        f"{'' if score.base is None else f'{100 * score.base:.1f} %'} | {score.num_problems} |"
        for score in origin.scores
    )
    head = "| Benchmark | pass@1 | 95 % interval | before tuning | problems |\n|---|---|---|---|---|"
    flips = "".join(_flips(score) for score in origin.scores if score.flips)
    protocol = "".join(f"- {plain(line, MAX_SENTENCE_CHARS)}\n" for line in origin.protocol)
    asked = f"\nHow they were asked:\n\n{protocol}" if protocol else ""
    return f"## Evaluation\n\n{intro} {origin.scores[0].step:,}.\n\n{head}\n{rows}\n{flips}{asked}"


def _flips(score: Score) -> str:
    named = "".join(
        f" {word}: {', '.join(map(code, names[:MAX_NAMED]))}{f' and {len(names) - MAX_NAMED} more' * (len(names) > MAX_NAMED)}."
        for word, names in (("Gained", score.gained), ("Lost", score.lost))
        if names
    )
    return f"\n{plain(score.name)}, problem by problem against the base: {plain(score.flips)}{named}\n"


def render_training(origin: Origin, recipe_text: str, extra: Sequence[tuple[str, str]] = ()) -> str:
    """Return curve, recipe and facts."""
    image = f"![Loss by step]({CURVES})\n\n" if len(origin.losses) > 1 else ""
    facts = "\n".join(f"- {plain(name)}: {plain(value)}" for name, value in (*origin.facts, *extra))
    return f"## How it was trained\n\n{image}{block(recipe_text, 'yaml')}\n\n{facts}".rstrip() + "\n"


def render_curves(losses: Sequence[Point], eval_losses: Sequence[Point]) -> str:
    """Return an SVG of the loss by step, the line of the held-out rows broken; empty with fewer than two points."""
    everything = [*losses, *eval_losses]
    if len(losses) < 2:
        return ""
    last, top, bottom = max(x for x, _ in everything), max(y for _, y in everything), min(y for _, y in everything)
    lines = []
    for points, style in ((losses, "#0f766e"), (eval_losses, '#c2410c" stroke-dasharray="5 4')):
        placed = (
            f"{_EDGE + x / max(last, 1) * (_WIDTH - 2 * _EDGE):.1f},{_EDGE + (top - y) / ((top - bottom) or 1) * (_HEIGHT - 2 * _EDGE):.1f}"
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


def front_matter(front: Mapping[str, Any]) -> str:
    """Return YAML between its two lines."""
    return f"---\n{yaml.safe_dump(dict(front), sort_keys=False, allow_unicode=True)}---\n"
