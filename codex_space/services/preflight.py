"""Ask a worker about a recipe without training it: the token check of `codex-space check`, and whoever else asks."""

import contextlib
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

from codex_space.core import durable
from codex_space.core.errors import TrainingError
from codex_space.core.events import read_events
from codex_space.core.paths import JobDir
from codex_space.core.recipe import parse_recipe
from codex_space.core.scratch import Scratch
from codex_space.jobs.launch import launch_facts, worker_environ
from codex_space.services.checks import Check
from codex_space.services.context import Context

TIMEOUT_S = 900


def check_tokens(ctx: Context, text: str) -> Check:
    """Return one line: how many tokens would be trained, or why none could be.

    Raises:
        TrainingError: The worker died without a word.
    """
    with asked(ctx, text, "--check") as (_, told):
        if told["e"] == "failed":
            return Check(False, "Tokens", told["what"], told.get("cure", ""))
        return Check(True, "Tokens", _describe(told))


@contextlib.contextmanager
def asked(ctx: Context, text: str, *flags: str, **facts: object) -> Generator[tuple[JobDir, dict[str, Any]]]:
    """Run a worker on a recipe in a folder of its own; yield that folder and the event that is its answer.

    `facts` go into launch.json beside the usual ones. The folder is gone afterwards.

    Raises:
        TrainingError: The worker died without a word.
    """
    recipe = parse_recipe(text)
    with Scratch(ctx.workspace.root, "check") as folder:
        job = JobDir(Path(folder))
        durable.write_text(job.recipe, text)
        known = launch_facts(recipe, ctx.workspace, job, attempt=1)
        durable.write_json(job.launch, {**known, **facts})
        environ = worker_environ(
            ctx.settings.environ, **{key: known[key] for key in ("num_threads", "offline", "deterministic")}
        )
        command = [sys.executable, "-m", "codex_space.work", str(job.root), *flags]
        with job.log.open("wb") as log:
            subprocess.run(command, env=environ, stdout=log, stderr=log, timeout=TIMEOUT_S, check=False)
        events, _ = read_events(job.events)
        told = next((event for event in events if event["e"] in {"failed", "ready", "done"}), None)
        if told is None:
            raise TrainingError("the check ended without an answer", cure="Train it and read the run's log.")
        yield job, told


def _describe(event: dict[str, object]) -> str:
    trained, total = event.get("trained_tokens"), event.get("total_tokens")
    rows = f"{event.get('num_rows', 0):,} rows"
    if isinstance(trained, int) and isinstance(total, int) and total:
        return f"{rows}, {trained:,} of {total:,} tokens trained ({trained / total:.0%})"
    return rows
