"""`codex-space export`."""

import argparse
import sys
from typing import Any

from codex_space.cli.evaluate import reference
from codex_space.cli.follow import follow
from codex_space.cli.opened import opened
from codex_space.services import exports, runs
from codex_space.services.context import Context
from codex_space.store.runs import Run


def export(args: argparse.Namespace) -> int:
    """Queue an export, follow it to its end, and show what was proven of each file."""
    with opened(args, own=True) as ctx:
        kinds = [name.strip().upper() for name in args.gguf.split(",") if name.strip()]
        text = exports.recipe_text(
            reference(ctx, args.model),
            kinds,
            name=args.name,
            system=args.system,
            imatrix=args.imatrix,
            adapter=args.adapter,
            repo_id=args.push,
        )
        run_id = runs.submit(ctx, text).id
        code = follow(ctx, run_id, as_json=args.json, tell=_tell)
        if not args.json:
            _print_table(ctx, run_id)
        elif code:
            print(f"codex-space: {runs.show(ctx, run_id).reason}", file=sys.stderr)
        return code


def _tell(ctx: Context, run: Run) -> dict[str, Any]:
    found = exports.read(ctx, run.id)
    names = ("path", "type", "bytes", "kl", "top1", "tokens_equal", "passed", "why")
    folder = ctx.workspace.job(run.id).export
    files = [{name: row[name] for name in names} | {"path": str(folder / row["path"])} for row in found["files"]]
    return {"files": files, "card": found["card"], "note": found["note"]}


def _print_table(ctx: Context, run_id: str) -> None:
    found = exports.read(ctx, run_id)
    for row in found["files"]:
        if row["passed"]:
            proof = f"KL {row['kl']:.2g}, same top token {100 * row['top1']:.1f} %, {row['tokens_per_s']:,.0f} tokens/s"
        else:
            proof = f"not offered: {row['why']}"
        print(f"  {row['type']:<8} {row['bytes'] / 1e6:>9,.1f} MB  {proof}")
    if found["note"]:
        print(f"  {found['note']}")
    print(f"  {ctx.workspace.job(run_id).export}")
