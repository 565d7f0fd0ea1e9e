"""What the Train tab says a run needs: a bar of memory, hours, dollars, disk, and the parts on request."""

from codex_space.core.errors import CodexError
from codex_space.core.estimate import Estimate
from codex_space.core.hardware import list_hardware
from codex_space.services.checks import Check
from codex_space.services.estimate import THIS_MACHINE
from codex_space.services.forecast import Forecast, dollars
from codex_space.ui.views.markup import escape, render_check, render_checks

_PARTS = {
    "weights": "Weights", "adapters": "Adapters", "optimizer": "Optimizer state", "reference": "Reference model",
    "quantisation": "Unpacking 4 bits", "buckets": "Gradients on their way",
    "gathered": "Layers put together", "activations": "Activations", "logits": "Logits", "gradients": "Gradients",
    "overhead": "Libraries and allocator",
}  # fmt: skip


def hardware_choices() -> list[tuple[str, str]]:
    """Return (label, name) of this machine and the Hub's, cheapest first."""
    hub = [(f"{one.label}, ${one.usd_per_hour:.2f} an hour", one.name) for one in list_hardware().values()]
    return [("this machine", THIS_MACHINE), *hub]


def render_estimate(found: Estimate) -> str:
    """Return what a run needs; a peak above what the machine has says so in words too."""
    share = found.peak_gib / found.memory_gib
    verdict = "Fits" if found.fits else "Does not fit"
    peak = f"<b>{verdict}: peak about {found.peak_gib:.1f} of {found.memory_gib:.1f} GiB</b>"
    facts = [f"on {escape(found.hardware)}", f"disk {found.disk_gib:.1f} GiB"]
    if found.hours is not None and found.usd is not None:
        facts.insert(1, render_hours(found.hours))
        facts.insert(
            2, f"about ${found.usd:,.2f} on {escape(found.hardware.partition(' (')[0])}" if found.usd else "no charge"
        )
    if found.hub_gib:
        facts.append(f"Hub {found.hub_gib:.1f} GiB")
    parts = sorted(((size, name) for name, size in found.parts.items() if size >= 0.005), reverse=True)
    rows = "".join(f"<dt>{_PARTS[name]}</dt><dd>{size:.2f} GiB</dd>" for size, name in parts)
    notes = "".join(f"<p class=cs-note>{escape(note[0].upper() + note[1:])}.</p>" for note in found.notes)
    state = "succeeded" if found.fits else "failed"
    return (
        f'<div class="cs-estimate" role=status>{peak}'
        f'<span class="cs-bar cs-bar-big" data-state={state}><i style="width:{min(share, 1):.0%}"></i></span>'
        f"<p class=cs-note>{' · '.join(facts)}</p>{notes}"
        f'<details><summary>What the memory goes to</summary><dl class="cs-facts">{rows}</dl>'
        f"<p class=cs-note>{found.trained_parameters:,} of {found.num_parameters:,} parameters are trained.</p></details></div>"
    )


def render_warnings(lines: list[Check]) -> str:
    """Return what to know before the start, each with its cure; nothing where there is nothing."""
    shown = "".join(render_check(line.ok, line.label, line.detail, line.cure) for line in lines)
    return f'<div class="cs-warned" role=status>{render_checks([shown])}</div>' if lines else ""


def train_label(forecast: Forecast) -> str:
    """Return what the Train button says: with the cost where the machine is paid for and the time is known."""
    usd = forecast.total_usd
    return "Train" if usd is None else f"Train ({'under $0.01' if usd < 0.01 else f'about {dollars(usd)}'})"


def render_unknown(error: CodexError) -> str:
    """Return why nothing can be said."""
    return f'<p class="cs-note">Memory and time are not known: {escape(error)}</p>'


def render_hours(hours: float) -> str:
    """Return a likely time in the unit that reads best."""
    minutes = hours * 60
    if minutes < 1.5:
        return "about a minute"
    return f"about {minutes:.0f} minutes" if minutes < 90 else f"about {hours:,.1f} hours"
