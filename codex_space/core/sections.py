"""The sections recipes are made of, each a mapping in the YAML: model, adapters, rows, checkpoints, benchmarks, Hub, launch."""

import math
import re
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from codex_space.core.errors import nearest
from codex_space.core.quants import QUANTS


class Section(BaseModel):
    """Base of all sections: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class ModelSection(Section):
    """The base model."""

    model_name_or_path: str = Field(
        min_length=1,
        description="Hub id, local folder, `run:RUN_ID` for an earlier run's result (`run:RUN_ID@step-N` for one "
        "checkpoint), or `fresh:tiny` for a small untrained model made on the spot.",
    )
    revision: str | None = Field(default=None, description="Branch, tag or commit of a Hub model.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="Precision of the weights: auto is bfloat16 for LoRA and float32 masters for full fine-tuning on "
        "a GPU that has bfloat16, float32 on CPU.",
    )
    added_tokens: list[str] = Field(
        default_factory=list,
        description="New tokens for the tokenizer, such as <|im_start|>; their embeddings are trained, with adapters these alone.",
    )
    load_in_4bit: bool = Field(default=False, description="QLoRA: hold the frozen base in NF4, double quantised.")
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] = Field(
        default="sdpa", description="Attention kernel; sdpa needs nothing installed."
    )


class LoraSection(Section):
    """Low-rank adapters (PEFT's names); leave the section out for full fine-tuning."""

    r: int = Field(default=16, ge=1, le=1024, description="Rank of the adapters.")
    lora_alpha: int = Field(default=32, ge=1, description="Scale: updates are multiplied by lora_alpha / r.")
    lora_dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout on the adapters' input, 0 to 1.")
    target_modules: str | list[str] = Field(
        default="all-linear", description="Layers that get adapters: all-linear, or names such as q_proj."
    )
    modules_to_save: list[str] | None = Field(default=None, description="Layers trained in full beside the adapters.")
    use_rslora: bool = Field(default=False, description="Scale by lora_alpha / sqrt(r) instead.")
    use_dora: bool = Field(default=False, description="Weight-decomposed adapters; slower, at times better.")
    continue_adapter: bool = Field(
        default=False,
        description="Where the base model is an adapter (a LoRA run, a folder, a Hub id): train that adapter on, which "
        "stays one of its own base, instead of merging it and training a second one on top.",
    )

    @model_validator(mode="after")
    def _adapter_stays_as_made(self) -> "LoraSection":
        others = sorted(self.model_fields_set - {"continue_adapter"})
        if self.continue_adapter and others:
            raise ValueError(f"lora.continue_adapter trains the adapter as it was made: leave lora.{others[0]} out")
        return self


class DatasetSection(Section):
    """One source of rows."""

    path: str = Field(
        min_length=1,
        description="A file, `dataset:NAME` of this workspace, `sample:NAME` that ships with the program, "
        "`builtin:python-stdlib`, or a Hub dataset id.",
    )
    name: str | None = Field(default=None, description="Configuration of a Hub dataset.")
    split: str = Field(default="train", description="Split of a Hub dataset.")
    revision: str | None = Field(default=None, description="Branch, tag or commit of a Hub dataset.")
    weight: float = Field(
        default=1.0, gt=0, description="How often each of its rows is used: 1 once, 0.5 half of them, 2 twice."
    )
    share: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Of a blend for pretraining: the share of all text (in bytes) that comes from here. Each source has one, and they "
        "add up to 1.",
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="Renames: our column name to the file's, such as {prompt: question}."
    )


class ValidationSection(Section):
    """Rows kept out of training to measure eval_loss."""

    fraction: float = Field(default=0.05, ge=0, le=0.5, description="Share of the rows held out, 0 for none.")
    dataset: DatasetSection | None = Field(default=None, description="Rows of their own, instead of a share.")


# pass@1, and how TRL's trainers name what goes up: mean_token_accuracy, rewards/margins, mean_reward, log_odds_ratio, ...
_HIGHER_IS_BETTER = re.compile(r"^pass@1 |accurac|margin|reward|chosen|log_odds")


SAVES_IN_A_RUN = 10
"""Where no interval is named."""


