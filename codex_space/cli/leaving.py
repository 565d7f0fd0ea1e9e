"""`codex-space space leave|stay|money`."""

import argparse
import dataclasses
import json
import sys

from codex_space.cli.opened import opened
from codex_space.core.errors import WorkspaceError
from codex_space.services import leaving
from codex_space.services import money as spent
from codex_space.services.forecast import describe_time


def leave(args: argparse.Namespace) -> int:
    """Move to other hardware, or pause, once runs are saved and uploads done."""
    with opened(args) as ctx:
        lost = leaving.losses(ctx)
        for sentence in lost:
            print(sentence, file=sys.stderr)
        if lost and not args.yes and not _agrees():
            raise WorkspaceError("nothing was done", cure="--yes goes on anyway.")
        wish = leaving.leave(ctx, args.to)
    print(f"the Space leaves for {wish['to']} once its runs are saved and its uploads done")
    return 0


def stay(args: argparse.Namespace) -> int:
    """Take a wish to leave back."""
    with opened(args) as ctx:
        leaving.stay(ctx)
    return 0


def awake(args: argparse.Namespace) -> int:
    """Lift the Space's sleep time while runs are under way, or no longer."""
    with opened(args) as ctx:
        leaving.keep_awake(ctx, on=args.state == "on")
    print(
        "the Space is kept awake while runs train" if args.state == "on" else "the Space sleeps as its sleep time says"
    )
    return 0


def money(args: argparse.Namespace) -> int:
    """Print what is spent by month, and the cap."""
    with opened(args) as ctx:
        found = spent.read(ctx)
    if args.json:
        print(json.dumps(dataclasses.asdict(found)))
        return 0
    up = f", ${found.since_boot_usd:,.2f} since it started {describe_time(found.since_boot_s)} ago, idle or not"
    print(f"this machine: ${found.usd_per_hour:.2f}/h" + (up if found.usd_per_hour else ""))
    for month, usd in found.months.items():
        print(
            f"{month}: ${usd:,.2f}" + (f" of ${found.cap_usd:,.2f}" if found.cap_usd and month == found.month else "")
        )
    return 0


def _agrees() -> bool:
    return sys.stdin.isatty() and input("Go on? [y/N] ").strip().lower() == "y"
