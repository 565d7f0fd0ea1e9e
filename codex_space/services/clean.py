"""Clean-up: take off this machine what can be had again, and nothing else.

Covered: a checkpoint goes only when the Hub, asked at that moment, holds its very bytes (hub/proof.py), its run is over,
nobody holds it, and a resume loses nothing by it; what only lies here stays. No link is followed. It leaves in one rename,
with a note of where it is, so that a kill at any moment leaves it whole or gone. Not covered: the resume state of
checkpoints older than the newest is not on the Hub, and goes with them: a resume begins with the newest.
"""

import contextlib
import os
import shutil
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from codex_space.core import durable, scratch
from codex_space.core.errors import CodexError, HubBusyError, WorkspaceError
from codex_space.core.recipe import parse_recipe
from codex_space.data.catalog import STALE_AFTER_S
from codex_space.hub.client import Hub
from codex_space.hub.proof import prove
from codex_space.jobs import away, references, resume_point
from codex_space.jobs.process import adopt, read_identity
from codex_space.services import after, cached_models, cached_tokens
from codex_space.services.context import Context
from codex_space.store import checkpoints as rows
from codex_space.store import runs as run_rows
from codex_space.store.runs import ACTIVE, FINAL

KINDS = {
    "checkpoints": "older checkpoints that are on the Hub",
    "newest": "the last checkpoint of ended runs, where it is on the Hub",
    "scratch": "what killed programs left",
    "caches": "what is made again when it is needed",
    "models": "models downloaded from the Hub (on a Space, while nothing runs)",
}
"""What may go, by kind; `newest` and `models` only where they are named, since people chat with those."""
USUAL = ("checkpoints", "scratch", "caches")


@dataclass(frozen=True)
class Item:
    """Something that may go.

    Attributes:
        size_bytes: What the disk gains: a file that is also linked from elsewhere gains it nothing.
        why: Why that is safe.
    """

    kind: str
    path: Path
    name: str
    size_bytes: int
    why: str
    run_id: str = ""
    step: int = 0


@dataclass(frozen=True)
class Kept:
    """Something of a kind that may go, and why it stays."""

    name: str
    why: str


@dataclass(frozen=True)
class Plan:
    """What may go as far as this machine knows; the Hub is asked when it goes."""

    items: list[Item]
    kept: list[Kept]

    def size_bytes(self, kind: str) -> int:
        """Return what a kind would give back."""
        return sum(item.size_bytes for item in self.items if item.kind == kind)


@dataclass(frozen=True)
class Cleaned:
    """What became of it; `stopped` says why it ended early, empty where it did not."""

    removed: list[Item]
    kept: list[Kept]
    stopped: str = ""

    @property
    def size_bytes(self) -> int:
        """What the disk has gained."""
        return sum(item.size_bytes for item in self.removed)


def plan(ctx: Context) -> Plan:
    """Return what may go and what stays, without asking the Hub."""
    away.settle(ctx.db, ctx.workspace)
    found, held = Plan([], []), _held(ctx)
    for row in rows.list_sent(ctx.db):
        run_name = run_rows.read_run(ctx.db, row.run_id).name
        path, name = ctx.workspace.job(row.run_id).checkpoint(row.step), f"{run_name} ({row.run_id}) step {row.step:,}"
        if why := _why_held(ctx, held, row.run_id, row.step):
            found.kept.append(Kept(name, why))
            continue
        is_newest = row.step == max(ctx.workspace.job(row.run_id).checkpoint_steps(), default=0)
        kind = "newest" if is_newest else "checkpoints"
        size_bytes, safe = _gain_bytes(path), "on the Hub; compared by hash before it goes"
        if size_bytes:  # an export's files are linked, and stay
            found.items.append(Item(kind, path, name, size_bytes, safe, row.run_id, row.step))
    found.items.extend(_scratch(ctx))
    found.items.extend(_caches(ctx))
    for path, is_read in cached_tokens.find(ctx.workspace):
        name = f"tokens {path.name[:8]}"
        if is_read:
            found.kept.append(Kept(name, cached_tokens.IN_USE))
        else:
            found.items.append(
                Item("caches", path, name, _gain_bytes(path), "made again by the next run on these texts")
            )
    for cached in cached_models.find(ctx):
        size_bytes, safe = _gain_bytes(cached.path), "downloaded again when it is needed; the Hub is asked for it first"
        found.items.append(Item("models", cached.path, cached.repo_id, size_bytes, safe))
    return found


