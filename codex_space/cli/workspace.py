"""`codex-space workspace ...`."""

import argparse
import json
import sys
import time
from dataclasses import asdict

from codex_space.cli.opened import opened
from codex_space.core.errors import WorkspaceError
from codex_space.core.paths import Workspace
from codex_space.core.settings import read_settings
from codex_space.core.units import render_bytes
from codex_space.jobs.owner import is_owned
from codex_space.services import backup as archives
from codex_space.services import clean as cleaning
from codex_space.services import disk as disks
from codex_space.services import rebuild as rebuilding
from codex_space.services.context import make_hub
from codex_space.store.db import Database


def backup(args: argparse.Namespace) -> int:
    """Write the archive and say what is in it."""
    with opened(args) as ctx:
        told = archives.backup(ctx, args.file)
    print(
        json.dumps(told) if args.json else f"{args.file}: {told['runs']} runs, {told['files']:,} files, "
        f"{told['size_bytes'] / 1e6:.1f} MB; {told['left_out']} checkpoints that are on the Hub were left out"
    )  # fmt: skip
    return 0


def restore(args: argparse.Namespace) -> int:
    """Unpack an archive into an empty folder."""
    told = archives.restore(args.file, Workspace(read_settings(workspace=args.workspace).workspace))
    print(json.dumps(told) if args.json else f"{told['workspace']}: {told['runs']} runs, {told['files']:,} files")
    return 0


def rebuild(args: argparse.Namespace) -> int:
    """Set the database aside and make it again."""
    settings = read_settings(workspace=args.workspace)
    workspace = Workspace(settings.workspace).make()
    if (pid := is_owned(workspace)) is not None:
        raise WorkspaceError(
            f"another process (pid {pid}) owns this workspace", where=str(workspace.root), cure="End it."
        )
    now = time.time()
    aside = rebuilding.set_aside(workspace, now)
    db = Database.open(workspace.database)
    try:
        made = rebuilding.rebuild(db, workspace, lambda: make_hub(settings), now)
    finally:
        db.close()
    kept = f"; the old database is {aside.name}" if aside else ""
    lacking = "Evaluations are graded again by the next owner; the log of who did what stays in the old database."
    told = {"runs": made, "set_aside": str(aside) if aside else None}
    print(json.dumps(told) if args.json else f"{len(made)} runs brought back{kept}. {lacking}")
    return 0


def disk(args: argparse.Namespace) -> int:
    """Print what each part of the workspace takes, and what is free."""
    with opened(args) as ctx:
        found = disks.read(ctx, anew=True)
        warning = disks.warning(ctx, found)
        hub = disks.ask_hub(ctx) if args.hub else None
        may_go = cleaning.plan(ctx)
    offered = {kind: may_go.size_bytes(kind) for kind in cleaning.KINDS}
    if args.json:
        told = {**asdict(found.usage), "free_bytes": found.free_bytes, "size_bytes": found.size_bytes}
        print(json.dumps({**told, "warning": warning, "may_go": offered, "hub": asdict(hub) if hub else None}))
        return 0
    usage = found.usage
    for part, size_bytes in sorted(usage.parts.items(), key=lambda each: -each[1]):
        print(f"{part:<12}  {render_bytes(size_bytes):>9}")
    print(
        f"{'together':<12}  {render_bytes(usage.used_bytes):>9}{'  (more than was looked at)' if usage.is_partial else ''}"
    )
    print(f"{'free':<12}  {render_bytes(found.free_bytes):>9} of {render_bytes(found.size_bytes)}")
    if usage.hub_cache_bytes:
        print(
            f"{'Hub cache':<12}  {render_bytes(usage.hub_cache_bytes):>9}, outside the workspace; `hf cache rm` takes models out of it"
        )
    for kind, size_bytes in offered.items():
        if size_bytes:
            print(
                f"may go: {render_bytes(size_bytes)} by `codex-space workspace clean {kind}` ({cleaning.KINDS[kind]})"
            )
    for owner, size_bytes in sorted(hub.owners.items()) if hub else []:
        quota = hub.quotas.get(owner) if hub else None
        of = f" of {render_bytes(quota)} private that come with the account" if quota else ""
        print(f"Hub: our repositories of {owner} hold {render_bytes(size_bytes)}{of}")
    if warning:
        print(warning)
    return 0


def clean(args: argparse.Namespace) -> int:
    """Delete what can be had again, and say what went and what stays."""
    with opened(args) as ctx:
        done = cleaning.clean(ctx, tuple(args.kinds) or cleaning.USUAL, dry_run=args.dry_run)
    if args.json:
        rows = [{**asdict(item), "path": str(item.path)} for item in done.removed]
        told = {"dry_run": args.dry_run, "removed": rows, "kept": [asdict(each) for each in done.kept]}
        print(json.dumps({**told, "size_bytes": done.size_bytes, "stopped": done.stopped}))
        return 1 if done.stopped else 0
    for item in done.removed:
        print(f"{'would go' if args.dry_run else 'gone'}: {item.name}  {render_bytes(item.size_bytes)}  {item.why}")
    for each in done.kept:
        print(f"stays: {each.name}  {each.why}")
    print(f"{render_bytes(done.size_bytes)} {'would be' if args.dry_run else 'are'} free again")
    if done.stopped:
        print(f"codex-space: ended early: {done.stopped}", file=sys.stderr)
    return 1 if done.stopped else 0
