"""What the Space tab's Disk card says: a bar by part, what is free, what may go, and what became of a clean-up."""

from collections.abc import Sequence

from codex_space.core.units import render_bytes
from codex_space.services import clean, copies, disk
from codex_space.services.clean import Cleaned, Kept, Plan
from codex_space.services.context import Context
from codex_space.ui.views.markup import (  # fmt: skip
    escape,
    render_empty,
    render_facts,
    render_notice,
    render_table,
    render_time,
)

MAX_ROWS = 50
_WORDS = {
    "checkpoints": "Checkpoints", "exports": "Exported files", "datasets": "Datasets", "rows": "Rows of runs", "spool": "Waiting for upload",
    "bases": "Bases of runs", "caches": "Caches", "evaluations": "Evaluations and samples", "scratch": "Left-overs and scratch", "trash": "Being deleted", "other": "Database, logs, curves",
}  # fmt: skip


def render_disk(ctx: Context) -> str:
    """Return the bar, its legend, what is free and where copies go; a warning first where a run needs more room."""
    found = disk.read(ctx)
    usage, told = found.usage, disk.warning(ctx, found)
    warned = render_notice("bad", "Little room", escape(told) + " See what can go.") if told else ""
    parts = sorted(((size, name) for name, size in usage.parts.items() if size), reverse=True)
    total = max(usage.used_bytes, 1)
    bar = "".join(f'<i data-part={name} style="width:{size / total:.2%}"></i>' for size, name in parts)
    legend = "".join(f"<li data-part={name}>{_WORDS[name]} <b>{render_bytes(size)}</b></li>" for size, name in parts)
    least = "at least " if usage.is_partial else ""
    facts = [
        ("Workspace", f"<code>{escape(ctx.settings.workspace)}</code> {least}{render_bytes(usage.used_bytes)}"),
        ("Free on disk", f"{render_bytes(found.free_bytes)} of {render_bytes(found.size_bytes)}"),
    ]
    if usage.hub_cache_bytes:
        cache = f"{render_bytes(usage.hub_cache_bytes)} outside the workspace; <code>hf cache rm</code> takes models out of it"
        facts.append(("Hub's own cache", cache))
    facts += _hub_facts(ctx) + _copy_facts(ctx)
    return (
        f'{warned}<div class=cs-disk role=img aria-label="What the workspace takes">{bar}</div>'
        f"<ul class=cs-disk-legend>{legend}</ul>{render_facts(facts)}"
        f"<p class=cs-note>Measured {render_time(usage.at)}.</p>"
    )


def render_plan(found: Plan) -> str:
    """Return the list of what may go, and what stays and why."""
    if not found.items:
        empty = "Checkpoints that are on the Hub, and what killed programs leave, are offered here."
        return render_empty("Nothing can go", empty) + _render_kept(found.kept)
    rows = [
        (escape(item.name), render_bytes(item.size_bytes), escape(item.why))
        for item in sorted(found.items, key=lambda item: -item.size_bytes)[:MAX_ROWS]
    ]
    more = len(found.items) - len(rows)
    rest = f"<p class=cs-note>And {more:,} more.</p>" if more > 0 else ""
    return render_table(("What", "Size", "Why it is safe"), rows, "What may go") + rest + _render_kept(found.kept)


def kind_choices(found: Plan) -> list[tuple[str, str]]:
    """Return (label with size, kind) of the kinds there is something of."""
    sizes = {kind: found.size_bytes(kind) for kind in clean.KINDS}
    return [(f"{text[0].upper()}{text[1:]} · {render_bytes(sizes[kind])}", kind) for kind, text in clean.KINDS.items() if sizes[kind]]  # fmt: skip


def render_cleaned(done: Cleaned) -> str:
    """Return what became of it, in words."""
    num = len(done.removed)
    what = f"{num:,} thing{'s are' if num != 1 else ' is'} gone, {render_bytes(done.size_bytes)} are free again."
    back = " Checkpoints come back with Bring back on Runs." if any(item.run_id for item in done.removed) else ""
    said = render_notice("good" if num else "note", "Cleaned up" if num else "Nothing was deleted", escape(what + back))
    if done.stopped:
        said += render_notice("bad", "It ended early", escape(done.stopped))
    return said + _render_kept(done.kept)


def _render_kept(kept: Sequence[Kept]) -> str:
    if not kept:
        return ""
    items = "".join(f"<li><b>{escape(each.name)}</b> {escape(each.why)}</li>" for each in kept[:MAX_ROWS])
    more = f"<li>and {len(kept) - MAX_ROWS:,} more</li>" if len(kept) > MAX_ROWS else ""
    return f"<details class=cs-kept><summary>{len(kept):,} stay{'' if len(kept) != 1 else 's'} on this machine</summary><ul>{items}{more}</ul></details>"


def _hub_facts(ctx: Context) -> list[tuple[str, str]]:
    found = disk.hub_storage(ctx)
    if found is None:
        return [("On the Hub", "asked by Measure again")]
    told = []
    for owner, size_bytes in sorted(found.owners.items()):
        quota = found.quotas.get(owner)
        of = f" of {render_bytes(quota)} private that come with the account" if quota else ""
        told.append(f"our repositories of {escape(owner)} hold {render_bytes(size_bytes)}{of}")
    return [("On the Hub", f"{'; '.join(told) or 'no repository of ours'}, {render_time(found.at)}")]


def _copy_facts(ctx: Context) -> list[tuple[str, str]]:
    if ctx.settings.copies is None:
        return []
    last = copies.status_of(ctx)
    if last.get("error"):
        return [("Copies", f"<span class=cs-refused>{escape(last['error'])}</span>")]
    told = f", the last {render_time(last['at'])}" if last else ", none yet"
    return [("Copies", f"<code>{escape(ctx.settings.copies)}</code>{told}")]
