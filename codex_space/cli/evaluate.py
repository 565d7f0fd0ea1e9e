"""`codex-space evaluate`."""

import argparse

from codex_space.cli.follow import follow
from codex_space.cli.opened import opened
from codex_space.core.errors import RunError
from codex_space.services import evaluations, runs
from codex_space.services.context import Context


def evaluate(args: argparse.Namespace) -> int:
    """Queue an evaluation and follow it to its score."""
    with opened(args, own=True) as ctx:
        text = evaluations.recipe_text(
            _reference(ctx, args.model),
            args.benchmark,
            mode=args.mode,
            limit=args.limit,
            num_samples=args.num_samples,
            temperature=args.temperature,
            max_new_tokens=args.max_new_tokens,
            problems=args.problems,
        )
        return follow(ctx, runs.submit(ctx, text).id, as_json=args.json)


def _reference(ctx: Context, model: str) -> str:
    """Return `run:ID[@step-N]` where the text names a run of this workspace, else the text."""
    name, at, step = model.removeprefix("run:").partition("@")
    try:
        return f"run:{runs.show(ctx, name).id}{at}{step}"
    except RunError:
        if model.startswith("run:"):
            raise
        return model
