"""What the Space tab says: facts about machine, storage, Hub account and access, each read when asked."""

from codex_space.core.errors import CodexError
from codex_space.hub.records import Account
from codex_space.services.context import Context
from codex_space.services.models import machine
from codex_space.ui.views.markup import escape, render_bytes, render_check, render_checks, render_facts


def render_machine(ctx: Context) -> str:
    """Return processor, memory and GPUs."""
    found = machine(ctx)
    gpus = ", ".join(f"{escape(gpu.name)}, {render_bytes(gpu.memory_bytes)}" for gpu in found.gpus)
    return render_facts(
        [
            ("Processor", f"{found.num_cores} core{'s' if found.num_cores != 1 else ''} for this program"),
            ("Memory", render_bytes(found.memory_bytes)),
            ("GPU", gpus or "none: small models train on the processor"),
            ("Space", escape(ctx.settings.space_id or "no, this is a machine of your own")),
        ]
    )


def render_storage(ctx: Context) -> str:
    """Return what lies in the workspace and what is free."""
    runs_bytes, num_runs = _size(ctx, "runs")
    data_bytes, num_datasets = _size(ctx, "datasets")
    return render_facts(
        [
            ("Workspace", f"<code>{escape(ctx.settings.workspace)}</code>"),
            ("Runs", f"{num_runs:,} · {render_bytes(runs_bytes)}"),
            ("Datasets", f"{num_datasets:,} · {render_bytes(data_bytes)}"),
            ("Free on disk", render_bytes(machine(ctx).disk_free_bytes)),
        ]
    )


def render_account(ctx: Context) -> str:
    """Ask the Hub who the token belongs to and what it may do."""
    try:
        account = ctx.hub().whoami()
    except CodexError as error:
        return render_checks([render_check(False, "Hub account", error.what, error.cure)])
    return render_checks(account_lines(account))


def account_lines(account: Account) -> list[str]:
    """Return what an account may do, as checklist lines."""
    owners = ", ".join((account.name, *account.orgs))
    return [
        render_check(True, "Signed in", f"as {account.name} (token role: {account.role})"),
        render_check(True, "Write", f"checkpoints can go to repositories of {owners}")
        if account.can_write
        else render_check(
            False, "Write", "this token may only read", "Set HF_TOKEN to a token with write scope and restart."
        ),
    ]


def render_access(ctx: Context) -> str:
    """Return who can open this page."""
    settings = ctx.settings
    if settings.password is not None:
        who = render_check(True, "Password", "everyone who opens the page needs it, and may then do everything here")
    else:
        who = render_check(
            True, "This machine only", f"the page listens on {settings.host}; no password is needed here"
        )
    owner = ctx.owner is not None
    return render_checks(
        [
            who,
            render_check(owner, "Runs", "this process starts and watches them")
            if owner
            else render_check(False, "Runs", "no process watches them", "Start `codex-space serve`."),
        ]
    )


def _size(ctx: Context, folder: str) -> tuple[int, int]:
    """Return the bytes below a folder (hard links counted once) and how many entries it has."""
    root = ctx.workspace.runs if folder == "runs" else ctx.workspace.datasets
    seen: dict[tuple[int, int], int] = {}
    for path in root.rglob("*"):
        try:
            facts = path.lstat()
        except FileNotFoundError:  # a worker rotates its checkpoints while we look
            continue
        seen[(facts.st_dev, facts.st_ino)] = facts.st_blocks * 512
    return sum(seen.values()), sum(1 for path in root.glob("[!.]*") if path.is_dir())
