"""What the Start tab says: the first model's button, and what a real base model still needs."""

import math
from collections.abc import Sequence

from codex_space.core.errors import CodexError
from codex_space.core.estimate import estimate
from codex_space.core.hardware import find_hardware
from codex_space.core.memory import GIB
from codex_space.core.presets import Preset
from codex_space.core.recipe import parse_recipe
from codex_space.core.shapes import read_shape, shipped_config
from codex_space.core.shared_recipe import TuningRecipe
from codex_space.hub.records import Account
from codex_space.services.first_model import FirstModel
from codex_space.services.models import Machine
from codex_space.store.runs import FINAL
from codex_space.ui.views.markup import escape, render_check, render_checks


def is_busy(found: FirstModel | None) -> bool:
    """Return whether a first model is being trained or waits for its turn."""
    return found is not None and any(run.state not in FINAL for run in (found.tokenizer, found.pretrain, found.sft))


def button_label(found: FirstModel | None) -> str:
    """Return what the button says now."""
    if is_busy(found):
        return "Training your first model"
    return "Train it again" if found else "Train your first model"


def press_key(found: FirstModel | None) -> str:
    """Return a key that stays the same until the newest first model has ended: a double click queues one."""
    return f"first-model-after-{found.sft.id if found else 'none'}"


def render_tune_checks(machine: Machine, account: Account | CodexError | None, num_datasets: int) -> str:
    """Return what tuning a real model needs; `account` None while the Hub is being asked."""
    lines = [_gpu_line(machine), _hub_line(account)]
    if num_datasets:
        lines.append(render_check(True, "Dataset", f"{num_datasets:,} in this workspace"))
    else:
        lines.append(
            render_check(None, "Dataset", "none of your own yet; a sample set is there to try", "Add one on Data.")
        )
    return render_checks(lines)


def render_real_models(presets: Sequence[Preset], gpu_bytes: int) -> str:
    """Return the shipped recipes for real base models as links, with whether this GPU can hold them."""
    rows = []
    for preset in presets:
        need = _needed_gib(preset)
        fits = gpu_bytes >= need * GIB
        note = "fits this GPU" if fits else f"wants a GPU with {math.ceil(need)} GiB or more"
        title = preset.title.partition(" (hardware")[0]
        rows.append(
            f'<li><a class="cs-link" href="#train/recipe/{escape(preset.name)}">{escape(title)}</a>'
            f'<span class="{"cs-fits" if fits else "cs-faint"}">{escape(note)}</span></li>'
        )
    return f'<ul class="cs-links">{"".join(rows)}</ul>'


def _gpu_line(machine: Machine) -> str:
    if machine.gpus:
        return render_check(True, "GPU", machine.label)
    cure = "Choose a GPU in the Space's settings, or run this program on a machine that has one."
    return render_check(False, "GPU", "none on this machine", cure)


def _hub_line(account: Account | CodexError | None) -> str:
    if account is None:
        return render_check(None, "Hub", "asking who you are")
    if isinstance(account, CodexError):
        return render_check(False, "Hub", account.what, account.cure)
    if not account.can_write:
        return render_check(
            False, "Hub", f"{account.name}'s token may only read", "Set HF_TOKEN to one that may write."
        )
    return render_check(True, "Hub", f"signed in as {account.name}, may write")


def _needed_gib(preset: Preset) -> float:
    """Return the estimated peak on the kind of GPU that holds the most; shapes of the shipped recipes' models ship too."""
    recipe = parse_recipe(preset.text)
    ref = recipe.model.model_name_or_path if isinstance(recipe, TuningRecipe) else ""
    shape = read_shape(shipped_config(ref) or {}, ref)
    return estimate(recipe, shape, find_hardware("h200"), None).peak_gib
