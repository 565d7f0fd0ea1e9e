"""Stand by a run until it and its uploads are over, with one line of progress; Ctrl-C stops it and keeps the work."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from codex_space.jobs.owner import is_owned
from codex_space.services import after, evaluations, runs
from codex_space.services.context import Context
from codex_space.services.summary import summarize
from codex_space.store.runs import FINAL, Run

LOOK_EVERY_S = 0.1
RESUME_S = 10.0
OK_STATES = {"succeeded", "stopped"}


def follow(
    ctx: Context, run_id: str, *, as_json: bool, tell: Callable[[Context, Run], dict[str, Any]] | None = None
) -> int:
    """Wait for the end of a run and print it; 0 where it succeeded or was stopped on purpose, else 1.

    `tell` returns the JSON to print.
    """
    code = wait(ctx, run_id, quiet=as_json)
    run = runs.show(ctx, run_id)
    if as_json:
        print(json.dumps(tell(ctx, run) if tell else summarize(ctx, run.id)))
    else:
        _print_end(ctx, run)
    return code


def wait(ctx: Context, run_id: str, *, quiet: bool) -> int:
    """Wait for the end of a run, saying how far it is; 0 where it succeeded or was stopped on purpose, else 1."""
    line = ""
    try:
        run = runs.show(ctx, run_id)
        while run.state not in FINAL or _left_to_upload(ctx, run) or _left_to_grade(ctx, run) or _left_after(ctx, run):
            shown = _progress(ctx, run)
            if shown != line and not quiet:
                _rewrite(shown)
                line = shown
            time.sleep(LOOK_EVERY_S)
            run = runs.show(ctx, run_id)
    except KeyboardInterrupt:
        run = _stop_and_keep(ctx, run_id)
        for export_id in _following(ctx, run):
            _stop_and_keep(ctx, export_id)
    if line:
        print(file=sys.stderr)
    has_no_score = any(one["state"] == "failed" for one in summarize(ctx, run.id)["evaluations"])
    has_no_export = any(one["state"] in {"failed", "lost"} for one in after.read(ctx, run))
    is_bad = run.state not in OK_STATES or (run.kind == "evaluate" and has_no_score)
    return 1 if is_bad or has_no_export else 0


def wait_for_resume(ctx: Context, run_id: str) -> None:
    """Wait until the owner has queued an ended run again; with no owner about, not for long."""
    deadline = time.monotonic() + RESUME_S
    while runs.show(ctx, run_id).state in FINAL and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)


def _stop_and_keep(ctx: Context, run_id: str) -> Run:
    print("\nstopping; a checkpoint is saved first (Ctrl-C again leaves at once)", file=sys.stderr)
    run = runs.show(ctx, run_id)
    if run.state not in FINAL:
        runs.stop(ctx, run_id)
    while run.state not in FINAL:
        time.sleep(LOOK_EVERY_S)
        run = runs.show(ctx, run_id)
    return run


def _left_to_upload(ctx: Context, run: Run) -> int:
    if ctx.owner is None or run.repo_id is None:
        return 0
    waiting = sum(row.upload in {"queued", "uploading"} for row in runs.checkpoints(ctx, run.id))
    return waiting + (run.state in FINAL and runs.card_waits(ctx, run))


def _left_to_grade(ctx: Context, run: Run) -> int:
    grades_somebody = ctx.owner is not None or is_owned(ctx.workspace) is not None
    return evaluations.count_waiting(ctx, run.id) if grades_somebody else 0


def _following(ctx: Context, run: Run) -> list[str]:
    """Return the runs that were queued to follow it."""
    return [one["run"] for one in after.read(ctx, run) if one["run"]]


def _left_after(ctx: Context, run: Run) -> str:
    """Return what is still to come of a run that succeeded, where this process is the one to do it."""
    if ctx.owner is None or run.state != "succeeded":
        return ""
    for one in after.read(ctx, run):
        if one["state"] in after.PENDING and one["reason"] != after.NO_TOOLS:
            percent = f" {runs.show(ctx, one['run']).step} %" if one["run"] else ""
            return f"{one['verb']} {one['state']}{percent}"
        if one["run"] and (left := _left_to_upload(ctx, runs.show(ctx, one["run"]))):
            return f"{left} export on its way to the Hub"
    return ""


def _progress(ctx: Context, run: Run) -> str:
    if run.state in FINAL:
        if waiting := _left_to_grade(ctx, run):
            return f"{run.id}  {run.state}; {waiting} evaluation{'s' if waiting > 1 else ''} being graded"
        if following := _left_after(ctx, run):
            return f"{run.id}  {run.state}; {following}"
        return f"{run.id}  {run.state}; {_left_to_upload(ctx, run)} checkpoints or cards on their way to the Hub"
    if not run.max_steps:
        return f"{run.id}  {run.state}  {run.phase}"
    done = int(24 * run.step / run.max_steps)
    bar = "#" * done + "." * (24 - done)
    return f"{run.id}  {run.state}  [{bar}] {run.step:,}/{run.max_steps:,}"


def _rewrite(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr)


def _print_end(ctx: Context, run: Run) -> None:
    summary = summarize(ctx, run.id)
    loss = f", loss {summary['first_loss']:.3f} -> {summary['final_loss']:.3f}" if summary["final_loss"] else ""
    print(f"{run.id}: {run.state}, {run.step:,} steps{loss}, {summary['seconds']:.0f} s. {run.reason}".rstrip())
    for one in summary["evaluations"]:
        for score in one["scores"]:
            print(f"  step {one['step']}: {_told(score)}")
        print(f"  step {one['step']}: {one['benchmark']} {one['state']}. {one['reason'] or one['protocol']}")
    for one in summary["after"]:
        where = f" as {one['run']}" if one["run"] else ""
        print(f"  then {one['verb']} {', '.join(one['types'])}: {one['state']}{where}. {one['reason']}".rstrip())
    for checkpoint in summary["checkpoints"]:
        print(f"  step {checkpoint['step']}: {checkpoint['path'] or 'only on the Hub'}  Hub: {checkpoint['hub']}")


def _told(score: dict[str, Any]) -> str:
    unit, (value, low, high) = score.get("unit"), (score["value"], score["low"], score["high"])
    if unit and unit != "share":
        return f"{score['name']} {value:.4g}, 95 % interval {low:.4g} to {high:.4g}"
    what = score["name"] if unit else f"{score['name']} pass@1"
    return f"{what} {100 * value:.1f} %, 95 % interval {100 * low:.1f} to {100 * high:.1f}"
