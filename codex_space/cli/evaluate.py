"""`codex-space evaluate`."""

import argparse
import json
import time
from pathlib import Path

from codex_space.cli.follow import follow
from codex_space.cli.opened import opened
from codex_space.core.errors import EvaluationError, RunError
from codex_space.core.paths import Workspace
from codex_space.core.settings import read_key, read_settings
from codex_space.grade.endpoint import Endpoint
from codex_space.services import endpoint, evaluations, runs
from codex_space.services.context import Context


def evaluate(args: argparse.Namespace) -> int:
    """Queue an evaluation and follow it to its score; ask a server where one is named."""
    if args.endpoint:
        return _ask_endpoint(args)
    if args.model is None or args.served:
        raise EvaluationError("there is no model to ask", cure="Name a run or model, or --endpoint with --model.")
    with opened(args, own=True) as ctx:
        text = evaluations.recipe_text(
            reference(ctx, args.model),
            args.benchmark,
            mode=args.mode,
            prompt_form=args.prompt_form,
            limit=args.limit,
            num_samples=args.num_samples,
            temperature=args.temperature,
            max_new_tokens=args.max_new_tokens,
            problems=args.problems,
            datasets=args.data,
            metrics=args.metric,
        )
        return follow(ctx, runs.submit(ctx, text).id, as_json=args.json)


def _ask_endpoint(args: argparse.Namespace) -> int:
    if args.model or not args.served:
        raise EvaluationError("a server is asked for one of its models", cure="Name it by --model, and no run.")
    if args.prompt_form != "auto" or args.data or args.metric:
        what = "a server is asked problems in its own form: --prompt-form, --data and --metric are for models here"
        raise EvaluationError(what, cure="Leave them out.")
    server = Endpoint(
        args.endpoint,
        args.served,
        read_key(args.key_variable),
        chat=args.mode == "chat",
        concurrency=args.concurrency,
    )
    told = endpoint.evaluate(
        Workspace(read_settings(workspace=args.workspace).workspace),
        server,
        args.benchmark,
        now=time.time(),
        problems=Path(args.problems) if args.problems else None,
        limit=args.limit,
        num_samples=args.num_samples,
        temperature=args.temperature,
        max_new_tokens=args.max_new_tokens,
    )
    if args.json:
        print(json.dumps(told))
        return 0
    for name, score in told["scores"].items():
        low, high = score["interval"]
        print(f"{name:<12} pass@1 {100 * score['pass@1']:5.1f} %   95 % interval {100 * low:.1f} to {100 * high:.1f}")
    print(told["protocol"])
    print(f"answers and verdicts: {told['folder']}")
    return 0


def reference(ctx: Context, model: str) -> str:
    """Return `run:ID[@step-N]` where the text names a run of this workspace, else the text."""
    name, at, step = model.removeprefix("run:").partition("@")
    try:
        return f"run:{runs.show(ctx, name).id}{at}{step}"
    except RunError:
        if model.startswith("run:"):
            raise
        return model
