"""What a training run needs before it starts: memory, hours, dollars and disk, from recipe, shape, rows and machine alone."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from codex_space.core.errors import RecipeError
from codex_space.core.hardware import Hardware
from codex_space.core.memory import GIB, HEAD_TILES_CPU, TILES_IN_PLACE, Step, optimizer_bytes, peak_parts
from codex_space.core.quants import Weights, room_bytes
from codex_space.core.recipe import PretrainRecipe
from codex_space.core.sections import SAVES_IN_A_RUN
from codex_space.core.shapes import Shape
from codex_space.core.shared_recipe import BaseRecipe, TuningRecipe
from codex_space.core.train_fields import train_fields

SAFE_SHARE = 0.97
"""Of a GPU's memory: the display, the driver and other programs hold the rest."""
CPU_SAFE_SHARE = 0.85
"""Of a machine's memory: the page and the system live there too."""
NARROW_AT_989_TFLOPS = 1000
"""Hidden size at which an H200 comes to half of its utilisation: below, starting kernels takes the time (bench/results/gpu.json)."""
PRETRAINING_ON_CPU = 3.0
"""How much faster a CPU pretrains than it tunes, at the least: rows are full and the loop is lean (bench/pretraining.py)."""
START_S = 60.0
READ_BYTES_PER_S = 0.5e9
DEFAULT_LENGTH = 4096
"""Tokens assumed for the longest row where train.max_length is empty."""
NO_TIME = "the number of rows is not known, so hours and dollars are not either"
_PAIRS = ("dpo", "orpo", "reward")


@dataclass(frozen=True)
class Rows:
    """How many rows there are to train on and how long they are on average, in tokens."""

    num_rows: int
    tokens_each: float


@dataclass(frozen=True)
class Estimate:
    """What a run needs on one machine.

    Attributes:
        peak_gib: On the fullest GPU what the driver counts (reserved by the allocator, and the CUDA context), or on a CPU
            what the process holds: the number that decides whether it fits.
        hours: Likely; a quarter more or less is usual. None where the number of rows is not known.
        disk_gib: Checkpoints kept, the base model, and what an export that follows writes.
        hub_gib: On the Hub at the end, 0 where nothing is pushed.
        parts: GiB of the peak by part.
        notes: What was assumed.
        is_measured: Whether the time was measured on this machine.
    """

    fits: bool
    peak_gib: float
    memory_gib: float
    hours: float | None
    usd: float | None
    disk_gib: float
    hub_gib: float
    parts: dict[str, float]
    hardware: str
    num_parameters: int
    trained_parameters: int
    tokens: int | None
    notes: list[str] = field(default_factory=list)
    is_measured: bool = False


def estimate(recipe: BaseRecipe, shape: Shape, hardware: Hardware, rows: Rows | None) -> Estimate:
    """Return what the run needs.

    Raises:
        RecipeError: The kind trains no model, or a setting is no size.
    """
    if not isinstance(recipe, TuningRecipe | PretrainRecipe):
        what = f"a {getattr(recipe, 'kind', '')} run trains no model: there is nothing to estimate"
        raise RecipeError(what, where="kind", cure="It runs on any machine.")
    wanted = recipe.launch.num_processes
    if hardware.gpu and wanted > hardware.num_gpus:
        what = f"{wanted} processes want {wanted} GPUs, and {hardware.name} has {hardware.num_gpus}"
        raise RecipeError(what, where="launch.num_processes", cure="Take a machine with more GPUs, or fewer processes.")
    plan = _Plan(recipe, shape, hardware)
    step = plan.step()
    parts = peak_parts(step)
    if not hardware.gpu:  # all processes hold their copies in the machine's one memory
        parts = {name: wanted * size for name, size in parts.items()}
    peak_gib = sum(parts.values())
    trained = shape.num_parameters if step.is_full else step.adapters + step.saved_modules
    tokens = plan.tokens(rows)
    hours = None if tokens is None else plan.hours(step, tokens)
    disk_gib, hub_gib = plan.storage_gib(trained)
    loaded_gib = wanted * parts["weights"] * step.num_shards if hardware.gpu and step.num_shards > 1 else 0.0
    if loaded_gib:
        plan.notes.append(
            f"each of {wanted} processes reads the whole model into the machine's memory first, {loaded_gib:.0f} of its "
            f"{hardware.ram_gib:.0f} GiB; what a shared model takes is a formula, not yet measured on several GPUs"
        )
    notes = plan.notes + ([] if tokens else [NO_TIME])
    share = SAFE_SHARE if hardware.gpu else CPU_SAFE_SHARE
    return Estimate(
        fits=peak_gib <= share * hardware.memory_gib
        and disk_gib <= hardware.disk_gib
        and loaded_gib <= CPU_SAFE_SHARE * hardware.ram_gib,
        peak_gib=round(peak_gib, 2),
        memory_gib=hardware.memory_gib,
        hours=None if hours is None else round(hours, 3),
        usd=None if hours is None else round(hours * hardware.usd_per_hour, 2),
        disk_gib=round(disk_gib, 2),
        hub_gib=round(hub_gib, 2),
        parts={name: round(size, 3) for name, size in parts.items()},
        hardware=hardware.label,
        num_parameters=shape.num_parameters,
        trained_parameters=trained,
        tokens=tokens,
        notes=notes,
    )


