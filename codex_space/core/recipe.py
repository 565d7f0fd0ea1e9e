"""The recipe: one YAML text that page, command line, worker, queue and model card all read.

One model per kind; unknown keys are refused by name with the nearest right one. The `train:` section passes
through to the trainer's config (TRL's SFTConfig, transformers' TrainingArguments); its field names and types
come from `configs/fields/`, so that this module needs neither.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from codex_space.core.errors import RecipeError
from codex_space.core.quants import QUANTS
from codex_space.core.train_fields import check_train

SCHEMA = 1


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

    @property
    def higher_is_better(self) -> bool:
        """Whether the best checkpoint is the one with the highest value of the metric."""
        return bool(_HIGHER_IS_BETTER.search(self.metric)) and "rejected" not in self.metric


PromptForm = Literal["auto", "completion", "completion-stripped", "chat", "chat-no-prefill", "request", "request-begun"]
"""How a problem becomes a prompt (grade/protocol.py)."""


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

    where: Literal["local"] = Field(default="local", description="This machine.")
    num_processes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Copies of the model that train together, one a GPU (DDP); each step sees this many times the rows, and an epoch's last step is filled up with its first.",
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


class BaseRecipe(Section):
    """What every kind shares."""

    schema_: Literal[1] = Field(default=SCHEMA, alias="schema", description="Version of this format.")
    name: str = Field(
        default="", pattern=r"^[\w .+-]{0,80}$", description="Name shown in lists: letters, digits, space, . + - _"
    )
    seed: int = Field(default=42, ge=0, description="Fixes the order of rows, dropout and fresh weights.")
    datasets: list[DatasetSection] = Field(min_length=1, description="Where rows come from.")
    launch: LaunchSection = Field(default_factory=LaunchSection, description="How the worker is started.")

    @property
    def sources(self) -> list[DatasetSection]:
        """Every source that rows are read from."""
        return self.datasets

    @model_validator(mode="after")
    def _several_can_train(self) -> "BaseRecipe":
        kind = getattr(self, "kind", "")
        if self.launch.num_processes > 1 and kind not in TUNING_KINDS:
            raise ValueError(f"launch.num_processes is for {', '.join(TUNING_KINDS)}: a {kind} run is one process")
        return self

    @model_validator(mode="after")
    def _shares_are_a_whole(self) -> "BaseRecipe":
        shares = [section.share for section in self.datasets]
        given = [share for share in shares if share is not None]
        if not given:
            return self
        if getattr(self, "kind", "") not in {"pretrain", "tokenizer"}:
            raise ValueError("datasets.share is for pretraining and tokenizers: set weight, which counts rows")
        if len(given) < len(shares) or any(section.weight != 1 for section in self.datasets):
            raise ValueError("where one source has a share, each has one and none a weight")
        if abs(sum(given) - 1) > 1e-3:
            raise ValueError(f"the shares of the sources add up to {sum(given):g} and not to 1")
        return self


class TrainingRecipe(BaseRecipe):
    """What the kinds with a training loop share."""

    validation: ValidationSection = Field(default_factory=ValidationSection, description="Held-out rows.")
    train: dict[str, Any] = Field(default_factory=dict, description="Any field of the trainer's own config.")
    checkpoints: CheckpointsSection = Field(default_factory=CheckpointsSection, description="What is kept.")
    deterministic: bool = Field(
        default=False,
        description="Only algorithms that give the same bits each time, also on a GPU; slower, and refused by some models.",
    )
    hub: HubSection | None = Field(default=None, description="Where checkpoints are pushed; empty keeps them here.")
    evaluate: EvaluateSection | None = Field(
        default=None, description="Benchmarks asked while training; empty for none."
    )
    track: TrackSection | None = Field(
        default=None, description="Where curves are written beside the program's own; empty for nowhere."
    )
    samples: SamplesSection | None = Field(
        default=None, description="Answers to a few prompts while training; `{}` for the usual ones, empty for none."
    )

    @property
    def sources(self) -> list[DatasetSection]:
        """Every source that rows are read from, the validation rows' own last."""
        return [*self.datasets, *([self.validation.dataset] if self.validation.dataset else [])]

    @model_validator(mode="after")
    def _best_is_known(self) -> "TrainingRecipe":
        word, _, named = self.checkpoints.metric.partition(" ")
        asked = self.evaluate.benchmarks if self.evaluate else []
        if word == "pass@1" and not any(named.startswith(benchmark.rstrip("+")) for benchmark in asked):
            raise ValueError(
                f"checkpoints.metric {self.checkpoints.metric!r} needs that benchmark in evaluate.benchmarks"
            )
        needs_rows = self.checkpoints.early_stopping_patience and word.startswith("eval_")
        if needs_rows and not (self.validation.fraction or self.validation.dataset):
            raise ValueError(
                f"checkpoints.early_stopping_patience needs validation rows for {word}: set validation.fraction"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _check_train(cls, values: Any) -> Any:  # noqa: ANN401  # pydantic hands over raw YAML
        if isinstance(values, Mapping) and isinstance(values.get("train"), Mapping):
            kind = str(values.get("kind"))
            return {**values, "train": check_train(kind, values["train"])}
        return values


DPO_LOSSES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip
KTO_LOSSES = ("kto", "apo_zero_unpaired")


def _require_loss(train: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Refuse a loss the trainer would only refuse at its first step."""
    given = train.get("loss_type") or []
    for name in [given] if isinstance(given, str) else given:
        if name not in known:
            raise ValueError(f"train.loss_type {name!r} is not known. {nearest(str(name), list(known))}")


class TuningRecipe(TrainingRecipe):
    """What the kinds that go on from a base model share."""

    model: ModelSection = Field(description="The base model.")
    lora: LoraSection | None = Field(default=None, description="Adapters; leave out for full fine-tuning.")
    chat_template: Literal["auto", "codex", "none"] = Field(
        default="auto",
        description="auto keeps the model's own template and uses ours where it has none; codex always uses ours; none joins "
        "prompt and completion as they are (for completing code, not for chat).",
    )

    @model_validator(mode="after")
    def _four_bit_needs_lora(self) -> "TuningRecipe":
        if self.model.load_in_4bit and self.lora is None:
            raise ValueError("model.load_in_4bit needs a lora section: weights in 4 bits cannot be trained themselves")
        if self.lora and self.lora.continue_adapter and self.model.added_tokens:
            raise ValueError("lora.continue_adapter trains the adapter as it was made: leave model.added_tokens out")
        return self


class SftRecipe(TuningRecipe):
    """Supervised fine-tuning with TRL's SFTTrainer."""

    kind: Literal["sft"]


class DpoRecipe(TuningRecipe):
    """Direct preference optimisation: of two answers the chosen one becomes likelier than the model first had it."""

    kind: Literal["dpo"]

    @model_validator(mode="after")
    def _losses_are_known(self) -> "DpoRecipe":
        _require_loss(self.train, DPO_LOSSES)
        return self


class KtoRecipe(TuningRecipe):
    """Kahneman-Tversky optimisation: learns from single answers that are marked good or bad."""

    kind: Literal["kto"]

    @model_validator(mode="after")
    def _batch_holds_two(self) -> "KtoRecipe":
        _require_loss(self.train, KTO_LOSSES)
        rows = self.train.get("per_device_train_batch_size", 8)
        if self.train.get("loss_type", "kto") == "kto" and isinstance(rows, int) and rows < 2:
            raise ValueError(
                "train.per_device_train_batch_size must be 2 or more: KTO compares each answer with another row's"
            )
        return self


class OrpoRecipe(TuningRecipe):
    """Odds ratio preference optimisation: learns the chosen answers and away from the rejected ones at once."""

    kind: Literal["orpo"]


class RewardRecipe(TuningRecipe):
    """A reward model (Bradley-Terry): one number for an answer, higher for the better one; it writes no text."""

    kind: Literal["reward"]

    @model_validator(mode="after")
    def _writes_no_answers(self) -> "RewardRecipe":
        for name in ("evaluate", "samples"):
            if getattr(self, name):
                raise ValueError(f"a reward model scores answers and writes none: leave the {name} section out")
        return self


class PretrainRecipe(TrainingRecipe):
    """A small language model from random weights."""

    kind: Literal["pretrain"]
    architecture: str | dict[str, Any] = Field(
        description="Name of a file in configs/architectures, or its content: any field of transformers' LlamaConfig, or with "
        "model_type: starcoder2 of Starcoder2Config."
    )
    tokenizer: str = Field(description="`run:RUN_ID` of a tokenizer run, a local folder, or a Hub id.")
    block_size: int = Field(default=512, ge=32, le=131072, description="Tokens in one training sequence.")


class TokenizerRecipe(BaseRecipe):
    """A tokenizer, learnt from text."""

    kind: Literal["tokenizer"]
    method: Literal["byte_bpe", "sentencepiece_bpe", "sentencepiece_unigram", "whitespace"] = Field(
        default="byte_bpe",
        description="byte_bpe for every model that is to become a GGUF; SentencePiece's BPE does too, its unigram does not; "
        "whitespace is for teaching: it loses what it does not know.",
    )
    special_tokens: list[Annotated[str, Field(min_length=1, max_length=40)]] = Field(
        default=["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"],
        max_length=64,
        description="Beside those for end, padding, chat and fill-in-the-middle.",
    )
    vocab_size: int = Field(default=4096, ge=300, le=262144, description="Entries, special tokens included.")
    max_bytes: int = Field(
        default=20_000_000, ge=1000, description="At most this much text is read, spread over the whole corpus."
    )


MEASURED = ("perplexity", "answers")
"""Benchmarks without problems of their own: they measure a model on the rows of a recipe's datasets."""


class EvaluateRecipe(BaseRecipe, Asking):
    """The share of a benchmark's problems a model solves, or how well it does on rows of one's own."""

    kind: Literal["evaluate"]
    model: ModelSection = Field(description="What is asked: a run's checkpoint, a Hub id or a folder.")
    benchmark: str = Field(
        default="first-steps",
        description="Its name, such as first-steps, humaneval+ or mbpp; perplexity (bits per byte) and answers (text metrics) "
        "measure the rows of datasets.",
    )
    problems: str | None = Field(
        default=None, description="A problems file on this machine instead of the benchmark's."
    )
    num_samples: int = Field(
        default=1, ge=1, le=1000, description="Answers to each problem; more than one are sampled."
    )
    temperature: float = Field(default=0.0, ge=0, le=5, description="0 takes the likeliest token each time (greedy).")
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="Only the likeliest tokens up to this share are drawn from."
    )
    datasets: list[DatasetSection] = Field(
        default=[], description="What perplexity and answers measure; none for all others, which bring their problems."
    )
    metrics: list[str] = Field(
        default=["exact-match", "token-f1", "bleu", "rouge-l", "chrf"],
        min_length=1,
        description="How answers are compared with the rows' own completions.",
    )

    @model_validator(mode="after")
    def _rows_are_measured(self) -> "EvaluateRecipe":
        if self.benchmark in MEASURED and not self.datasets:
            raise ValueError(f"benchmark {self.benchmark} measures rows: name them in datasets")
        if self.benchmark in MEASURED and (self.problems or self.num_samples > 1):
            raise ValueError(f"benchmark {self.benchmark} takes neither problems nor more than one of num_samples")
        if self.datasets and self.benchmark not in MEASURED:
            raise ValueError(f"benchmark {self.benchmark} brings its problems: leave datasets out")
        return self

    @model_validator(mode="after")
    def _samples_differ(self) -> "EvaluateRecipe":
        if self.num_samples > 1 and not self.temperature:
            raise ValueError("num_samples above 1 needs a temperature above 0: greedy answers are all the same")
        return self


class ExportRecipe(BaseRecipe):
    """A model made into GGUF files that other programs run, each compared with the model before it is offered."""

    kind: Literal["export"]
    model: ModelSection = Field(description="What is exported: a run's checkpoint, a Hub id or a folder.")
    gguf: list[str] = Field(
        default=["Q8_0", "Q4_K_M"], min_length=1, max_length=12, description="Types of file, such as Q8_0 or Q4_K_M."
    )
    adapter: bool = Field(
        default=False,
        description="Also a LoRA adapter as a small GGUF file of its own, for programs that load it on its base.",
    )
    imatrix: bool = Field(
        default=False,
        description="Weigh what matters most while quantising, measured on the rows of datasets, or on the standard "
        "library's source where there are none.",
    )
    system: str = Field(default="", max_length=4000, description="System prompt that Ollama starts each chat with.")
    num_ctx: int | None = Field(
        default=None,
        ge=128,
        le=1 << 20,
        description="Context Ollama opens, in tokens; empty for the model's own, at most 8192.",
    )
    datasets: list[DatasetSection] = Field(default=[], max_length=8, description="Rows for the importance matrix.")
    hub: HubSection | None = Field(default=None, description="Where the files are pushed; empty keeps them here.")

    @model_validator(mode="after")
    def _types_are_known(self) -> "ExportRecipe":
        for name in self.gguf:
            if name not in QUANTS:
                raise ValueError(f"gguf type {name!r} is not known. {nearest(name.upper(), list(QUANTS))}")
            if QUANTS[name].needs_imatrix and not self.imatrix:
                raise ValueError(f"gguf type {name} needs an importance matrix: set imatrix: true, or take Q2_K")
        if len(set(self.gguf)) < len(self.gguf):
            raise ValueError("a gguf type is named twice")
        return self


Known = (
    SftRecipe
    | DpoRecipe
    | KtoRecipe
    | OrpoRecipe
    | RewardRecipe
    | PretrainRecipe
    | TokenizerRecipe
    | EvaluateRecipe
    | ExportRecipe
)
Recipe = Annotated[Known, Field(discriminator="kind")]
WRITING_KINDS = ("pretrain", "sft", "dpo", "kto", "orpo")
"""Kinds of run whose result is a language model: it can be chatted with, evaluated and tuned further."""
TUNING_KINDS = ("sft", "dpo", "kto", "orpo", "reward")
"""Kinds that tune a base model; several processes can do it together."""
TRL_COMMANDS = ("sft", "dpo", "kto", "reward")
"""Kinds that the `trl` command has too."""
KINDS: dict[str, type[BaseRecipe]] = {
    "sft": SftRecipe, "dpo": DpoRecipe, "kto": KtoRecipe, "orpo": OrpoRecipe, "reward": RewardRecipe,
    "pretrain": PretrainRecipe, "tokenizer": TokenizerRecipe, "evaluate": EvaluateRecipe,
    "export": ExportRecipe,
}  # fmt: skip
_ADAPTER: TypeAdapter[Any] = TypeAdapter(Recipe)


class _Loader(yaml.SafeLoader):
    """YAML that refuses a key given twice (the second would win in silence)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            line = node.start_mark.line + 1 if node.start_mark else 1
            raise RecipeError(
                f"the key {twice!r} is given twice", where=f"recipe line {line}", cure="Keep one of them."
            )
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, where: str = "recipe") -> dict[str, Any]:
    """Return the mapping a YAML text holds.

    Raises:
        RecipeError: Not YAML, too long, or not a mapping.
    """
    if len(text) > 200_000:
        raise RecipeError("the text is longer than 200,000 characters", where=where, cure="A recipe fits on a page.")
    try:
        values = yaml.load(text, Loader=_Loader)  # noqa: S506  # _Loader is a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"{where} line {mark.line + 1}" if mark else where
        raise RecipeError(f"this is not YAML: {getattr(error, 'problem', error)}", where=line) from error
    except RecursionError as error:
        raise RecipeError("the YAML is nested too deeply", where=where) from error
    if not isinstance(values, dict):
        raise RecipeError("a recipe is a mapping that starts with `kind:`", where=where, cure="See configs/recipes.")
    return {str(key): value for key, value in values.items()}


def parse_recipe(text: str, overrides: list[str] | None = None) -> Known:
    """Check a recipe text, with `key=value` overrides (values are YAML) applied first.

    Raises:
        RecipeError: One sentence naming the key, what is wrong with it, and the nearest right one.
    """
    values = parse_yaml(text)
    for override in overrides or []:
        apply_override(values, override)
    return validate(values)


def validate(values: Mapping[str, Any]) -> Known:
    """Turn a mapping into a recipe.

    Raises:
        RecipeError: As in `parse_recipe`.
    """
    try:
        return _ADAPTER.validate_python(dict(values))
    except ValidationError as error:
        raise _explain(error, values) from error


def render_recipe(recipe: BaseRecipe) -> str:
    """Return the YAML text of a recipe, defaults left out, keys in reading order."""
    values = recipe.model_dump(by_alias=True, exclude_defaults=True)
    ordered = {"schema": SCHEMA, "kind": getattr(recipe, "kind", ""), **values}
    return yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True, width=100)


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set `a.b.0.c=VALUE` in a nested mapping, VALUE read as YAML.

    Raises:
        RecipeError: No `=`, or the path runs through something that is not a mapping or list.
    """
    path, found, text = override.partition("=")
    if not found or not path.strip():
        raise RecipeError(f"{override!r} is not key=value", cure="Write it like train.learning_rate=1e-4.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"the value of {path} is not YAML", where=override) from error
    here: Any = values
    *parents, last = path.strip().split(".")
    for part in parents:
        here = _descend(here, part, override)
    if isinstance(here, list) and last.isdigit() and int(last) < len(here):
        here[int(last)] = value
    elif isinstance(here, dict):
        here[last] = value
    else:
        raise RecipeError(f"{path} does not lead to a key", where=override)


def _descend(here: Any, part: str, override: str) -> Any:  # noqa: ANN401  # any YAML value
    if isinstance(here, list) and part.isdigit() and int(part) <= len(here):
        if int(part) == len(here):
            here.append({})
        return here[int(part)]
    if isinstance(here, dict):
        child = here.get(part)
        if child is None:
            child = here[part] = {}
        return child
    raise RecipeError(f"{part!r} does not lead to a key", where=override)


def nearest(word: str, choices: list[str]) -> str:
    """Return ` Did you mean X?`, or the choices where none is near."""
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(sorted(choices)[:40])}."


def _explain(error: ValidationError, values: Mapping[str, Any]) -> RecipeError:
    first = error.errors(include_url=False)[0]
    kind = values.get("kind")
    path = [str(part) for part in first["loc"] if str(part) != kind]
    where = ".".join(path) or "recipe"
    match first["type"]:
        case "union_tag_invalid" | "union_tag_not_found":
            cure = nearest(str(kind), list(KINDS)) if kind else f"Start with `kind:` {', '.join(KINDS)}."
            return RecipeError(f"unknown kind {kind!r}" if kind else "no kind is given", where="kind", cure=cure)
        case "extra_forbidden":
            fields = _fields_at(KINDS[str(kind)], path[:-1])
            return RecipeError(f"unknown key {path[-1]!r}", where=where, cure=nearest(path[-1], fields))
        case "missing":
            return RecipeError("this key is missing", where=where, cure="Add it to the recipe.")
    text = first["msg"].removeprefix("Value error, ")
    given = "" if isinstance(first["input"], Mapping | list) else f" (got {first['input']!r})"
    return RecipeError(f"{text[0].lower()}{text[1:]}{given}", where=where)


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        field = model.model_fields.get(part)
        inner = _model_in(field.annotation) if field else None
        if inner is not None:
            model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401  # typing constructs
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in getattr(annotation, "__args__", ()) if (found := _model_in(arg))), None)
