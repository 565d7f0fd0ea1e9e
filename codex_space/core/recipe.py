"""The recipe: one YAML text that page, command line, worker, queue and model card all read.

One model per kind; unknown keys are refused by name with the nearest right one. What several kinds share is in
`shared_recipe.py`. The `train:` section passes through to the trainer's config (TRL's SFTConfig, transformers'
TrainingArguments); its field names and types come from `configs/fields/`, so that this module needs neither.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, model_validator

from codex_space.core.errors import RecipeError, nearest
from codex_space.core.sections import Asking, DatasetSection, EndpointSection, Exporting, HubSection, ModelSection
from codex_space.core.shared_recipe import SCHEMA, BaseRecipe, TrainingRecipe, TuningRecipe
from codex_space.core.yaml_text import apply_override, parse_yaml

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


class SftRecipe(TuningRecipe):
    """Supervised fine-tuning with TRL's SFTTrainer."""

    kind: Literal["sft"]
    engine: Literal["trl", "loop"] = Field(
        default="trl",
        description="What takes the steps: TRL's SFTTrainer, or our own lean loop over the rows that TRL prepares, with the same "
        "losses and less between two steps.",
    )

    @model_validator(mode="after")
    def _loop_can_train(self) -> "SftRecipe":
        if self.engine == "trl":
            return self
        if self.launch.num_processes > 1:
            raise ValueError(
                "engine: loop trains answers in one process: set launch.num_processes to 1, or engine: trl"
            )
        if self.model.load_in_4bit:
            raise ValueError(
                "engine: loop holds weights of 16 and 32 bits alone: take model.load_in_4bit out, or set engine: trl"
            )
        for name, usual in (("loss_type", "nll"), ("label_smoothing_factor", 0), ("neftune_noise_alpha", None)):
            if (given := self.train.get(name, usual)) != usual:
                raise ValueError(
                    f"engine: loop takes the plain loss: take train.{name} ({given!r}) out, or set engine: trl"
                )
        return self


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

    @model_validator(mode="after")
    def _loop_shares_by_fsdp(self) -> "PretrainRecipe":
        if self.launch.config in {"fsdp1", "zero3"}:
            raise ValueError(f"launch.config {self.launch.config} is for tuning: pretraining shares a model with fsdp2")
        return self


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
    model: ModelSection = Field(
        description="What is asked: a run's checkpoint, a Hub id or a folder; with an endpoint, what that server calls it."
    )
    endpoint: EndpointSection | None = Field(
        default=None, description="An OpenAI-compatible server to ask; empty for a model here."
    )
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
    def _servers_are_asked_problems(self) -> "EvaluateRecipe":
        if self.endpoint and (self.benchmark in MEASURED or self.prompt_form != "auto"):
            raise ValueError("an endpoint is asked a benchmark's problems in its own form: leave prompt_form at auto")
        return self

    @model_validator(mode="after")
    def _samples_differ(self) -> "EvaluateRecipe":
        if self.num_samples > 1 and not self.temperature:
            raise ValueError("num_samples above 1 needs a temperature above 0: greedy answers are all the same")
        return self


class ExportRecipe(BaseRecipe, Exporting):
    """A model made into GGUF files that other programs run, each compared with the model before it is offered."""

    kind: Literal["export"]
    model: ModelSection = Field(description="What is exported: a run's checkpoint, a Hub id or a folder.")
    datasets: list[DatasetSection] = Field(default=[], max_length=8, description="Rows for the importance matrix.")
    hub: HubSection | None = Field(default=None, description="Where the files are pushed; empty keeps them here.")


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
