"""What the Pretrain tab shows: what the dial comes to, what that costs on each machine, and a row of packed text."""

from collections.abc import Sequence

from codex_space.core.dial import Dial
from codex_space.core.errors import CodexError
from codex_space.core.estimate import Estimate
from codex_space.ui.views.estimate import render_hours
from codex_space.ui.views.markup import escape, render_facts, render_table


def render_dial(dial: Dial) -> str:
    """Return the sizes that follow from the depth."""
    shape = dial.shape
    per_step = f"{dial.batch} x {dial.accumulation} rows of {dial.block_size:,} tokens"
    facts = [
        ("Parameters", f"<b>{_count(shape.num_parameters)}</b> ({_count(shape.num_embedding)} in the vocabulary)"),
        ("Shape", f"{shape.num_layers} layers, {shape.hidden_size:,} wide, {shape.num_heads} heads"),
        ("Batch", f"{dial.step_tokens:,} tokens a step: {per_step}"),
        ("Learning rate", f"{dial.learning_rate:g}"),
        ("Tokens", f"<b>{_count(dial.tokens)}</b> in {dial.max_steps:,} steps"),
        ("Work", f"{dial.flops:.1e} operations"),
    ]
    return render_facts(facts)


def render_budget(found: Sequence[Estimate]) -> str:
    """Return memory, hours and dollars on each machine, those it does not fit at the end."""
    rows = []
    for each in sorted(found, key=lambda one: not one.fits):
        if each.fits:
            hours = render_hours(each.hours) if each.hours is not None else ""
            hours += ", measured" if each.is_measured else ""
            money = "none" if not each.usd else f"${each.usd:,.2f}"
        else:
            hours, money = "does not fit", ""
        memory = f"{each.peak_gib:.1f} of {each.memory_gib:.0f} GiB"
        rows.append([escape(each.hardware.partition(" (")[0]), memory, hours, money])
    return render_table(["Machine", "Memory", "Time", "Cost"], rows, "What it needs on each machine")


def render_measured(found: Estimate) -> str:
    """Return what the 20 steps came to."""
    return "".join(f"<p class=cs-note role=status>{escape(note[0].upper() + note[1:])}.</p>" for note in found.notes)


def render_look(pieces: Sequence[tuple[int, str]]) -> str:
    """Return one packed row, each text in it on a ground of its own."""
    spans = "".join(f'<span class="cs-packed" data-odd={number % 2}>{escape(text)}</span>' for number, text in pieces)
    texts = len({number for number, _ in pieces})
    note = f"One row holds {texts} {'text' if texts == 1 else 'texts'}; \N{BLACK SQUARE FOR STOP} marks where one ends."
    return f'<pre class="cs-command" tabindex=0>{spans}</pre><p class=cs-note>{note}</p>'


def render_refused(error: CodexError) -> str:
    """Return why there is nothing to show."""
    return f'<p class="cs-note" role=status>{escape(error)}</p>'


def _count(number: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"
