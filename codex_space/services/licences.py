"""Whether the licences of a recipe's base model and data go together, before it trains: the Hub's cards are asked, and remembered."""

import threading
from pathlib import Path

from codex_space.core import sources
from codex_space.core.errors import CodexError, HubBusyError
from codex_space.core.licences import OTHER, Stated, Verdict, judge
from codex_space.core.shared_recipe import BaseRecipe
from codex_space.core.sharing import last_part
from codex_space.core.sources import Source
from codex_space.data.sources import is_hub_id
from codex_space.hub.licences import read_folder, read_source
from codex_space.hub.records import RepoType
from codex_space.services.context import Context

KEPT_S, BUSY_S = 600.0, 30.0
DECIDE = "Whether they do is for you to decide; the model's card will say so too and name no licence."
LOOK = "Look there before you pass the model on; its card will say so too and name no licence."

_Key = tuple[str | None, str, str | None, RepoType]
_read: dict[_Key, tuple[float, Stated]] = {}
_busy: dict[_Key, tuple[float, HubBusyError]] = {}
_lock = threading.Lock()


def judge_recipe(ctx: Context, recipe: BaseRecipe) -> Verdict:
    """Return what may be said of the licence of what this recipe makes.

    Raises:
        HubBusyError: No answer.
    """
    section = getattr(recipe, "model", None)
    ref = section.model_name_or_path if section else ""
    base, older = _base(ctx, ref, section.revision if section else None)
    data = [_dataset(ctx, each.path, each.revision) for each in recipe.sources]
    return judge(base, [*older, *data])


def describe(verdict: Verdict) -> tuple[str, str]:
    """Return what to tell before a run, and what to do where there is something to decide or to find out; empty for nothing."""
    if verdict.conflicts:
        return f"may not go together: {' '.join(verdict.conflicts)}", DECIDE
    if verdict.unknown:
        return f"not all known: {' '.join(verdict.unknown)}", LOOK
    if verdict.licence == OTHER:
        return "", ""
    return " ".join((f"{verdict.licence}, as the base model's.", *verdict.duties)), ""


def _base(ctx: Context, ref: str, revision: str | None) -> tuple[Stated | None, list[Stated]]:
    """Return the base model, and what was trained on before by the runs it comes from."""
    if not ref or ref.startswith("fresh:"):
        return None, []
    if ref.startswith("run:"):
        job = ctx.workspace.job(ref.removeprefix("run:").partition("@")[0])
        known = sources.read(job)
        is_known = (job.rows / sources.FILE).is_file()
        model = known.model if is_known else Source(ref)
        return model.stated if model else None, [each.stated for each in known.datasets]
    if is_hub_id(ref):
        return _ask(ctx, ref, revision, "model"), []
    return Stated(Path(ref).name, *read_folder(Path(ref))), []


def _dataset(ctx: Context, path: str, revision: str | None) -> Stated:
    if is_hub_id(path):
        return _ask(ctx, path, revision, "dataset")
    return sources.of_path(path, last_part(path)).stated


def _ask(ctx: Context, repo_id: str, revision: str | None, repo_type: RepoType) -> Stated:
    key, now = (ctx.settings.environ.get("HF_ENDPOINT"), repo_id, revision, repo_type), ctx.clock()
    with _lock:
        at, known = _read.get(key, (-KEPT_S, None))
    if known is not None and now - at < KEPT_S:
        return known
    busy = _busy.get(key)
    if busy is not None and now - busy[0] < BUSY_S:  # the checklist follows every key that is pressed
        raise busy[1]
    try:
        found = read_source(ctx.hub(), repo_id, revision, repo_type).stated
    except HubBusyError as error:
        _busy[key] = (now, error)
        raise
    except CodexError:  # another line of the checklist says that it cannot be read
        return Stated(repo_id)
    with _lock:
        _read[key] = (now, found)
    return found
