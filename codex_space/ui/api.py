"""What programs may call by name through gradio_client: a handful of verbs, the same services as the buttons."""

import functools
import json
from collections.abc import Callable
from typing import Any

import gradio as gr

from codex_space.core import scrub
from codex_space.core.errors import CodexError
from codex_space.services import runs, summary
from codex_space.services.context import Context
from codex_space.store.runs import Run

MAX_LISTED = 200
AT_ONCE = 4


def add_api(ctx: Context) -> None:
    """Add the endpoints to the page that is being built; who may call them is guard.py's, as for every event."""

    def train(recipe: str) -> dict[str, Any]:
        """Queue a recipe, given as YAML text, and return its run."""
        return _run(runs.submit(ctx, recipe))

    def list_runs(limit: float = 20) -> list[dict[str, Any]]:
        """Return the newest runs."""
        return [_run(run) for run in runs.list_runs(ctx, limit=max(1, min(int(limit), MAX_LISTED)))]

    def show_run(run: str) -> dict[str, Any]:
        """Return what became of a run: state, losses, checkpoints, evaluations."""
        return json.loads(json.dumps(summary.summarize(ctx, run)))

    def stop_run(run: str) -> dict[str, Any]:
        """Ask a run to save a checkpoint and end."""
        runs.stop(ctx, run)
        return _run(runs.show(ctx, run))

    def resume_run(run: str) -> dict[str, Any]:
        """Queue an ended run again, to go on from its newest checkpoint."""
        return _run(runs.resume(ctx, run))

    for verb in (train, list_runs, show_run, stop_run, resume_run):
        gr.api(_told(verb), api_name=verb.__name__, concurrency_limit=AT_ONCE)


def _run(run: Run) -> dict[str, Any]:
    return {"run": run.id, "name": run.name, "state": run.state, "step": run.step, "reason": run.reason}


def _told(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Say our errors as plain text: what shows_errors makes is for people."""

    @functools.wraps(verb)
    def told(*args: Any) -> Any:  # noqa: ANN401  # as the verb
        try:
            return verb(*args)
        except CodexError as error:
            raise gr.Error(scrub.clean(str(error)), print_exception=False) from error

    return told
