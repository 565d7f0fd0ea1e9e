"""Take up a run whose machine is gone, from what the Hub keeps: its note, repository and rows."""

import logging
import shutil
from dataclasses import replace

from codex_space.core import durable
from codex_space.core.errors import CodexError, HubBusyError, HubError, HubNotFoundError, RunError
from codex_space.core.paths import MANIFEST, JobDir
from codex_space.core.recipe import parse_recipe
from codex_space.core.shared_recipe import BaseRecipe
from codex_space.hub import fetch, parents
from codex_space.hub.client import Hub
from codex_space.hub.fetch import FetchedRun
from codex_space.hub.manifest import parse_manifest
from codex_space.hub.registry import Entry, Registry
from codex_space.jobs.announce import make_holder
from codex_space.jobs.references import run_references
from codex_space.jobs.replay import replay
from codex_space.services import checks
from codex_space.services.context import Context
from codex_space.store import checkpoints as checkpoint_rows
from codex_space.store import runs as run_rows
from codex_space.store.runs import Run

NO_ROWS = "its rows were not kept on the Hub"
KEEP_ROWS = "Only a run submitted with hub.keep_rows: true can go on without its machine."
MAX_CHECKED = 200

_log = logging.getLogger(__name__)


def resume_from_hub(ctx: Context, repo_id: str) -> Run:
    """Fetch recipe, rows and newest checkpoint, and queue the run to go on; whoever else trains it has to let go.

    Raises:
        HubError: The repository cannot be read, or holds no checkpoint to go on from.
        RunError: It is in this workspace already, or its rows were not kept.
    """
    run_id = fetch.find_checkpoint(ctx.hub(), repo_id).manifest.run_id
    require_absent(ctx, run_id)
    note = None
    try:
        note = claim(ctx, repo_id.split("/")[0], run_id, force=True)
    except HubBusyError:
        raise
    except HubError as error:  # a token that may read the repository and not the notes
        _log.warning("the note of %s is left as it is: %s", run_id, error)
    return bring_back(ctx, repo_id, run_id, note)


def require_absent(ctx: Context, run_id: str) -> None:
    """Refuse a run that is in this workspace.

    Raises:
        RunError: It is.
    """
    if run_rows.list_runs(ctx.db, ids=(run_id,)):
        raise RunError("this run is in the workspace already", where=run_id, cure="Resume it from the Runs tab.")


def claim(
    ctx: Context, owner: str, run_id: str, *, force: bool = False, rises: tuple[int, int] | None = None
) -> Entry | None:
    """Note in the Hub that this workspace has taken the run up; return the note, None where there is none.

    Raises:
        RunError: Another machine trains it, and `force` was not given.
        HubBusyError: Another machine wrote at the same moment, or no answer: read again.
        HubError: As the Hub refuses.
    """
    if ctx.settings.resume == "off":
        return None
    registry = Registry(ctx.hub(), owner)
    try:
        seen = registry.read()
    except HubNotFoundError:
        return None
    entry = seen.entries.get(run_id)
    if entry is None:
        return None
    now = ctx.clock()
    me = make_holder(ctx.settings, ctx.workspace, now)
    if not force and entry.holder.keeps_from(me, now):
        raise RunError(f"{entry.holder.name} trains it", where=run_id, cure="Stop it there first.")
    mine = replace(entry, holder=me, state="queued", rises=entry.rises if rises is None else rises)
    registry.write(seen, [mine])
    return mine


def let_go(ctx: Context, note: Entry) -> None:
    """Say in the Hub that a run was not taken up after all; no answer means that it is found once this falls silent."""
    registry = Registry(ctx.hub(), note.repo_id.split("/")[0])
    try:
        registry.write(registry.read(), [replace(note, holder=replace(note.holder, is_released=True))])
    except CodexError as error:
        _log.warning("%s could not be given back: %s", note.run_id, error)