class CheckpointsSection(Section):
    """What is kept while training."""

    every_steps: int | None = Field(
        default=None, ge=1, description="Optimizer steps between checkpoints; empty means ten over the run."
    )
    keep_last: int = Field(default=2, ge=1, description="Newest checkpoints kept on disk.")
    keep_best: int = Field(default=1, ge=0, description="Best checkpoints kept on disk beside the newest.")
    metric: str = Field(
        default="eval_loss",
        description="What best means: a logged metric (of losses the lowest, of accuracies, margins and rewards the highest), "
        "or `pass@1 first-steps` with an evaluate section.",
    )
    early_stopping_patience: int | None = Field(
        default=None,
        ge=1,
        description="End once the metric has not improved for this many checkpoints; empty for never.",
    )
    early_stopping_threshold: float = Field(
        default=0.0, ge=0, description="An improvement smaller than this counts as none."
    )

    def interval(self, max_steps: int) -> int:
        """Return the steps between two checkpoints of a run of that length."""
        return self.every_steps or max(1, math.ceil(max_steps / SAVES_IN_A_RUN))

    @property
    def higher_is_better(self) -> bool:
        """Whether the best checkpoint is the one with the highest value of the metric."""
        return bool(_HIGHER_IS_BETTER.search(self.metric)) and "rejected" not in self.metric


PromptForm = Literal["auto", "completion", "completion-stripped", "chat", "chat-no-prefill", "request", "request-begun"]
"""How a problem becomes a prompt (grade/protocol.py)."""


class EndpointSection(Section):
    """A server that speaks OpenAI's protocol, asked instead of a model here; its key is never part of a recipe."""

    url: str = Field(
        max_length=500,
        pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$",
        description="What comes before /completions and /chat/completions, such as https://HOST/v1.",
    )
    has_key: bool = Field(
        default=False,
        description="Whether it wants a key: given at the press, held in memory until the run starts, and written down nowhere.",
    )
    concurrency: int = Field(default=4, ge=1, le=64, description="Requests to it at a time.")
    timeout_s: float = Field(default=120.0, gt=0, le=3600, description="Seconds until a whole answer must be there.")


class Asking(Section):
    """How a model is asked the problems of a benchmark."""

    mode: Literal["auto", "chat", "completion"] = Field(
        default="auto",
        description="chat asks in the model's own template and reads the code out of the answer; completion lets it go on "
        "writing after the problem; auto is chat where the model has a template.",
    )
    prompt_form: PromptForm = Field(
        default="auto",
        description="auto is what the benchmark's published scores are made with; completion as the prompt stands or stripped at "
        "its ends, chat with or without a begun answer, request the problem's own sentence where it has one.",
    )
    limit: int | None = Field(
        default=None, ge=1, description="At most this many problems, spread over the benchmark; empty for all."
    )
    max_new_tokens: int = Field(default=512, ge=1, le=32768, description="Longest answer, in tokens.")
    batch_size: int = Field(
        default=16, ge=1, le=1024, description="Answers written at once; halved by itself where memory is short."
    )

    @model_validator(mode="after")
    def _form_fits_mode(self) -> "Asking":
        form, mode = self.prompt_form, self.mode
        if "auto" not in (form, mode) and form.startswith("completion") != (mode == "completion"):
            raise ValueError(f"prompt_form {form} is not one of mode {mode}: leave one of the two at auto")
        return self


class EvaluateSection(Asking):
    """Benchmarks a model is asked while it trains; its answers are graded beside the training."""

    benchmarks: list[str] = Field(min_length=1, description="Names such as first-steps, humaneval or mbpp.")
    every_steps: int | None = Field(
        default=None, ge=1, description="Optimizer steps between two evaluations; empty means at every checkpoint."
    )
    limit: int | None = Field(
        default=40, ge=1, description="At most this many problems, spread over the benchmark; empty for all."
    )


class SamplesSection(Section):
    """What the model in training writes to the same few prompts, side by side over time; greedy, so that only it changes."""

    prompts: list[Annotated[str, Field(min_length=1, max_length=4000)]] = Field(
        default=[], max_length=8, description="At most 8; empty takes three of the validation rows."
    )
    every_steps: int = Field(
        default=50,
        ge=1,
        description="Optimizer steps between two samples; made longer where a run would have over 100.",
    )
    max_new_tokens: int = Field(default=64, ge=1, le=1024, description="Longest answer, in tokens.")


Tracker = Literal["tensorboard", "trackio", "wandb", "mlflow"]
TRACKERS: tuple[str, ...] = get_args(Tracker)


class TrackSection(Section):
    """Where the numbers of the curves are written too, in the run's own folder and without a network."""

    to: list[Tracker] = Field(
        min_length=1, description="One or several of tensorboard, trackio, wandb (offline; sync it later) and mlflow."
    )
    project: str = Field(default="codex-space", pattern=r"^[A-Za-z0-9_-]{1,80}$", description="Groups runs there.")


