"""Which base models can be chosen, and what this machine is."""

import contextlib
import os
import shutil
from dataclasses import dataclass

import psutil

from codex_space.core.shared_recipe import WRITING_KINDS
from codex_space.hub.records import ModelHit
from codex_space.services.context import Context
from codex_space.store import runs as run_rows

# The sizes the Start and Train tabs offer; need: GPU memory for the shipped recipe of that size.
_HUB_BASES = (
    ("Qwen/Qwen2.5-Coder-0.5B", 8),
    ("Qwen/Qwen2.5-Coder-1.5B", 16),
    ("Qwen/Qwen2.5-Coder-3B", 20),
    ("Qwen/Qwen2.5-Coder-7B", 22),
    ("Qwen/Qwen2.5-Coder-14B", 40),
)

FEWEST_LETTERS = 3
MOST_HITS = 15


@dataclass(frozen=True)
class Base:
    """A base model to choose: `ref` goes into model.model_name_or_path."""

    label: str
    ref: str
    note: str


@dataclass(frozen=True)
class Gpu:
    """One CUDA device as its driver names it."""

    name: str
    memory_bytes: int


@dataclass(frozen=True)
class Machine:
    """What this machine is; `label` fits the chip at the top of the page."""

    label: str
    num_cores: int
    gpus: tuple[Gpu, ...]
    memory_bytes: int
    disk_free_bytes: int


def list_bases(ctx: Context) -> list[Base]:
    """Return models trained here first, then Hub models with what they need."""
    own = [
        Base(run.name, f"run:{run.id}", f"trained here, {run.kind}, step {run.step}")
        for run in run_rows.list_runs(ctx.db, limit=200)
        if run.kind in WRITING_KINDS and ctx.workspace.job(run.id).checkpoint_steps()
    ]
    hub = [Base(ref, ref, f"Hub; wants a GPU with {need} GB or more") for ref, need in _HUB_BASES]
    return [*own, *hub, Base("fresh:tiny", "fresh:tiny", "untrained, for trying things out")]


def search_bases(ctx: Context, text: str) -> list[Base]:
    """Return the Hub's most used models whose name holds `text`; nothing for less than three letters of a name.

    Raises:
        HubError: The Hub does not answer.
    """
    if len(text) < FEWEST_LETTERS or ":" in text:
        return []
    return [Base(hit.id, hit.id, _note(hit)) for hit in ctx.hub().search_models(text, limit=MOST_HITS)]


def _note(hit: ModelHit) -> str:
    gated = "; gated, ask for access on its page first" if hit.gated else ""
    return f"Hub; {hit.downloads:,} downloads{gated}"


def machine(ctx: Context) -> Machine:
    """Describe this machine."""
    gpus = list_gpus()
    cores = len(os.sched_getaffinity(0))
    if gpus:
        count = f"{len(gpus)} x " if len(gpus) > 1 else ""
        label = f"{count}{gpus[0].name} · {gpus[0].memory_bytes / (1 << 30):.0f} GiB"
    else:
        label = f"CPU · {cores} core{'s' if cores != 1 else ''}"
    memory_bytes = psutil.virtual_memory().total
    return Machine(label, cores, gpus, memory_bytes, shutil.disk_usage(ctx.workspace.root).free)


def list_gpus() -> tuple[Gpu, ...]:
    """Return the CUDA devices the driver knows, none where there is no driver."""
    try:
        import pynvml  # noqa: PLC0415  # absent where only the page's packages are installed
    except ImportError:
        return ()
    found: list[Gpu] = []
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            name = pynvml.nvmlDeviceGetName(handle)
            found.append(Gpu(str(name), int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)))
    return tuple(found)
