"""Predict the most memory a training step holds, part by part, from shapes alone.

Bytes saved for the backward pass were counted with autograd's saved-tensor hooks on transformers 5.23, peft 0.21 and
TRL 1.16 (SDPA attention); what is not saved but lives for a moment, and the allocator's share, was fitted to peaks measured
on an H200 (bench/results/gpu.json) and on a CPU (bench/results/fit-cpu.json).
"""

from dataclasses import dataclass
from typing import Literal

from codex_space.core.shapes import Shape

GIB = float(1 << 30)
NF4_BYTES = 0.516
"""A parameter in NF4 with double quantisation: 4 bits, 8 a block of 64, 32 a group of 256 blocks (QLoRA, section 3)."""
HEAD_TOKENS, HEAD_VOCAB = 4096, 32768
"""TRL's fused head works on tiles of this size (trl/kernels/chunked_logprob.py)."""
HEAD_TILES_CPU = 10.5
"""Tiles' worth of memory that the head takes in TRL's plain torch operations (measured); the Triton kernel works in one."""
TILES_IN_PLACE = {"sft": 5.5, "dpo": 8.0, "kto": 8.0}
"""The same by kind of run where work/head_tiles.py works on tiles in float32 (measured): DPO and KTO ask for the logits' mean,
so that their forward pass is TRL's own."""
FULL_LOGITS_BYTES = {True: 14, False: 12}
"""A logit's bytes where the loss needs all of them, with and without autocast: its copies in two precisions and their gradients."""
LOOP_LOGITS_BYTES = {True: 18, False: 28}
"""The same in our own loop of SFT, which cuts the last one off each row: counted on a GPU, measured on a CPU."""
COMPILED_SHARE = 0.72
"""Activations that torch.compile leaves of those saved in eager mode, measured on an H200."""
CUDA_CONTEXT_GIB = 0.7
"""CUDA context and cuBLAS workspaces."""
ALLOCATOR_SHARE, ALLOCATOR_MAX_GIB = 0.2, 3.0
"""What the caching allocator reserves beyond what is in use: a share of what comes and goes, measured on an H200."""
CPU_BASE_GIB = 0.9
"""A worker that has imported its libraries and loaded nothing."""
CPU_ALLOCATOR_SHARE = 0.05