class Exporting(Section):
    """What a model is made into for other programs."""

    gguf: list[str] = Field(
        default=["Q8_0", "Q4_K_M"], min_length=1, max_length=12, description="Types of file, such as Q8_0 or Q4_K_M."
    )
    adapter: bool = Field(
        default=False,
        description="Also a LoRA adapter as a small GGUF file of its own, for programs that load it on its base.",
    )
    imatrix: bool = Field(
        default=False,
        description="Weigh what matters most while quantising, measured on the rows of an export's datasets, or on the "
        "standard library's source where there are none.",
    )
    system: str = Field(default="", max_length=4000, description="System prompt that Ollama starts each chat with.")
    num_ctx: int | None = Field(
        default=None,
        ge=128,
        le=1 << 20,
        description="Context Ollama opens, in tokens; empty for the model's own, at most 8192.",
    )

    @model_validator(mode="after")
    def _types_are_known(self) -> "Exporting":
        for name in self.gguf:
            if name not in QUANTS:
                raise ValueError(f"gguf type {name!r} is not known. {nearest(name.upper(), list(QUANTS))}")
            if QUANTS[name].needs_imatrix and not self.imatrix:
                raise ValueError(f"gguf type {name} needs an importance matrix: set imatrix: true, or take Q2_K")
        if len(set(self.gguf)) < len(self.gguf):
            raise ValueError("a gguf type is named twice")
        return self


class ExportSection(Exporting):
    """The export that comes after a training that succeeded."""

    checkpoint: Literal["best", "last"] = Field(
        default="best", description="Which checkpoint is exported: best by checkpoints.metric, or the last one."
    )
    push: bool = Field(
        default=False, description="Also push the files to `owner/name-GGUF`, beside the repository in hub.repo_id."
    )


class HubSection(Section):
    """Where checkpoints are pushed."""

    repo_id: str = Field(
        pattern=r"^\w[\w.-]*/\w[\w.-]*$", description="Model repository `owner/name`; it is made when missing."
    )
    private: bool = Field(default=True, description="Visibility of a repository that is made.")
    keep_rows: bool = Field(
        default=False,
        description="Also push the rows to a private dataset `owner/name-rows`, so that the run can go on from the "
        "Hub after this machine is gone.",
    )


class LaunchSection(Section):
    """How the worker is started."""

    where: Literal["local", "hf-jobs"] = Field(
        default="local",
        description="local is this machine; hf-jobs rents one of Hugging Face's for this run, which is paid by the minute.",
    )
    flavor: str = Field(
        default="l4x1",
        pattern=r"^[a-z0-9][a-z0-9-]{0,40}$",
        description="Machine of a Job, such as l4x1 or a100-large.",
    )
    timeout: str = Field(
        default="4h",
        pattern=r"^\d{1,6}(\.\d{1,3})?[smhd]$",
        description="A Job is ended after this long, such as 90m, 4h or 1d: the most it can cost.",
    )
    namespace: str | None = Field(
        default=None,
        pattern=r"^\w[\w.-]{0,95}$",
        description="Account or organisation that pays for a Job; empty for the token's own.",
    )
    max_cost_usd: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        description="The run is saved and stopped when it has cost this much on a machine that is paid for.",
    )
    num_processes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Copies of the model that train together, one a GPU (DDP); each step sees this many times the rows, and an epoch's last step is filled up with its first.",
    )
    config: Literal["ddp", "fsdp1", "fsdp2", "zero3"] = Field(
        default="ddp",
        description="What several processes hold: ddp each the whole model; fsdp2 (PyTorch) and zero3 (DeepSpeed) a part each, for "
        "models that one GPU cannot hold; fsdp1 (PyTorch's older one) does so with a base in 4 bits.",
    )
    num_threads: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="CPU threads; fixed at submission, since an exact resume needs equal counts.",
    )
    probe: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Try a step on the longest rows first, to measure its memory; auto does so on a GPU.",
    )

    @field_validator("probe", mode="before")
    @classmethod
    def _read_switch(cls, value: object) -> object:
        """Take YAML's `on` and `off`, which are true and false there."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _has_time(self) -> "LaunchSection":
        if not self.timeout_s:
            raise ValueError(f"launch.timeout {self.timeout} leaves a Job no time")
        return self

    @property
    def timeout_s(self) -> float:
        """The time limit of a Job in seconds."""
        return float(self.timeout[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[self.timeout[-1]]