class _Plan:
    """A recipe's settings as the worker would take them on that machine."""

    def __init__(self, recipe: TuningRecipe | PretrainRecipe, shape: Shape, hardware: Hardware) -> None:
        self._recipe, self._shape, self._hardware = recipe, shape, hardware
        self._kind = str(getattr(recipe, "kind", ""))
        self._on_gpu = bool(hardware.gpu)
        self.notes: list[str] = []
        if self._is_checkpointed and recipe.train.get("activation_offloading"):
            self.notes.append("activation_offloading lowers the peak below what is said here")
        used = recipe.launch.num_processes
        if hardware.num_gpus > used:
            self.notes.append(f"{used} of the {hardware.num_gpus} GPUs {'is' if used == 1 else 'are'} used")

    def step(self) -> Step:
        recipe, shape = self._recipe, self._shape
        tuned = recipe if isinstance(recipe, TuningRecipe) else None
        lora = tuned.lora if tuned else None
        per_row = 2 if self._kind in _PAIRS else 1
        saved = lora.modules_to_save if lora else None
        heads = sum(name in {"embed_tokens", "lm_head"} for name in saved or [])
        return Step(
            shape=shape,
            on_gpu=self._on_gpu,
            weight_bytes=self._weight_bytes(),
            head_tiles=TILES_IN_PLACE.get(self._kind, HEAD_TILES_CPU) if self._weight_bytes() == 4 else HEAD_TILES_CPU,
            in_4bit=bool(tuned and tuned.model.load_in_4bit),
            adapters=shape.lora_parameters(lora.r, lora.target_modules, use_dora=lora.use_dora) if lora else 0,
            rank=lora.r if lora else 0,
            saved_modules=shape.num_embedding * min(heads, 1 if shape.is_tied else 2),
            optimizer=str(self._train("optim") or "adamw_torch_fused"),
            tokens=self._batch * self._length * per_row,
            row_tokens=self._length,
            is_checkpointed=self._is_checkpointed,
            attention=tuned.model.attn_implementation if tuned else "sdpa",
            is_packed=bool(self._train("packing")) and str(self._train("packing_strategy")).startswith("bfd"),
            is_accumulated=self._accumulation > 1,
            is_compiled=bool(self._train("torch_compile")),
            loss=self._loss(),
            num_processes=recipe.launch.num_processes,
            num_shards=recipe.launch.num_processes if recipe.launch.config != "ddp" else 1,
            has_reference=self._kind in {"dpo", "kto"} and lora is None and not self._train("precompute_ref_log_probs"),
        )

    def tokens(self, rows: Rows | None) -> int | None:
        """Return the tokens the whole run works through."""
        per_step = self._batch * self._accumulation * self._recipe.launch.num_processes
        packed = bool(self._train("packing"))
        each = None if rows is None else min(rows.tokens_each, self._length)
        if self._kind == "pretrain" or packed:
            total = None if rows is None else rows.num_rows * rows.tokens_each
            steps = self._steps(None if total is None else total / (per_step * self._length))
            return None if steps is None else int(steps * per_step * self._length)
        steps = self._steps(None if rows is None else rows.num_rows / per_step)
        pairs = 2 if self._kind in _PAIRS else 1
        return None if steps is None else int(steps * per_step * pairs * (each or self._length))

    def hours(self, step: Step, tokens: int) -> float:
        """Return the likely time: work over what the machine comes to, and the start.

        A forward pass is 2N operations a token, its gradient by activations and by weights 2N each; a frozen base needs no
        gradient by weights; checkpointing goes forward twice. Causal attention adds 2·L·q·T to each forward (PaLM, B).
        """
        shape, machine = self._shape, self._hardware
        forward = 2 * shape.num_parameters + 2 * shape.num_layers * shape.query_size * self._length
        passes = (3 if step.is_full else 2) + step.is_checkpointed
        if self._kind in {"dpo", "kto"}:
            passes += 1  # the reference
        narrow = NARROW_AT_989_TFLOPS * machine.tflops / 989
        gpus = self._recipe.launch.num_processes if self._on_gpu else 1
        speed = gpus * machine.tflops * 1e12 * machine.utilisation * shape.hidden_size / (shape.hidden_size + narrow)
        if self._kind == "pretrain" and not self._on_gpu:
            speed *= PRETRAINING_ON_CPU
        start_s = START_S + 2 * shape.num_parameters / READ_BYTES_PER_S
        return (tokens * forward * passes / speed + start_s) / 3600

    def storage_gib(self, trained: int) -> tuple[float, float]:
        """Return (disk, Hub)."""
        recipe = self._recipe
        weights = 4.0 * trained
        state = optimizer_bytes(str(self._train("optim") or "adamw")) * trained
        kept = (
            recipe.checkpoints.keep_last + recipe.checkpoints.keep_best + 1
        )  # the newest is whole before the oldest goes
        base = 2.0 * self._shape.num_parameters if isinstance(recipe, TuningRecipe) else 0.0
        if wanted := recipe.export_after:
            weights_made = Weights(wide=self._shape.num_parameters, narrow=0, odd=0, vectors=0, tokenizer_bytes=0)
            merges = isinstance(recipe, TuningRecipe) and recipe.lora is not None
            base += room_bytes(weights_made, wanted.gguf, merges=merges)
        pushed = (SAVES_IN_A_RUN * weights + state) if recipe.hub else 0.0
        return (kept * (weights + state) + base) / GIB, pushed / GIB

    def _steps(self, per_epoch: float | None) -> float | None:
        max_steps = self._train("max_steps") or 0
        if max_steps > 0:
            return float(max_steps)
        if per_epoch is None:
            return None
        held = self._recipe.validation
        trained = 1.0 if held.dataset else 1 - held.fraction
        return math.ceil(per_epoch * trained) * float(self._train("num_train_epochs") or 3)

    def _weight_bytes(self) -> int:
        if not isinstance(self._recipe, TuningRecipe):
            return 4
        section = self._recipe.model
        if section.dtype != "auto":
            return 4 if section.dtype == "float32" else 2
        return 2 if section.load_in_4bit or (self._on_gpu and self._recipe.lora) else 4

    def _loss(self) -> Literal["fused", "full", "loop", "score"]:
        if self._kind == "reward":
            return "score"
        if getattr(self._recipe, "engine", "trl") == "loop":
            return "loop"
        smoothed = self._kind == "sft" and (self._train("label_smoothing_factor") or 0) > 0
        whole = self._kind == "orpo" or (self._kind == "pretrain" and not self._on_gpu)
        return "full" if smoothed or whole else "fused"

    def _train(self, name: str) -> Any:  # noqa: ANN401  # a YAML value
        known = train_fields(self._kind).get(name)
        return self._recipe.train.get(name, known.default if known else None)

    def _size(self, name: str, default: int) -> int:
        value = self._train(name)
        value = default if value is None else value
        if not isinstance(value, int) or not 0 < value <= 1 << 24:
            raise RecipeError(f"{value!r} is no size", where=f"train.{name}", cure="Write a whole number from 1.")
        return value

    @property
    def _batch(self) -> int:
        return self._size("per_device_train_batch_size", 8)

    @property
    def _accumulation(self) -> int:
        return self._size("gradient_accumulation_steps", 1)

    @property
    def _length(self) -> int:
        if isinstance(self._recipe, PretrainRecipe):
            return self._recipe.block_size
        return self._size("max_length", DEFAULT_LENGTH)

    @property
    def _is_checkpointed(self) -> bool:
        given = self._recipe.train.get("gradient_checkpointing")
        if given is not None:
            return bool(given)
        return self._on_gpu and bool(self._train("gradient_checkpointing"))
