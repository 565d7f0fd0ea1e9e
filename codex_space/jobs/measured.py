"""Take what a worker measured on rows of texts, and score it: bits per byte with perplexity, or answers by text metrics."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from codex_space.core import durable
from codex_space.core.errors import GradeError
from codex_space.core.recipe import EvaluateRecipe
from codex_space.grade import text_metrics
from codex_space.grade.library import RESULTS, SAMPLES, SCORES, VERDICTS
from codex_space.grade.sandbox import Sandbox
from codex_space.grade.statistics import Interval, Scorer, bootstrap
from codex_space.jobs.answer_file import AnswerFile
from codex_space.jobs.result_table import render_table

MAX_NAME, MAX_TOKENS = 40, 1 << 40
_PERPLEXITY = {"nats": float, "num_bytes": int, "num_tokens": int}
_ANSWERS = {"text": str, "reference": str}


class Measured:
    """One evaluation of rows; begun again from its first line after a restart."""

    def __init__(self, recipe: EvaluateRecipe, folder: Path, num_rows: int) -> None:
        """Read nothing yet."""
        self._recipe, self._folder, self._num_rows = recipe, folder, num_rows
        self._file = AnswerFile(folder, SAMPLES)
        self._fields = _PERPLEXITY if recipe.benchmark == "perplexity" else _ANSWERS
        self._rows: dict[str, dict[str, Any]] = {}

    @property
    def counts(self) -> dict[str, int]:
        """How far it is; nothing passes or fails here."""
        return {"num_graded": len(self._rows), "num_passed": 0, "num_live": 0}

    def graded(self, _sandbox: Callable[[], Sandbox]) -> Iterator[dict[str, Any]]:
        """Yield what is kept of each row written since the last call; a line that is none of ours is passed over."""
        while lines := self._file.new_rows():
            for row in lines:
                name = row.get("task_id")
                if not isinstance(name, str) or len(name) > MAX_NAME or name in self._rows or not self._is_sound(row):
                    continue
                if len(self._rows) < self._num_rows:
                    self._rows[name] = {key: row[key] for key in self._fields}
                    measured = self._rows[name] if self._fields is _PERPLEXITY else {}
                    yield {"task_id": name, "sample": 0, "passed": {}, "status": "measured", "why": "", **measured}

    def _is_sound(self, row: dict[str, Any]) -> bool:
        if not all(type(row.get(key)) is kind for key, kind in self._fields.items()):
            return False
        numbers = [row[key] for key, kind in self._fields.items() if kind is not str]
        return all(math.isfinite(number) and 0 <= number < MAX_TOKENS for number in numbers)

    def scores(self) -> list[dict[str, Any]]:
        """Return each figure with its bootstrap interval over the rows.

        Raises:
            GradeError: There is no text to score.
        """
        rows = list(self._rows.values())
        if self._fields is _ANSWERS:
            found = text_metrics.score_texts(
                self._recipe.metrics, [row["text"] for row in rows], [row["reference"] for row in rows]
            )
            return [_score(name, "share", one.value, one.interval, len(rows)) for name, one in found.items()]
        if not sum(row["num_bytes"] for row in rows) or not sum(row["num_tokens"] for row in rows):
            raise GradeError("no token of these texts was measured", cure="Give texts of more than one token.")
        told = (("bits per byte", "bits/byte", _bits_per_byte), ("perplexity per token", "tokens", _perplexity))
        return [
            _score(
                name, unit, make(rows)(range(len(rows))), bootstrap(make(rows), len(rows), highest=math.inf), len(rows)
            )
            for name, unit, make in told
        ]

    def write_results(self, scores: list[dict[str, Any]]) -> None:
        """Write for others what the store holds: the scores, and one line a row as JSON and for a spreadsheet."""
        durable.write_json(self._folder / SCORES, {"schema": 1, "scores": scores})
        rows = [{"task_id": name, **row} for name, row in self._rows.items()]
        durable.write_text(self._folder / RESULTS, render_table(("task_id", *self._fields), rows))
        durable.write_text(self._folder / VERDICTS, "".join(json.dumps(row) + "\n" for row in rows))


def _bits_per_byte(rows: list[dict[str, Any]]) -> Scorer:
    """Return nats over bytes, in bits: unlike a loss by token it compares models of different tokenizers."""
    return lambda numbers: (
        math.fsum(rows[n]["nats"] for n in numbers) / math.log(2) / max(1, sum(rows[n]["num_bytes"] for n in numbers))
    )


def _perplexity(rows: list[dict[str, Any]]) -> Scorer:
    """Return e to the mean nats of a token, 1e30 at most."""
    return lambda numbers: math.exp(
        min(69.0, math.fsum(rows[n]["nats"] for n in numbers) / max(1, sum(rows[n]["num_tokens"] for n in numbers)))
    )


def _score(name: str, unit: str, value: float, interval: Interval | None, num_rows: int) -> dict[str, Any]:
    low, high = (interval.low, interval.high) if interval else (value, value)
    rounded = {"value": round(value, 6), "low": round(low, 6), "high": round(high, 6)}
    return {"name": name, "k": 1, "unit": unit, **rounded, "num_problems": num_rows}
