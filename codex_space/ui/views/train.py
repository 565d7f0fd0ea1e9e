"""What the Train tab says beside the form: recipes to choose from, the batch in words, ready or not and why."""

from codex_space.core.errors import CodexError
from codex_space.core.presets import Preset
from codex_space.services.checks import Check
from codex_space.ui.views.form import Form
from codex_space.ui.views.markup import escape, render_check, render_checks

GROUPS = {
    "sft": "Tune", "dpo": "Prefer (DPO)", "kto": "Prefer (KTO)", "orpo": "Prefer (ORPO)",
    "reward": "Reward model", "pretrain": "Pretrain", "tokenizer": "Tokenizer",
}  # fmt: skip


def preset_choices(presets: list[Preset]) -> list[tuple[str, str]]:
    """Return (label, name) of the shipped recipes, grouped by what they do."""
    order = list(GROUPS)
    known = [preset for preset in presets if _kind_of(preset.name) in GROUPS]
    known.sort(key=lambda preset: (order.index(_kind_of(preset.name)), preset.name))
    return [(f"{GROUPS[_kind_of(preset.name)]} · {preset.title}", preset.name) for preset in known]


def render_batch(form: Form) -> str:
    """Return what batch, accumulation and length come to in one optimizer step."""
    if not form.batch or not form.accumulation:
        return ""
    rows = int(form.batch) * int(form.accumulation)
    tokens = f", at most {rows * int(form.max_length):,} tokens" if form.max_length else ""
    return f"<p class=cs-note>One optimizer step sees <b>{rows:,} rows</b>{tokens}.</p>"


def is_ready(lines: list[Check]) -> bool:
    """Return whether nothing in the checklist stands in the way."""
    return all(line.ok is not False for line in lines)


def render_readiness(lines: list[Check]) -> str:
    """Return the verdict and its checklist."""
    bad = [line for line in lines if line.ok is False]
    title = f"Not ready: {bad[0].label.lower()}" if bad else "Ready"
    shown = render_checks(render_check(line.ok, line.label, line.detail, line.cure) for line in lines)
    return f'<div class="cs-verdict cs-{"bad" if bad else "good"}" role=status><h3>{escape(title)}</h3>{shown}</div>'


def _kind_of(preset_name: str) -> str:
    return preset_name.partition("/")[0]


def blocked_by(error: CodexError) -> list[Check]:
    """Return the checklist of a text that cannot even be read."""
    return [Check(False, "Recipe", f"{error.where}: {error.what}" if error.where else error.what, error.cure)]
