"""`codex-space data ...`."""

import argparse
import json
import os
from pathlib import Path

from codex_space.cli.opened import opened
from codex_space.core.errors import DataError
from codex_space.services import datasets


def list_all(args: argparse.Namespace) -> int:
    """Print the workspace's datasets."""
    with opened(args) as ctx:
        found = datasets.list_datasets(ctx)
    if args.json:
        print(json.dumps([vars(info) for info in found], default=str))
        return 0
    for info in found:
        print(f"dataset:{info.name}  {info.num_rows:,} rows  {info.format}")
    return 0


def inspect_file(args: argparse.Namespace) -> int:
    """Say what a file is; 1 where something is wrong with it."""
    found = datasets.inspect(args.file, _columns(args))
    if args.json:
        print(json.dumps({**vars(found), "problems": [vars(problem) for problem in found.problems]}, default=str))
    else:
        print(f"{args.file}: {found.num_rows:,} rows, format {found.format or 'unknown'}")
        for problem in found.problems:
            print(f"{problem.unit} {problem.line}: {problem.what}. {problem.cure}")
    return 1 if found.problems else 0


def import_file(args: argparse.Namespace) -> int:
    """Keep a checked copy of a file as a dataset."""
    with opened(args) as ctx:
        # abspath takes .. out of what a person typed without following links; uploads with .. stay refused
        path = Path(os.path.abspath(args.file))  # noqa: PTH100  # resolve() would follow them
        info = datasets.import_file(ctx, path, args.name, _columns(args))
    text = f"dataset:{info.name}  {info.num_rows:,} rows  {info.format}"
    print(json.dumps(vars(info), default=str) if args.json else text)
    return 0


def delete(args: argparse.Namespace) -> int:
    """Remove a dataset."""
    with opened(args) as ctx:
        datasets.delete(ctx, args.name)
    return 0


def _columns(args: argparse.Namespace) -> dict[str, str]:
    pairs = [text.partition("=") for text in args.column]
    if any(not ours or not theirs for ours, _, theirs in pairs):
        raise DataError("--column wants OURS=THEIRS", cure="For example --column prompt=question.")
    return {ours: theirs for ours, _, theirs in pairs}
