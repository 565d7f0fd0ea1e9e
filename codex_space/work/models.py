"""Load models, adapters and tokenizers; precision and quantisation are decided here.

Only safetensors weights are loaded, and no code that comes with a model is run.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from codex_space.core import durable, sources
from codex_space.core.errors import CodexError, HubError, ModelError
from codex_space.core.paths import JobDir
from codex_space.core.recipe import parse_recipe
from codex_space.core.sections import ModelSection
from codex_space.data.sources import is_hub_id
from codex_space.work import processes
from codex_space.work.failures import explain, is_disk_full

_RUN_STEP = re.compile(r"run:([\w-]+)@step-(\d+)")


@dataclass(frozen=True)
class Source:
    """Where a model is loaded from, and the name of it that means the same on another machine."""

    path: str
    reference: str
    revision: str | None = None


def choose_dtype(section: ModelSection, *, adapters: bool) -> torch.dtype:
    """Return the precision to hold the weights in; see the recipe's `model.dtype`."""
    if section.dtype != "auto":
        return getattr(torch, section.dtype)
    if section.load_in_4bit and not torch.cuda.is_available():
        return torch.bfloat16
    if not torch.cuda.is_available() or not (adapters or section.load_in_4bit):
        return torch.float32
    return half_precision()


def half_precision() -> torch.dtype:
    """Return the GPU's own 16 bits: a T4 computes bfloat16 too, by emulation, at a fraction of the speed."""
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def quantization(section: ModelSection, storage: torch.dtype = torch.uint8) -> BitsAndBytesConfig | None:
    """Return the 4-bit settings of a recipe's model, None where it is not held so."""
    return in_4bit(storage) if section.load_in_4bit else None


def in_4bit(storage: torch.dtype = torch.uint8) -> BitsAndBytesConfig:
    """Return the 4-bit settings, each one explicit: the library's own defaults compute in float32 and use FP4.

    Processes that share a model need them stored in the precision of the weights around them.
    """
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=half_precision() if torch.cuda.is_available() else torch.bfloat16,
        bnb_4bit_quant_storage=storage,
    )


