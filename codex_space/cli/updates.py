"""`codex-space space update`: what is new in the Space a copy came from, and taking it over."""

import argparse
import dataclasses
import json
import sys

from codex_space.cli.opened import opened
from codex_space.core.errors import WorkspaceError
from codex_space.services import leaving, updates
from codex_space.services.context import Context

SHOWN_COMMITS = 10


def update(args: argparse.Namespace) -> int:
    """Say what would change, ask, then commit it to the copy."""
    with opened(args) as ctx:
        found = updates.look(ctx, space_id=args.space, origin=args.source)
        if not args.json:
            _print(found)
        if args.dry_run or not found.files:
            return _end(args, found)
        if args.drain and found.space_id != ctx.settings.space_id:
            cure = "Update it from its own Space tab."
            raise WorkspaceError("only the Space itself can save what runs in it", where=found.space_id, cure=cure)
        if not args.yes and not _agrees(ctx, found):
            raise WorkspaceError("nothing was changed", where=found.space_id, cure="--yes does it without asking.")
        if args.drain:
            leaving.drain(ctx)
            print("What runs here is saved and stopped; `codex-space space stay` takes that back.", file=sys.stderr)
        commit = updates.take(ctx, found, args.own)
    return _end(args, found, commit)


def _end(args: argparse.Namespace, found: updates.Update, commit: str = "") -> int:
    if args.json:
        print(json.dumps({**dataclasses.asdict(found), "own": found.own, "commit": commit}))
    elif commit:
        print(f"Updated: commit {commit[:7]}. The Hub builds the Space now and restarts it.")
    return 0


def _print(found: updates.Update) -> None:
    base = found.base_commit[:7] or "an unknown version"
    if not found.files:
        print(f"{found.space_id} has all of {found.origin} at {found.origin_commit[:7]}.")
        return
    print(f"{found.space_id} stands on {found.origin} at {base}; there it is {found.origin_commit[:7]} now.")
    for line in found.commits[:SHOWN_COMMITS]:
        print(f"  {line.id[:7]} {_plain(line.title)}")
    if len(found.commits) > SHOWN_COMMITS:
        print(f"  and {len(found.commits) - SHOWN_COMMITS} older commits")
    for one in found.files:
        own = "  (changed in the copy too)" if one.is_own else ""
        print(f"{one.kind:<8} {_plain(one.path)}{own}")
    for note in found.notes:
        print(note)


def _agrees(ctx: Context, found: updates.Update) -> bool:
    if found.space_id == ctx.settings.space_id:
        for sentence in ["The Space restarts on an empty disk.", *leaving.losses(ctx)]:
            print(sentence, file=sys.stderr)
    return sys.stdin.isatty() and input(f"Update {found.space_id}? [y/N] ").strip().lower() == "y"


def _plain(text: str) -> str:
    """A title may hold anything: what would move the terminal's cursor is left out."""
    return "".join(one for one in text if one.isprintable())[:200]