def bring_back(ctx: Context, repo_id: str, run_id: str, note: Entry | None) -> Run:
    """Fetch a run and queue it; one that has no checkpoint on the Hub begins anew where its data can be had.

    Raises:
        HubError: It cannot be read.
        RunError: Its rows were not kept, or what it builds on is neither here nor on the Hub.
        DataError: It has no checkpoint, and its data was on the machine that is gone.
    """
    hub = ctx.hub()
    try:
        found = fetch.fetch_run(hub, repo_id, ctx.workspace, run_id=run_id)
    except HubNotFoundError:
        if note is None:
            raise
        found = None
    job = ctx.workspace.job(run_id)
    if found and not found.num_row_files:
        shutil.rmtree(job.root, ignore_errors=True)
        raise RunError(NO_ROWS, where=repo_id, cure=KEEP_ROWS)
    text = found.recipe_text if found else note.recipe if note else ""
    recipe = parse_recipe(text)
    if run_references(recipe):
        _fetch_parents(ctx, hub, repo_id, run_id)
        require_parents(ctx, recipe)
    if found is None:
        checks.require_sources(ctx, recipe)
        job.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        durable.write_text(job.recipe, text)
    if note:
        _write_notes(hub, job, note)
    on_hub = checkpoints_on_hub(hub, repo_id, run_id)
    kind, now = str(getattr(recipe, "kind", "")), ctx.clock()
    name = note.name if note else recipe.name or kind
    with ctx.db.transaction():
        run_rows.insert_run(ctx.db, id=run_id, name=name, kind=kind, recipe=text, repo_id=repo_id, now=now)
        run_rows.update_progress(ctx.db, run_id, attempt=note.attempt if note else 0)
        run = replay(ctx.db, job, run_rows.read_run(ctx.db, run_id), now=now, on_hub=on_hub)
    ctx.note("go on from the Hub", f"{run.id} from {repo_id}")
    ctx.wake()
    return run


def _fetch_parents(ctx: Context, hub: Hub, repo_id: str, run_id: str) -> None:
    """Fetch what the run builds on, but nothing of a run that is in this workspace: a note must not add to that one.

    The resume state comes along, so that such a run can be taken up as well, by whoever asks for it later.
    """
    known = {run.id for run in run_rows.list_runs(ctx.db, limit=1_000_000)}
    noted = [one for one in parents.read_parents(hub, repo_id, run_id) if one.run_id not in known]
    parents.fetch_parents(hub, ctx.workspace, noted, with_resume=True)
    parents.fetch_tokenizers(hub, ctx.workspace, repo_id, run_id, known=known)


def require_parents(ctx: Context, recipe: BaseRecipe) -> None:
    """Refuse a run that builds on one whose result is not here; one that is still to train is waited for.

    Raises:
        RunError: It is not.
    """
    for parent_id, step in run_references(recipe):
        steps = ctx.workspace.job(parent_id).checkpoint_steps()
        is_here = bool(steps) if step is None else step in steps
        if not is_here and not run_rows.list_runs(ctx.db, ids=(parent_id,)):
            cure = "Bring that run back first, or train on another in a copy of this one."
            raise RunError(f"the run it builds on, {parent_id}, is not here", where=parent_id, cure=cure)


def checkpoints_on_hub(hub: Hub, repo_id: str, run_id: str) -> dict[int, str]:
    """Return step -> commit of the checkpoints there that say they are this run's.

    Raises:
        HubBusyError: No answer.
    """
    try:
        tags = fetch.checkpoint_tags(hub, repo_id)
    except HubNotFoundError:
        return {}
    found = {}
    for step, named, commit in tags[:MAX_CHECKED]:
        if named not in {"", run_id}:
            continue
        try:
            manifest = parse_manifest(hub.read_text(repo_id, MANIFEST, commit), repo_id)
        except HubBusyError:
            raise
        except CodexError:
            continue
        if (manifest.run_id, manifest.step) == (run_id, step):
            found[step] = commit
    return found


def _write_notes(hub: Hub, job: JobDir, note: Entry) -> None:
    if note.num_threads and not job.launch.exists():
        durable.write_json(job.launch, {"num_threads": note.num_threads})
    if note.rises != (0, 0):
        durable.write_json(job.rises, {"step": note.rises[0], "times": note.rises[1]})
    if not job.events.exists():
        Registry(hub, note.repo_id.split("/")[0]).fetch_events(note.run_id, job.events)


def register(ctx: Context, found: FetchedRun, repo_id: str) -> Run:
    """Queue a run that was fetched, its checkpoint marked as the one on the Hub."""
    run = insert(ctx, found.run_id, found.recipe_text, repo_id)
    size_bytes = sum(path.stat().st_size for path in found.checkpoint.iterdir() if path.is_file())
    checkpoint_rows.add_checkpoint(
        ctx.db, run.id, found.step, created_at=ctx.clock(), size_bytes=size_bytes, metrics={}, upload="none"
    )
    checkpoint_rows.set_upload(ctx.db, run.id, found.step, "uploaded", commit_id=found.commit_id)
    ctx.note("go on from the Hub", f"{run.id} from {repo_id}")
    return run


def insert(ctx: Context, run_id: str, recipe_text: str, repo_id: str | None) -> Run:
    """Queue a run under the id it has on the Hub.

    Raises:
        RecipeError: The text is no recipe.
    """
    recipe = parse_recipe(recipe_text)
    kind = str(getattr(recipe, "kind", ""))
    return run_rows.insert_run(
        ctx.db,
        id=run_id,
        name=recipe.name or kind,
        kind=kind,
        recipe=recipe_text,
        repo_id=repo_id,
        now=ctx.clock(),
    )
