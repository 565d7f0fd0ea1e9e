"""Show rows of a recipe as the tokens its trainer would see, from a warm worker that loads no weights."""

import os
import random
import sys
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codex_space.core import durable
from codex_space.core.errors import DataError
from codex_space.core.paths import JobDir
from codex_space.core.recipe import parse_recipe
from codex_space.core.scratch import Scratch
from codex_space.jobs.launch import launch_facts, worker_environ
from codex_space.jobs.warm import WarmWorker
from codex_space.services.context import Context

PLACES = ("first", "previous", "next", "longest", "random")

MARKS = {"trained": "+", "masked": ".", "cut": "-", "stop": "#"}


class TokenView:
    """One warm worker for all visitors; it keeps the recipe that was asked for last."""

    def __init__(self, ctx: Context) -> None:
        """Start nothing yet."""
        self._ctx = ctx
        environ = worker_environ(ctx.settings.environ, num_threads=len(os.sched_getaffinity(0)), offline=False)
        environ |= {"CUDA_VISIBLE_DEVICES": ""}  # the GPU is the runs'
        command = [sys.executable, "-m", "codex_space.work.preview"]
        self._worker = WarmWorker(command, environ, ctx.workspace.root / "tokens.log")
        self._folder: Scratch | None = None
        self._opened: tuple[str, int | None] = "", None
        self._counts: dict[str, Any] = {}
        self._turn = threading.Lock()

    def counts(self, text: str) -> dict[str, Any]:
        """Return shares, lengths and a proposed max_length for a recipe's training rows.

        Raises:
            CodexError: Why its rows cannot become tokens.
        """
        with self._turn:
            return self._open(text)

    def look(self, text: str, row: int | str, *, here: int = 0, limit: int | None = None) -> dict[str, Any]:
        """Return one row's tokens; `row` is its number from 0 or one of `PLACES`, of which two lead on from `here`.

        Raises:
            CodexError: There is no such row, or the rows cannot become tokens.
        """
        with self._turn:
            counts = self._open(text)
            return {"counts": counts, **self._ask("row", row=_number(row, here, counts), limit=limit)}

    def close(self) -> None:
        """End the worker and remove its folder."""
        self._worker.close()
        self._forget()

    def _open(self, text: str) -> dict[str, Any]:
        if self._worker.pid is not None and self._opened == (text, self._worker.pid):
            return self._counts
        self._forget()
        recipe = parse_recipe(text)
        self._folder = Scratch(self._ctx.workspace.root, "tokens")
        job = JobDir(Path(self._folder.name))
        durable.write_text(job.recipe, text)
        durable.write_json(job.launch, launch_facts(recipe, self._ctx.workspace, job, attempt=1))
        self._counts = self._ask("open", job=str(job.root))
        self._opened = text, self._worker.pid
        return self._counts

    def _forget(self) -> None:
        self._opened = "", None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _ask(self, op: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401  # any JSON value
        (reply,) = self._worker.ask(op, **fields)
        return {name: value for name, value in reply.items() if name not in {"id", "done"}}


def describe_counts(counts: dict[str, Any]) -> str:
    """Return what is cut off, and the max_length that would do, in one sentence."""
    looked = f"{counts['num_looked_at']:,} of {counts['num_rows']:,} rows looked at"
    cut = f"{counts['truncated_share']:.1%} of the tokens are cut off at max_length {counts['max_length']}"
    stop = "" if counts["is_stop_trained"] else f"; the stop token {counts['stop_token']} is never trained"
    return f"{looked}: {cut}; max_length {counts['proposed_max_length']} keeps 99 % of them whole{stop}"


def render_plain(looked: dict[str, Any]) -> str:
    """Return a row for a terminal: each line begins with the mark of its tokens."""
    lines = [describe_counts(looked["counts"])]
    for side in looked["sides"]:
        counts = side["counts"]
        told = f"{counts['trained']:,} trained (+), {counts['masked']:,} masked (.), {counts['cut']:,} cut off (-)"
        name = f", {side['name']}" if side["name"] else ""
        lines.append(f"row {looked['row']:,}{name}: {side['num_tokens']:,} tokens, {told}, {counts['stop']:,} stop (#)")
        before = ""
        for at, token in enumerate(side["tokens"]):
            if side["num_hidden"] and at == side["hidden_at"]:
                lines.append(f"  ... {side['num_hidden']:,} tokens are not shown ...")
                before = ""
            for piece, _ in pieces(token["text"]):
                if token["state"] != before:
                    lines.append(f"{MARKS[token['state']]} ")
                lines[-1] += piece.rstrip("\n")
                before = "" if piece.endswith("\n") else token["state"]
    return "\n".join(lines)


def pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Yield text that can be shown as it is, and (marked True) signs for what would not be seen or would do something.

    A line break keeps its effect after its sign; direction marks, control and invisible characters are named.
    """
    plain = ""
    for character in text:
        sign = _sign(character)
        if not sign:
            plain += character
            continue
        if plain:
            yield plain, False
            plain = ""
        yield sign, True
    if plain:
        yield plain, False


def _sign(character: str) -> str:
    known = {" ": "\N{MIDDLE DOT}", "\n": "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}\n", "\t": "\N{RIGHTWARDS ARROW}"}
    if character in known:
        return known[character]
    code = ord(character)
    if code < 32:
        return chr(0x2400 + code)  # Unicode's control pictures
    return f"[U+{code:04X}]" if unicodedata.category(character)[0] in "CZ" else ""


def _number(row: int | str, here: int, counts: dict[str, Any]) -> int:
    num_rows = int(counts["num_rows"])
    match row:
        case "first":
            return 0
        case "previous":
            return (here - 1) % num_rows
        case "next":
            return (here + 1) % num_rows
        case "longest":
            return int(counts["longest_row"])
        case "random":
            return random.randrange(num_rows)  # noqa: S311  # no secret
    try:
        return int(row)
    except ValueError as error:
        cure = f"Give a number from 0, or one of {', '.join(PLACES)}."
        raise DataError(f"{row!r} is not a row", where="row", cure=cure) from error
