"""`codex-space estimate`: memory, hours, dollars and disk of a recipe on a machine, before it starts."""

import argparse
import json
import sys
from dataclasses import asdict

from codex_space.cli.opened import opened
from codex_space.core.errors import RecipeError
from codex_space.core.estimate import Estimate
from codex_space.core.presets import read_recipe_text
from codex_space.core.sweep import expand
from codex_space.services import estimate as service
from codex_space.services import forecast, probe
from codex_space.services.context import Context


def estimate(args: argparse.Namespace) -> int:
    """Print what the recipe needs; 0 whether it fits or not: that is the answer."""
    text = sys.stdin.read() if args.recipe == "-" else read_recipe_text(args.recipe)
    with opened(args) as ctx:
        if args.refresh_prices:
            service.refresh_prices(ctx)
        if args.probe:
            found = _measured(ctx, text, args)
        else:
            found = service.estimate(ctx, text, overrides=args.overrides, hardware=args.hardware)
        told = []
        if args.hardware == service.THIS_MACHINE:
            foreseen = forecast.predict(ctx, expand(text, args.overrides))
            told = forecast.warnings(ctx, foreseen)
    if args.json:
        print(json.dumps({**asdict(found), "warnings": [vars(line) for line in told]}))
        return 0
    print(
        f"{'fits' if found.fits else 'DOES NOT FIT'}: {found.peak_gib:.1f} of {found.memory_gib:.1f} GiB on {found.hardware}"
    )
    for name, size in sorted(found.parts.items(), key=lambda part: -part[1]):
        if size >= 0.01:
            print(f"  {size:8.2f} GiB  {name}")
    if found.hours is not None:
        print(f"about {found.hours:.2f} hours, ${found.usd:.2f}")
    print(f"disk {found.disk_gib:.1f} GiB, Hub {found.hub_gib:.1f} GiB")
    print(f"{found.trained_parameters:,} of {found.num_parameters:,} parameters are trained")
    for note in found.notes:
        print(f"note: {note}")
    for line in told:
        print(f"warning: {line.detail}. {line.cure}")
    return 0


def _measured(ctx: Context, text: str, args: argparse.Namespace) -> Estimate:
    if args.hardware != service.THIS_MACHINE:
        what = f"steps can be tried on this machine, and {args.hardware} is another"
        raise RecipeError(what, where="--probe", cure="Leave --hardware out.")
    return probe.measure(ctx, text, args.overrides)
