"""`codex-space runs ...`."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence

from codex_space.cli.follow import follow, wait_for_resume
from codex_space.cli.opened import opened
from codex_space.services import brought, from_hub, runs
from codex_space.services.bring_back import bring_back
from codex_space.services.context import Context
from codex_space.services.interrupted import Interrupted, Interruptions
from codex_space.services.summary import compare as compare_runs
from codex_space.services.summary import summarize


def list_all(args: argparse.Namespace) -> int:
    """Print runs, newest first."""
    with opened(args) as ctx:
        found = runs.list_runs(ctx, limit=args.limit)
    if args.json:
        print(json.dumps([{key: value for key, value in vars(run).items() if key != "recipe"} for run in found]))
        return 0
    for run in found:
        steps = f"{run.step:,}/{run.max_steps:,}" if run.max_steps else f"{run.step:,}"
        print(f"{run.id}  {run.state:<9}  {steps:>13}  {run.name}  {run.reason}".rstrip())
    return 0


def show(args: argparse.Namespace) -> int:
    """Print one run."""
    with opened(args) as ctx:
        run = runs.show(ctx, args.run)
        rows = runs.checkpoints(ctx, run.id)
        summary = summarize(ctx, run.id)
    if args.json:
        print(json.dumps({**summary, "recipe": run.recipe}))
        return 0
    print(f"{run.id}  {run.name}\nstate: {run.state}  step: {run.step}/{run.max_steps}  {run.reason}".rstrip())
    for row in rows:
        print(
            f"checkpoint step {row.step}: {row.size_bytes / 1e6:.1f} MB{'' if row.on_disk else ', not here'}, "
            f"Hub: {row.upload} {row.upload_error}".rstrip()
        )
    if probe := summary["probe"]:
        beside = f", estimated {probe['estimated_gib']:.2f}" if probe["estimated_gib"] else ""
        print(f"memory of a step on the longest rows: {probe['peak_gib']:.2f} GiB{beside}")
    for alert in summary["alerts"]:
        print(f"{alert['kind'].replace('_', ' ')}: {alert['text']} {alert['action']}")
    if summary["score"] is not None:
        print(f"progress score: {summary['score']:.2f} of 1 ({summary['score_formula']})")
    print(f"\n{run.recipe}", end="")
    return 0


def stop(args: argparse.Namespace) -> int:
    """Ask a run to save and end."""
    return _tell(args, runs.stop, "asked to save a checkpoint and end")


def cancel(args: argparse.Namespace) -> int:
    """End a run at once."""
    return _tell(args, runs.cancel, "asked to end at once")


def save(args: argparse.Namespace) -> int:
    """Ask for a checkpoint."""
    return _tell(args, runs.save_now, "asked for a checkpoint")


def delete(args: argparse.Namespace) -> int:
    """Remove a run."""
    return _tell(args, runs.delete, "deleted")


def resume(args: argparse.Namespace) -> int:
    """Go on with an ended run and follow it."""
    with opened(args, own=True) as ctx:
        run = runs.resume(ctx, args.run)
        wait_for_resume(ctx, run.id)
        return follow(ctx, run.id, as_json=args.json)


def resume_from_hub(args: argparse.Namespace) -> int:
    """Fetch a run from its Hub repository and go on with it."""
    with opened(args, own=True) as ctx:
        return follow(ctx, from_hub.resume_from_hub(ctx, args.repo_id).id, as_json=args.json)


def fetch(args: argparse.Namespace) -> int:
    """Bring a checkpoint back from the Hub."""
    with opened(args) as ctx:
        told = bring_back(ctx, args.run, args.step)
    word = "is here already" if told["was_here"] else "is here again"
    print(json.dumps(told) if args.json else f"{told['run']}: step {told['step']} {word}, in {told['path']}")
    return 0


def take_up(args: argparse.Namespace) -> int:
    """Train a run whose folder was brought here, or go on with it."""
    if args.ready:
        with opened(args) as ctx:
            print(brought.make_ready(ctx, args.run))
        return 0
    with opened(args, own=True) as ctx:
        run = brought.take_up(ctx, args.run)
        if run.state != "succeeded":  # its last end, found in its folder, is still what is stored of it
            wait_for_resume(ctx, run.id)
        return follow(ctx, run.id, as_json=args.json)


def interrupted(args: argparse.Namespace) -> int:
    """Print the runs that lost their machine, and with --resume-all go on with all that can."""
    with opened(args, own=args.resume_all) as ctx:
        found = Interruptions(ctx)
        if ctx.settings.hf_token is not None:
            found.look()
        listed, queued, code = found.found(), [], 0
        if not args.resume_all:
            _print_interrupted(listed, as_json=args.json)
            return 0
        for one in listed:
            if one.blocked:
                print(f"{one.run_id}: {one.blocked}", file=sys.stderr)
                code = 1
                continue
            queued.append(found.go_on(one.run_id).id)
        for run_id in queued:
            wait_for_resume(ctx, run_id)
            code = max(code, follow(ctx, run_id, as_json=args.json))
    return code


def _print_interrupted(listed: Sequence[Interrupted], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([vars(one) for one in listed]))
        return
    for one in listed:
        where = f"from step {one.step:,}" if one.step else "from its beginning"
        told = f"cannot go on: {one.blocked}" if one.blocked else f"goes on {where}"
        print(f"{one.run_id}  {one.where:<4}  {one.name}  {told}. {one.told}")


def logs(args: argparse.Namespace) -> int:
    """Print the end of a run's log."""
    with opened(args) as ctx:
        print(runs.log_tail(ctx, args.run, lines=args.lines, search=args.search))
    return 0


def rename(args: argparse.Namespace) -> int:
    """Give a run another name."""
    with opened(args) as ctx:
        runs.rename(ctx, args.run, args.name)
    return 0


def compare(args: argparse.Namespace) -> int:
    """Print in what runs differ, and how each ended."""
    with opened(args) as ctx:
        print_compared(ctx, args.runs, as_json=args.json)
    return 0


def print_compared(ctx: Context, run_ids: Sequence[str], *, as_json: bool) -> None:
    """Print a table of runs: the recipe keys in which they differ, losses, pass@1, seconds; the best one is marked."""
    found = compare_runs(ctx, run_ids)
    if as_json:
        print(json.dumps(found))
        return
    table = [["run", *found["keys"], "status", "final_loss", "eval_loss", "pass@1", "seconds"]]
    for row in found["rows"]:
        losses = ["" if row[name] is None else f"{row[name]:.4f}" for name in ("final_loss", "eval_loss")]
        rate = "" if row["pass_rate"] is None else f"{100 * row['pass_rate']:.1f} %"
        mark = f"  best by {found['by']}" if row["best"] else ""
        table.append(
            [row["run"], *map(str, row["values"]), row["status"], *losses, rate, f"{row['seconds']:.0f}{mark}"]
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _tell(args: argparse.Namespace, verb: Callable[[Context, str], None], said: str) -> int:
    with opened(args) as ctx:
        run = runs.show(ctx, args.run)
        verb(ctx, run.id)
    print(json.dumps({"run": run.id, "said": said}) if args.json else f"{run.id}: {said}")
    return 0
