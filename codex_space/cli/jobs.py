"""`codex-space jobs ...`, and `job`, which is what a Hugging Face Job runs."""

import argparse
import json
import signal
import sys
import threading
import time

from codex_space.cli.opened import opened
from codex_space.core.presets import read_recipe_text
from codex_space.core.settings import read_settings
from codex_space.core.sweep import expand
from codex_space.services import job_entry, jobs, runs
from codex_space.services.context import open_context
from codex_space.store.runs import FINAL

LOOK_EVERY_S = 0.2


def job(args: argparse.Namespace) -> int:
    """Train a run of the Hub here and tell all of it on standard output."""
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    ctx = open_context(read_settings(workspace=args.workspace), time.time, own=True)

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    try:
        return job_entry.run_job(ctx, args.repo_id, args.run, attempt=args.attempt, say=say, asked=asked)
    finally:
        ctx.close()


def submit(args: argparse.Namespace) -> int:
    """Queue a recipe as a Job, or its sweep as several, see them taken by the Hub, and leave them to run."""
    text = sys.stdin.read() if args.recipe == "-" else read_recipe_text(args.recipe)
    texts = expand(text, [*args.overrides, "launch.where=hf-jobs"])
    with opened(args, own=True) as ctx:
        queued = [runs.submit(ctx, each).id for each in texts]
        while jobs.is_any_starting(ctx, queued):
            time.sleep(LOOK_EVERY_S)
        told = [jobs.describe(ctx, run_id) for run_id in queued]
    for one in told:
        if not args.json:
            print(f"{one['run']}  {one['state']}  {one['flavor']}  {one['url']}  {one['reason']}".rstrip())
    if args.json:
        print(json.dumps(told))
    return 1 if any(one["state"] == "failed" for one in told) else 0


def logs(args: argparse.Namespace) -> int:
    """Print the end of a Job's log, with --follow once it is over; leaving stops nothing."""
    with opened(args, own=args.follow) as ctx:
        run = jobs.require_run_on_jobs(ctx, args.run)
        while args.follow and runs.show(ctx, run.id).state not in FINAL:
            time.sleep(LOOK_EVERY_S)
        print(runs.log_tail(ctx, run.id, lines=args.lines))
    return 0


def cancel(args: argparse.Namespace) -> int:
    """End a Job at once, and see it ended."""
    with opened(args, own=True) as ctx:
        run = jobs.require_run_on_jobs(ctx, args.run)
        runs.cancel(ctx, run.id)
        while runs.show(ctx, run.id).state not in FINAL:
            time.sleep(LOOK_EVERY_S)
        told = jobs.describe(ctx, run.id)
    print(json.dumps(told) if args.json else f"{told['run']}: {told['state']}. {told['reason']}")
    return 0


def list_all(args: argparse.Namespace) -> int:
    """Print the Jobs of this workspace's runs, newest first."""
    with opened(args) as ctx:
        found = jobs.list_jobs(ctx)
    if args.json:
        print(json.dumps(found))
        return 0
    for row in found:
        cost = "" if row["usd"] is None else f"${row['usd']:.2f}"
        print(
            f"{row['run']}  {row['state']:<9}  {row['flavor']:<12} {row['stage']:<10} {row['seconds']:>8.0f} s  "
            f"{cost:>8}  {row['name']}  {row['url']}".rstrip()
        )
    return 0
