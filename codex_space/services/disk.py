"""What the disk and the Hub's storage hold: measured now and then, asked on demand, each kept with its time."""

import contextlib
import shutil
from dataclasses import asdict, dataclass, field

from codex_space.core import durable
from codex_space.core.errors import CodexError, HubBusyError, HubNotFoundError
from codex_space.core.recipe import TUNING_KINDS
from codex_space.hub.fetch import rows_repo
from codex_space.jobs import disk_usage
from codex_space.jobs.disk_usage import Usage
from codex_space.services import estimate
from codex_space.services.context import Context
from codex_space.store import checkpoints, runs
from codex_space.store.runs import ACTIVE

FREE_QUOTA_BYTES, PRO_QUOTA_BYTES = 100 * 10**9, 10**12
"""Private storage that comes with an account: https://huggingface.co/docs/hub/storage-limits. Of organisations it depends on the plan."""
SPARE_BYTES = 256 << 20
MAX_REPOS = 50
_KEPT = "hub_storage.json"


@dataclass(frozen=True)
class Disk:
    """The disk that the workspace lies on, and what the workspace takes of it."""

    usage: Usage
    free_bytes: int
    size_bytes: int


@dataclass(frozen=True)
class HubStorage:
    """What our own repositories hold: the Hub says of no account how much of its storage is used.

    Attributes:
        owners: Account or organisation -> bytes of the repositories that runs of this workspace push to.
        quotas: Owner -> bytes of private storage that come with it, where that is known.
        is_partial: There are more repositories than are asked for.
    """

    at: float
    owners: dict[str, int] = field(default_factory=dict)
    quotas: dict[str, int] = field(default_factory=dict)
    is_partial: bool = False


def read(ctx: Context, *, anew: bool = False) -> Disk:
    """Return what was measured last, measuring where nothing was yet or `anew` asks for it; what is free is as of now."""
    found = None if anew else disk_usage.read(ctx.workspace)
    if found is None:
        found = disk_usage.measure(ctx.workspace, ctx.settings.hub_cache, ctx.clock())
    disk = shutil.disk_usage(ctx.workspace.root)
    return Disk(found, disk.free, disk.total)


def needed_bytes(ctx: Context, *, guesses: bool = True) -> int:
    """Return what the run that trains here still needs free: its next checkpoint is whole before an older one goes.

    Before its first checkpoint that is an estimate, for which the Hub may be asked once.
    """
    needed = 0
    for run in runs.list_runs(ctx.db, limit=10, states=tuple(sorted(ACTIVE)), place="local"):
        saved = checkpoints.list_checkpoints(ctx.db, run.id)
        if saved:
            needed = max(needed, saved[-1].size_bytes + SPARE_BYTES)
        elif guesses and run.kind in {"pretrain", *TUNING_KINDS}:
            needed = max(needed, _estimated_bytes(ctx, run.recipe))
    return needed


def warning(ctx: Context, disk: Disk) -> str:
    """Return why somebody should clean up now, empty where there is room."""
    needed = needed_bytes(ctx)
    if not needed or disk.free_bytes >= needed:
        return ""
    return f"The run that trains needs {needed / 1e9:,.1f} GB for its checkpoints, and {disk.free_bytes / 1e9:,.1f} GB are free."


def ask_hub(ctx: Context) -> HubStorage:
    """Ask the Hub what our repositories hold, one question each, and keep the answer.

    Raises:
        HubError: No token, or no answer.
    """
    hub = ctx.hub()
    account = hub.whoami()
    repos = sorted({run.repo_id for run in runs.list_runs(ctx.db, limit=10_000) if run.repo_id})
    owners: dict[str, int] = {}
    for repo_id in repos[:MAX_REPOS]:
        owner = repo_id.partition("/")[0]
        with contextlib.suppress(HubNotFoundError):
            owners[owner] = owners.get(owner, 0) + hub.storage_bytes(repo_id)
        with contextlib.suppress(HubNotFoundError):
            owners[owner] = owners.get(owner, 0) + hub.storage_bytes(rows_repo(repo_id), "dataset")
    quotas = {account.name: PRO_QUOTA_BYTES if account.is_pro else FREE_QUOTA_BYTES}
    found = HubStorage(ctx.clock(), owners, quotas, len(repos) > MAX_REPOS)
    durable.write_json(ctx.workspace.root / _KEPT, asdict(found))
    return found


def hub_storage(ctx: Context) -> HubStorage | None:
    """Return what the Hub said last, None where it was not asked."""
    kept = durable.read_json(ctx.workspace.root / _KEPT) or {}
    at, owners, quotas = kept.get("at"), kept.get("owners"), kept.get("quotas")
    if not isinstance(at, int | float) or not isinstance(owners, dict) or not isinstance(quotas, dict):
        return None
    held, given = ({str(k): v for k, v in each.items() if isinstance(v, int)} for each in (owners, quotas))
    return HubStorage(float(at), held, given, bool(kept.get("is_partial")))


def _estimated_bytes(ctx: Context, text: str) -> int:
    """Return the disk that a run without a checkpoint is thought to need, 0 where nothing can be said of it."""
    if (known := _ESTIMATED.get(text)) is not None:
        return known
    try:
        found = int(estimate.estimate(ctx, text).disk_gib * 2**30)
    except HubBusyError:
        return 0
    except CodexError:
        found = 0
    _ESTIMATED[text] = found
    return found


_ESTIMATED: dict[str, int] = {}
