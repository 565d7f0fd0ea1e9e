"""`codex-space train`, `check`, `import` and `show-command`."""

import argparse
import contextlib
import json
import sys
from typing import Any

import yaml

from codex_space.cli.follow import follow, wait
from codex_space.cli.opened import opened
from codex_space.cli.runs import print_compared
from codex_space.core.flat_config import import_flat
from codex_space.core.presets import read_recipe_text
from codex_space.core.recipe import parse_recipe, render_recipe
from codex_space.core.shared_recipe import TuningRecipe
from codex_space.core.sweep import expand
from codex_space.services import checks, cluster, forecast, portable, preflight, runs
from codex_space.services.commands import command_line
from codex_space.services.context import Context
from codex_space.services.tokens import TokenView, describe_counts, render_plain

PRINTED_TOKENS = 4000


def train(args: argparse.Namespace) -> int:
    """Queue a recipe, or all those of its sweep, and follow to the end; a sweep's runs are compared then."""
    texts = expand(_text(args), args.overrides)
    with opened(args, own=True) as ctx:
        queued = [runs.submit(ctx, text).id for text in texts]
        if len(queued) == 1:
            return follow(ctx, queued[0], as_json=args.json)
        code = 0
        for number, run_id in enumerate(queued):
            code = max(code, wait(ctx, run_id, quiet=args.json))
            if runs.show(ctx, run_id).state == "stopped":  # Ctrl-C means the sweep
                for left in queued[number + 1 :]:
                    runs.cancel(ctx, left)
                break
        print_compared(ctx, queued, as_json=args.json)
        return code


def check(args: argparse.Namespace) -> int:
    """Print the checklist of a recipe; 1 where something stands in its way."""
    text = render_recipe(parse_recipe(_text(args), args.overrides))
    with opened(args) as ctx, contextlib.closing(TokenView(ctx)) as view:
        if args.row is not None:
            return _print_row(view.look(text, args.row, limit=None if args.json else PRINTED_TOKENS), args)
        lines = checks.readiness(ctx, text)
        if not any(line.ok is False for line in lines):
            lines += _forecast(ctx, text)
        if not any(line.ok is False for line in lines):
            lines.append(preflight.check_tokens(ctx, text))
            if lines[-1].ok and isinstance(parse_recipe(text), TuningRecipe):
                lines.append(checks.Check(None, "Length", describe_counts(view.counts(text))))
    if args.json:
        print(json.dumps([vars(line) for line in lines]))
    else:
        for line in lines:
            mark = {True: "ok", False: "NO", None: "--"}[line.ok]
            print(f"{mark}  {line.label}: {line.detail}. {line.cure}".rstrip())
    return 1 if any(line.ok is False for line in lines) else 0


def _forecast(ctx: Context, text: str) -> list[checks.Check]:
    """Return what it costs, and what to know of money and sleep before the start."""
    found = forecast.predict(ctx, expand(text))
    cost = forecast.describe_cost(found)
    return [*([cost] if cost else []), *forecast.warnings(ctx, found)]


def _print_row(looked: dict[str, Any], args: argparse.Namespace) -> int:
    print(json.dumps(looked) if args.json else render_plain(looked))
    return 0


def import_config(args: argparse.Namespace) -> int:
    """Print the recipe a flat config stands for, with what became of each key as comments."""
    imported = import_flat(args.file, args.kind)
    for note in imported.notes:
        print(f"# {note}")
    print(yaml.safe_dump(imported.values, sort_keys=False, allow_unicode=True), end="")
    return 0


def show_command(args: argparse.Namespace) -> int:
    """Print the command line a recipe stands for, or write it down for plain TRL and print what runs it."""
    text = render_recipe(parse_recipe(_text(args), args.overrides))
    if args.form == "codex-space":
        command = command_line(text)
    elif args.form in cluster.FORMS:
        with opened(args) as ctx:
            command = cluster.export(ctx, text, args.form, args.out)
    else:
        with opened(args) as ctx:
            command = portable.export(ctx, text, args.form, args.out)
    print(json.dumps({"command": command}) if args.json else command)
    return 0


def _text(args: argparse.Namespace) -> str:
    return sys.stdin.read() if args.recipe == "-" else read_recipe_text(args.recipe)