_OPTIMIZER_BYTES = (
    # prefix, bytes a parameter of moments held in float32, the same where they are held in 8 bits
    ("paged_adamw_8bit", 2), ("paged_adamw", 8), ("adamw_8bit", 2), ("adamw_bnb_8bit", 2), ("adamw", 8),
    ("paged_lion_8bit", 1), ("lion_8bit", 1), ("paged_lion", 4), ("lion", 4), ("rmsprop_bnb_8bit", 1), ("rmsprop", 4),
    ("adafactor", 0.02), ("sgd", 0), ("adagrad", 4), ("muon", 4),
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One micro-batch's forward and backward pass and the step after it.

    Attributes:
        weight_bytes: Of one parameter of the base: 4, 2, or NF4_BYTES for its matrices where it is in 4 bits.
        adapters: Trained parameters beside a frozen base; 0 where the base itself is trained.
        saved_modules: Parameters of the base's modules that train in full beside the adapters.
        tokens: Of all sequences in the micro-batch, padding included (twice for pairs of answers).
        row_tokens: Of the longest sequence.
        is_packed: Whether attention is told the rows' ends by a mask over all tokens of the micro-batch.
        is_accumulated: Whether gradients of earlier micro-batches are there while one runs.
        head_tiles: On a CPU, what the head's tiles take at once, in tiles.
        num_shards: Processes that hold a part each of weights, gradients and the optimizer's state; 1 where each holds all.
    """

    shape: Shape
    on_gpu: bool
    weight_bytes: int
    in_4bit: bool
    adapters: int
    rank: int
    saved_modules: int
    optimizer: str
    tokens: int
    row_tokens: int
    is_checkpointed: bool
    attention: Literal["sdpa", "eager", "flash_attention_2"]
    is_packed: bool
    is_accumulated: bool
    is_compiled: bool
    loss: Literal["fused", "full", "loop", "score"]
    has_reference: bool
    num_shards: int = 1
    num_processes: int = 1
    head_tiles: float = HEAD_TILES_CPU

    @property
    def is_full(self) -> bool:
        """Whether the base itself is trained."""
        return not self.adapters


def optimizer_bytes(name: str) -> float:
    """Return the bytes of an optimizer's state for one parameter in float32; 8 for one not known."""
    return next((size for prefix, size in _OPTIMIZER_BYTES if name.startswith(prefix)), 8)


def peak_parts(step: Step) -> dict[str, float]:
    """Return GiB by part at the moment the most is held; they add up to the peak of one GPU, or of the process on a CPU."""
    held = _held(step)
    moments = [{**held, **moment} for moment in _moments(step)]
    peak = max(moments, key=lambda parts: sum(parts.values()))
    parts = {name: size / GIB for name, size in peak.items()}
    moving = parts["activations"] + parts["logits"] + parts["gradients"] * step.is_full
    if step.on_gpu:
        parts["overhead"] = CUDA_CONTEXT_GIB + min(ALLOCATOR_SHARE * moving, ALLOCATOR_MAX_GIB)
    else:
        parts["overhead"] = CPU_BASE_GIB + CPU_ALLOCATOR_SHARE * moving
    return parts


def _held(step: Step) -> dict[str, float]:
    """Return bytes that are there all the time once the first step is done."""
    shape, shards = step.shape, step.num_shards
    base = float(step.weight_bytes * shape.num_parameters)
    if step.in_4bit:
        base -= (step.weight_bytes - NF4_BYTES) * shape.num_linear
    trained = shape.num_parameters if step.is_full else step.adapters + step.saved_modules
    state = optimizer_bytes(step.optimizer)
    is_narrow = step.weight_bytes == 2 if step.is_full else _adapter_bytes(step) == 2
    if is_narrow:  # the moments have the weights' precision
        state /= 2 if state > 2 else 1
    moments = state * trained
    if step.is_full and state <= 2 and "8bit" in step.optimizer:
        moments += 6 * shape.num_embedding  # transformers keeps an embedding's moments in 32 bits
    if step.optimizer == "muon":  # what is no matrix inside a layer has AdamW's two
        moments += 4 * (trained - shape.num_linear)
    return {
        "weights": base / shards,
        "adapters": (step.adapters * _adapter_bytes(step) + step.saved_modules * 4) / shards,
        "optimizer": moments / shards,
        # DDP sends gradients in buckets, copies of their own
        "buckets": _gradient_bytes(step) if step.num_processes > 1 and shards == 1 else 0.0,
        "gathered": _gathered_bytes(step),
        "reference": base / shards if step.has_reference else 0.0,
        # bitsandbytes unpacks one matrix at a time to compute with it
        "quantisation": 2.0 * max(linear.weights for linear in shape.linears) if step.in_4bit else 0.0,
    }


def _gathered_bytes(step: Step) -> float:
    """Return what a process that shares a model holds whole: one layer at work, the next on its way, and what is in no layer."""
    if step.num_shards == 1:
        return 0.0
    shape = step.shape
    each = min(step.weight_bytes, 2) if step.on_gpu else step.weight_bytes  # a GPU gathers them in half precision
    layer = shape.num_linear / shape.num_layers * (NF4_BYTES if step.in_4bit else each)
    return 2 * layer + each * shape.num_embedding * (1 if shape.is_tied else 2)


def _adapter_bytes(step: Step) -> int:
    return 2 if step.in_4bit and step.num_shards == 1 else 4  # FSDP keeps what is trained in 32 bits


def _moments(step: Step) -> list[dict[str, float]]:
    """Return what comes and goes, at the four moments one of which holds the most."""
    shape = step.shape
    layer, passing, stream = _layer_bytes(step), _passing_bytes(step), _stream_bytes(step)
    kept = stream if step.is_checkpointed else layer
    if step.is_compiled:
        kept, layer = kept * (1 if step.is_checkpointed else COMPILED_SHARE), layer * COMPILED_SHARE
    again = layer if step.is_checkpointed else 0.0  # recomputed while the layer goes back
    cast = 2 * sum(linear.weights for linear in shape.linears) if step.is_full and _is_cast(step) else 0
    if not step.is_checkpointed:
        kept += cast
    every = _gradient_bytes(step)
    head = 4.0 * shape.num_embedding if step.is_full and step.loss != "score" else 0.0
    earlier = every if step.is_accumulated else 0.0
    logits = _logits_bytes(step)
    back = again + passing + (cast if step.is_checkpointed else 0)
    final = 2.0 * _stream_bytes(step)
    # SDPA is told where packed rows end by one mask for all layers, as booleans and as numbers to add
    mask = 3.0 * step.tokens**2 if step.is_packed and step.attention == "sdpa" else 0.0
    return [
        {
            "activations": shape.num_layers * kept + final + mask,
            "logits": logits,
            "gradients": max(earlier, head) + (head if earlier else 0),
        },
        {
            "activations": shape.num_layers * kept + back + mask,
            "logits": 0.0,
            "gradients": max(earlier, head if step.is_full else every),
        },
        {"activations": kept + back + mask, "logits": 0.0, "gradients": every},
        {"activations": 0.0, "logits": 0.0, "gradients": every + head},
    ]


def _gradient_bytes(step: Step) -> float:
    if step.is_full:
        return float(step.weight_bytes * step.shape.num_parameters) / step.num_shards
    return float(step.adapters * _adapter_bytes(step) + 4 * step.saved_modules) / step.num_shards


def _is_cast(step: Step) -> bool:
    """Whether autocast makes a second copy of weights in half precision: it does of those in float32, on a GPU."""
    return step.on_gpu and step.weight_bytes == 4 and step.num_shards == 1  # parts are gathered in half precision


def _width(step: Step) -> int:
    """Return bytes of one number in the stream between layers: the weights' precision."""
    return 4 if step.weight_bytes == 4 else 2


def _stream_bytes(step: Step) -> float:
    """Return what checkpointing keeps of a layer: its input."""
    return float(_width(step) * step.tokens * step.shape.hidden_size)


def _layer_bytes(step: Step) -> float:
    """Return bytes that one layer saves for its backward pass, counted with saved-tensor hooks."""
    shape = step.shape
    hidden, query, key, wide = shape.hidden_size, shape.query_size, shape.key_size, shape.intermediate_size
    gated = shape.is_gated
    wides = (4 if gated else 2) * wide
    adapters = 2 * step.rank * len(shape.linears)
    if not step.on_gpu:  # float32 throughout
        hiddens = 6 if gated and step.is_full else 4
        each = 4 * (hiddens * hidden + 2 * query + 2 * key + wides) + 2 * adapters
    elif step.is_full and step.weight_bytes == 4:
        each = (26 if gated else 16) * hidden + 4 * query + 4 * key + 2 * wides
    elif step.is_full:
        each = (18 if gated else 12) * hidden + 4 * query + 4 * key + 2 * wides
    elif step.in_4bit:
        each = 12 * hidden + 4 * query + 4 * key + 2 * wides + adapters
    else:  # adapters in float32 take a cast copy of each matrix's input
        each = (18 if gated else 16) * hidden + 6 * query + 4 * key + 2 * wides + adapters
    statistics = 4 * shape.num_heads + 16
    attention = 8 * shape.num_heads * step.row_tokens if step.attention == "eager" else 0
    return step.tokens * (each + statistics + attention)


def _passing_bytes(step: Step) -> float:
    """Return gradients of the widest tensors of a layer while it goes back."""
    wide = step.shape.intermediate_size * step.tokens
    if not step.on_gpu:
        return 8.0 * wide
    return (8.0 if step.adapters and not step.in_4bit else 4.0) * wide


def _logits_bytes(step: Step) -> float:
    shape = step.shape
    if step.loss == "score":
        return 0.0
    if step.loss in {"full", "loop"}:
        each = FULL_LOGITS_BYTES if step.loss == "full" else LOOP_LOGITS_BYTES
        return float(each[step.on_gpu]) * step.tokens * shape.vocab_size
    tile = float(min(step.tokens, HEAD_TOKENS) * min(shape.vocab_size, HEAD_VOCAB))
    hidden = 8.0 * step.tokens * shape.hidden_size
    return hidden + (2 * tile if step.on_gpu else 4 * step.head_tiles * tile)