def clean(ctx: Context, kinds: tuple[str, ...] = USUAL, *, dry_run: bool = False) -> Cleaned:
    """Delete what may go of these kinds; with `dry_run` only ask the Hub, and delete nothing.

    Raises:
        WorkspaceError: There is no such kind, or another process cleans up.
        HubBusyError: The Hub does not answer, and nothing was deleted.
    """
    if unknown := set(kinds) - set(KINDS):
        cure = f"Known: {', '.join(KINDS)}."
        raise WorkspaceError(f"{', '.join(sorted(unknown))[:100]!r} is nothing to clean", where="clean", cure=cure)
    with _alone(ctx):
        wanted = plan(ctx)
        done = Cleaned([], list(wanted.kept))
        hub = ctx.hub()
        for item in sorted(
            (each for each in wanted.items if each.kind in kinds),
            key=lambda each: not each.run_id and each.kind != "models",
        ):
            try:
                reason = _remove(ctx, hub, item, dry_run=dry_run)
            except HubBusyError as error:
                if not done.removed:
                    raise
                return Cleaned(done.removed, done.kept, str(error))
            if reason:
                done.kept.append(Kept(item.name, reason))
            else:
                done.removed.append(item)
        if done.removed and not dry_run:
            ctx.note("clean up", f"{len(done.removed)} things, {done.size_bytes / 1e6:,.1f} MB: {', '.join(kinds)}")
        return done


def _remove(ctx: Context, hub: Hub, item: Item, *, dry_run: bool) -> str:
    """Delete one thing, and return why not where it stays.

    Raises:
        HubBusyError: The Hub does not answer.
    """
    if item.kind == "models":
        return _remove_model(ctx, hub, item, dry_run=dry_run)
    if not _is_own(ctx, item.path):
        return "a link leads to it or from it"
    if item.run_id:
        return _remove_checkpoint(ctx, hub, item, dry_run=dry_run)
    if item.path.parent == ctx.workspace.tokens:
        return cached_tokens.remove(ctx.workspace, item.path, dry_run=dry_run)
    if not dry_run:
        shutil.rmtree(item.path, ignore_errors=True)
        if item.path.exists():
            return "its files may not be deleted by this user"
    return ""


def _remove_model(ctx: Context, hub: Hub, item: Item, *, dry_run: bool) -> str:
    cached = next((each for each in cached_models.find(ctx) if each.path == item.path), None)
    return cached_models.remove(hub, cached, dry_run=dry_run) if cached else "somebody needs it now"


def _remove_checkpoint(ctx: Context, hub: Hub, item: Item, *, dry_run: bool) -> str:
    if why := _why_not_proven(ctx, hub, item):
        return why
    if dry_run:
        return ""
    job = ctx.workspace.job(item.run_id)
    try:
        with ctx.db.transaction():  # nobody queues a run or resumes this one meanwhile
            if why := _why_held(ctx, _held(ctx), item.run_id, item.step):
                return why
            away.take(job, item.step)
    except OSError as error:
        return f"it cannot be moved ({error.strerror})"
    away.delete_taken(ctx.db, job, item.step)
    return ""


def _why_not_proven(ctx: Context, hub: Hub, item: Item) -> str:
    """Ask the Hub, and return why the checkpoint cannot be had again; empty where it can.

    Raises:
        HubBusyError: The Hub does not answer.
    """
    run = run_rows.read_run(ctx.db, item.run_id)
    row = next((each for each in rows.list_checkpoints(ctx.db, run.id) if each.step == item.step), None)
    if row is None or not row.commit_id or not run.repo_id:
        return "it is not known where it is on the Hub"
    try:
        has_resume = prove(hub, run.repo_id, row.commit_id, item.path)
    except HubBusyError:
        raise
    except (CodexError, OSError) as error:
        return f"not proven to be on the Hub: {error.what if isinstance(error, CodexError) else error.strerror}"
    goes_on_here = run.state != "succeeded" and item.step >= resume_point.newest(ctx.workspace.job(run.id))
    return (
        "a resume begins with it, and the Hub does not hold its resume state" if goes_on_here and not has_resume else ""
    )


