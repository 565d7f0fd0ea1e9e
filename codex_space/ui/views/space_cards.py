"""What the Space tab's cards say: the machine's price and the month, what a switch would lose, the copy, the checklist."""

from codex_space.core.errors import CodexError
from codex_space.hub.space import Copied
from codex_space.services import estimate, first_boot, leaving, money, space
from codex_space.services.context import Context
from codex_space.services.forecast import describe_time
from codex_space.ui.views.markup import escape, render_check, render_checks, render_facts, render_notice

NOT_A_SPACE = "<p class=cs-note>This machine is not a Space, so there is no hardware to switch.</p>"
IDLE = {"stay": "stays on", "cpu": "goes down to cpu-basic", "pause": "pauses"}
_JOBS_ONLY = ("h200", "h200x8")


def flavor_choices(ctx: Context) -> list[tuple[str, str]]:
    """Return (label with price, name) of the machines of Spaces, cheapest first."""
    known = [one for one in estimate.list_priced(ctx) if one.name not in _JOBS_ONLY]
    return [(f"{one.label}, {_price(one.usd_per_hour)}", one.name) for one in known]


def render_money(ctx: Context) -> str:
    """Return price, month, cap and what happens when nothing is left to do; a visitor is told the hardware alone."""
    found, settings = money.read(ctx), ctx.settings
    if not money.is_shown(ctx):
        told = "<p class=cs-note>What it costs is shown to those who may act here.</p>"
        return render_facts([("Hardware", escape(settings.accelerator or "a machine of your own"))]) + told
    facts = [
        ("Hardware", escape(settings.accelerator or "a machine of your own")),
        ("Price", _price(found.usd_per_hour)),
        (
            "This month",
            f"${found.month_usd:,.2f}" + (f" of ${found.cap_usd:,.2f}" if found.cap_usd is not None else ""),
        ),
    ]
    if found.usd_per_hour:
        up = f"${found.since_boot_usd:,.2f} in {describe_time(found.since_boot_s)}, idle time included"
        facts.insert(2, ("Since it started", up))
    facts += [(month, f"${usd:,.2f}") for month, usd in list(found.months.items())[:4] if month != found.month]
    if settings.space_id:
        idle = IDLE.get(settings.when_idle, settings.when_idle)
        after = "" if settings.when_idle == "stay" else f", after {settings.idle_minutes:g} minutes"
        facts.append(("When idle", escape(f"{idle}{after}")))
        if leaving.is_kept_awake(ctx):
            facts.append(("Sleep", "not while a run is under way or goes up to the Hub"))
    cap = (
        "" if found.cap_usd is not None else "CODEX_SPACE_MONTHLY_CAP_USD sets a cap: runs are saved and stopped at it."
    )
    return render_facts(facts) + (f"<p class=cs-note>{cap}</p>" if cap else "")


def awake_label(ctx: Context) -> str:
    """Return what the button that keeps the Space awake would do now."""
    return "Let it sleep while runs train" if leaving.is_kept_awake(ctx) else "Keep awake while runs train"


def render_move(ctx: Context) -> str:
    """Return what is wished, or what a switch would lose."""
    if not ctx.settings.space_id:
        return NOT_A_SPACE
    if wish := leaving.wished(ctx):
        if wish.get("to") == "update":
            waits = "Runs are saved and stopped, and nothing new begins, until the update or until you press Stay."
            return render_notice("note", "The Space waits for its update", waits)
        going = "It pauses" if wish.get("to") == "pause" else f"It moves to {wish.get('to')}"
        if wish.get("error"):
            return render_notice("bad", "The Hub refused", escape(wish["error"]))
        why = f"{going} once runs are saved and uploads are done. {wish.get('reason', '')}"
        return render_notice("note", "The Space is leaving this machine", escape(why))
    lost = leaving.losses(ctx)
    if not lost:
        return "<p class=cs-note>A switch saves and stops what trains, waits for uploads, then restarts on an empty disk. Nothing would be lost.</p>"
    items = "".join(f"<li>{escape(line)}</li>" for line in lost)
    return render_notice("note", "A switch empties this disk", f"<ul>{items}</ul>")


def render_link(ctx: Context) -> str:
    """Return the way to the Hub's own form."""
    if not ctx.settings.space_id:
        return "<p class=cs-note>Name the Space to copy.</p>"
    link = escape(space.duplicate_link(ctx))
    return f'<p class=cs-note>Or on the Hub: <a class=cs-link target=_blank rel=noopener href="{link}">duplicate it there</a>.</p>'


def render_copied(made: Copied) -> str:
    """Return where the copy is."""
    text = f'<a class=cs-link target=_blank rel=noopener href="{escape(made.url)}">{escape(made.repo_id)}</a>, private.'
    waits = " Its large files are still being copied." if made.is_copying else ""
    return render_notice("good", "Copied", f"{text}{waits} Its Space tab says what is still missing.")


def render_checklist(ctx: Context) -> tuple[str, bool]:
    """Return the checklist and whether it is to be shown: until all is there, or somebody put it away."""
    if first_boot.is_dismissed(ctx):
        return "", False
    try:
        needs = first_boot.read(ctx)
    except CodexError as error:
        return render_checks([render_check(False, "Checklist", error.what, error.cure)]), True
    lines = [render_check(one.ok, one.label, one.detail, one.cure, one.link) for one in needs]
    return render_checks(lines), any(one.ok is False for one in needs)


def _price(usd_per_hour: float) -> str:
    return f"${usd_per_hour:.2f} an hour" if usd_per_hour else "free"