def load_tokenizer(path: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Load a tokenizer.

    Raises:
        ModelError: There is none, or it has no end token.
    """
    if is_adapter(path) and not (Path(path) / "tokenizer_config.json").is_file():
        path, revision = base_of(Path(path)), sources.base_revision(Path(path))
    try:
        loaded = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"its tokenizer cannot be loaded ({_first_line(error)})", where=path, cure="Check the model's name."
        ) from error
    tokenizer = cast("PreTrainedTokenizerBase", loaded)
    if tokenizer.eos_token_id is None:
        raise ModelError("its tokenizer has no end token", where=path, cure="A model has to know when to stop.")
    return tokenizer


def add_tokens(
    source: Source, tokenizer: PreTrainedTokenizerBase, words: Sequence[str], *, weights: bool = True
) -> tuple[int, ...]:
    """Add tokens to the tokenizer; return the numbers of all that the model, where there is one, has not learnt.

    Raises:
        ModelError: The model's config cannot be read.
    """
    before = len(tokenizer)
    tokenizer.add_tokens(list(words), special_tokens=True)
    if not weights:
        return ()
    path, revision = source.path, source.revision
    if is_adapter(path):
        path, revision = base_of(Path(path)), sources.base_revision(Path(path))
    try:
        config = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"its config cannot be read ({_first_line(error)})", where=source.path) from error
    known = config.get_text_config().vocab_size
    return tuple(range(min(before, known), len(tokenizer)))


def load_model(
    path: str,
    *,
    revision: str | None = None,
    dtype: torch.dtype,
    scores: bool = False,
    **kwargs: Any,  # noqa: ANN401  # from_pretrained's
) -> PreTrainedModel:
    """Load a model that writes, or with `scores` one that gives one number (its head made where the base has none).

    A folder that holds an adapter becomes its base with the adapter merged in.

    Raises:
        ModelError: It cannot be loaded, or is a reward model that is to write.
    """
    if is_adapter(path):
        return load_adapter(path, dtype=dtype, scores=scores, **kwargs).merge_and_unload()
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    try:
        if scores:
            kind: Any = AutoModelForSequenceClassification
            kwargs["num_labels"] = 1
        else:
            kind = AutoModelForCausalLM
            _refuse_reward(AutoConfig.from_pretrained(path, **options).architectures, path)
        return kind.from_pretrained(path, dtype=dtype, use_safetensors=True, **options, **kwargs)
    except (OSError, ValueError, ImportError, KeyError) as error:
        if is_disk_full(error):
            raise explain(error, path) from error
        raise ModelError(
            f"the model cannot be loaded ({_first_line(error)})",
            where=path,
            cure="Check the name; it needs safetensors weights and an architecture that transformers knows.",
        ) from error


def is_adapter(path: str) -> bool:
    """Whether a folder holds an adapter rather than a whole model."""
    return (Path(path) / "adapter_config.json").is_file()


def load_adapter(path: str, *, is_trainable: bool = False, **kwargs: Any) -> PeftModel:  # noqa: ANN401  # load_model's
    """Load an adapter folder on its base, which gets as many embeddings as the adapter's tokenizer needs.

    Raises:
        ModelError: The base is not here, or the adapter does not fit it.
    """
    folder = Path(path)
    path_of_base, revision = base_of(folder, scores=kwargs.get("scores", False)), sources.base_revision(folder)
    base = load_model(path_of_base, revision=revision, **kwargs)
    if (folder / "tokenizer_config.json").is_file():
        grow_embeddings(base, len(load_tokenizer(path)))
    with suppress(OSError):
        base.generation_config = GenerationConfig.from_pretrained(path)
    try:
        return PeftModel.from_pretrained(base, path, is_trainable=is_trainable)
    except (RuntimeError, ValueError, OSError) as error:
        cure = "It belongs to another model; name the one it was trained on."
        raise ModelError(f"the adapter does not fit ({_first_line(error)})", where=path, cure=cure) from error


def trained_in_4bit(adapter: Path) -> bool:
    """Whether an adapter was trained on a base held in 4 bits, by the recipe in its run's folder or its repository."""
    for path in (adapter / JobDir(adapter).recipe.name, JobDir(adapter.parent).recipe):
        with suppress(OSError, CodexError, UnicodeDecodeError):
            section = getattr(parse_recipe(path.read_text(encoding="utf-8")), "model", None)
            return isinstance(section, ModelSection) and section.load_in_4bit
    return False


def require_whole(base: str, revision: str | None = None) -> None:
    """Refuse a model whose files hold quantised weights where it is to be exported, or trained as if they were whole.

    Raises:
        ModelError: Its full weights are not in it.
    """
    try:
        config = AutoConfig.from_pretrained(base, revision=revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError):
        return  # what is wrong with it is said where it is loaded
    found = getattr(config, "quantization_config", None)
    if not found:
        return
    method = found.get("quant_method") if isinstance(found, dict) else getattr(found, "quant_method", None)
    raise ModelError(
        f"its weights are stored quantised ({getattr(method, 'value', method) or 'unknown method'}), and whole ones are needed",
        where=base if is_hub_id(base) else Path(base).name,
        cure="Name the model it was quantised from; to train in little memory, that one with model.load_in_4bit: true.",
    )


def grow_embeddings(model: PreTrainedModel, num_tokens: int) -> None:
    """Give a model rows for tokens it does not know yet, each one the mean of all: a reference model gets the same."""
    known = cast("torch.nn.Embedding", model.get_input_embeddings()).num_embeddings
    if num_tokens <= known:
        return
    model.resize_token_embeddings(num_tokens, mean_resizing=False)
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            if layer is not None:
                weight = cast("torch.Tensor", layer.weight)
                weight[known:] = weight[:known].mean(dim=0)


def _refuse_reward(architectures: list[str] | None, where: str) -> None:
    if any("SequenceClassification" in name for name in architectures or []):
        raise ModelError(
            "this is a reward model: it scores answers and writes none",
            where=where,
            cure="Choose a language model, such as the run it was trained from.",
        )


def base_of(adapter: Path, *, scores: bool = False) -> str:
    """Return where the base of a saved adapter lies, its reference read on this machine.

    Raises:
        ModelError: The base is not here, or the adapter is a reward model's and `scores` does not ask for one.
    """
    config = durable.read_json(adapter / "adapter_config.json") or {}
    if config.get("task_type") == "SEQ_CLS" and not scores:
        _refuse_reward(["SequenceClassification"], adapter.name)
    ref = str(config.get("base_model_name_or_path", ""))
    if not ref.startswith(("fresh:", "run:")):
        return ref
    path, cure = adapter.parent / "base", "Train again: the run's folder should hold it."
    if not path.is_dir() and (found := _RUN_STEP.fullmatch(ref)):  # the adapter alone came from another machine
        path = adapter.parent.parent / found[1] / f"checkpoint-{found[2]}"
        cure = f"Bring it back, on Runs or by `codex-space runs fetch {found[1]} {found[2]}`."
    if not path.is_dir():
        raise ModelError("the base of this adapter is not on this machine", where=ref, cure=cure)
    return str(path)


def stored_dtype(folder: Path) -> torch.dtype:
    """Return what a model's weights are stored in, by its config.json."""
    config = durable.read_json(folder / "config.json") or {}
    return getattr(torch, str(config.get("dtype") or config.get("torch_dtype") or "float32"), torch.float32)


def device_map(*, is_shared: bool = False) -> dict[str, int | str] | None:
    """Return where a 4-bit model goes: it is quantised on its way there. One that is shared no GPU holds whole."""
    if is_shared:
        return {"": "cpu"}
    return {"": processes.local_rank()} if torch.cuda.is_available() else None


def add_stop_token(model: PreTrainedModel, stop_id: int) -> None:
    """Let generation end at the template's own end of turn too, not only at the tokenizer's end token."""
    config = model.generation_config or GenerationConfig()
    known = config.eos_token_id
    ids = [known] if isinstance(known, int) else list(known or [])
    if stop_id not in ids:
        config.eos_token_id = [stop_id, *ids]
    model.generation_config = config


def _first_line(error: BaseException) -> str:
    if isinstance(error, HubError):
        return error.what
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