def _held(ctx: Context) -> dict[tuple[str, int | None], str]:
    """Return (run, step or None for all of it) -> who needs it."""
    held: dict[tuple[str, int | None], str] = {}
    for run in run_rows.list_runs(ctx.db, limit=10_000, states=("queued", *sorted(ACTIVE))):
        with contextlib.suppress(CodexError):  # it will fail with its own sentence when its turn comes
            held |= dict.fromkeys(references.run_references(parse_recipe(run.recipe)), f"{run.name!r} needs it")
    for path in ctx.workspace.root.glob("chatting-*.json"):
        identity = read_identity(path)
        handle = adopt(identity) if identity else None
        if handle is None:
            path.unlink(missing_ok=True)
            continue
        handle.close()
        loaded = Path(str((durable.read_json(path) or {}).get("path")))
        step = loaded.name.removeprefix("checkpoint-")
        if step.isdigit():
            held[loaded.parent.name, int(step)] = "it is loaded to chat with"
    return held


def _why_held(ctx: Context, held: dict[tuple[str, int | None], str], run_id: str, step: int) -> str:
    run, job = run_rows.read_run(ctx.db, run_id), ctx.workspace.job(run_id)
    if run.state not in FINAL or run_rows.is_wished(ctx.db, run_id):
        return "its run is not over"
    if job.asked(step).exists():
        return "another run has asked for it"
    if job.spooled(step).exists():
        return "its upload is not over"
    if run.state == "succeeded" and any(one["state"] in {"planned", "waiting"} for one in after.read(ctx, run)):
        return "the export that follows its run is still to come"
    return held.get((run_id, step)) or held.get((run_id, None)) or ""


def _scratch(ctx: Context) -> Iterator[Item]:
    now, workspace = ctx.clock(), ctx.workspace
    tops = (path for path in workspace.root.iterdir() if scratch.NAMES.fullmatch(path.name))
    halves = (path for pattern in (".*.fetch", "spool/.step-*.tmp") for path in workspace.runs.glob(f"*/{pattern}"))
    for path in sorted((*tops, *halves)):
        is_idle = path.parent.name != "spool" or _is_over(ctx, path.parent.parent.name)
        if is_idle and scratch.is_left(path, now):
            name = str(path.relative_to(workspace.root))
            yield Item("scratch", path, name, _gain_bytes(path), "the program that made it is gone")
    for pattern, age_s in ((".incoming-*", STALE_AFTER_S), (".deleted-*", scratch.YOUNG_S)):
        for path in sorted(workspace.datasets.glob(pattern)):
            if now - path.lstat().st_mtime > age_s:
                name, why = f"datasets/{path.name}", "an import or a deletion was killed"
                yield Item("scratch", path, name, _gain_bytes(path), why)


def _caches(ctx: Context) -> Iterator[Item]:
    """Yield what ended runs could make again: a run that may still go on keeps its downloads."""
    for pattern, states in (("cache", ("succeeded",)), ("merged", tuple(FINAL))):
        for path in sorted(ctx.workspace.runs.glob(f"*/{pattern}")):
            if path.is_dir() and _is_over(ctx, path.parent.name, states):
                name = f"{path.parent.name} {path.name}"
                yield Item("caches", path, name, _gain_bytes(path), "made or downloaded again when it is needed")


def _is_over(ctx: Context, run_id: str, states: tuple[str, ...] = tuple(FINAL)) -> bool:
    found = run_rows.list_runs(ctx.db, ids=(run_id,))
    return bool(found) and found[0].state in states and not run_rows.is_wished(ctx.db, run_id)


def _is_own(ctx: Context, path: Path) -> bool:
    """Say whether a folder lies in the workspace itself, not behind a link that leads elsewhere."""
    root = ctx.workspace.root.resolve()
    return path.is_dir() and path.resolve() == root / path.relative_to(ctx.workspace.root)


def _gain_bytes(folder: Path) -> int:
    total = 0
    for at, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                facts = (Path(at) / name).lstat()
                total += facts.st_blocks * 512 if facts.st_nlink == 1 else 0
    return total


@contextlib.contextmanager
def _alone(ctx: Context) -> Generator[None]:
    with scratch.held(ctx.workspace.runs) as is_free:
        if not is_free:
            raise WorkspaceError(
                "another clean-up is under way", where=str(ctx.workspace.root), cure="Wait for its end."
            )
        yield
