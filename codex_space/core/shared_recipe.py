"""What recipes of several kinds share: of all, of those that train, and of those that tune a base model.

The kinds themselves are in `recipe.py`, the sections that all are made of in `sections.py`.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from codex_space.core.sections import (
    CheckpointsSection,
    DatasetSection,
    EvaluateSection,
    ExportSection,
    HubSection,
    LaunchSection,
    LoraSection,
    ModelSection,
    SamplesSection,
    Section,
    TrackSection,
    ValidationSection,
)
from codex_space.core.train_fields import check_train

SCHEMA = 1
WRITING_KINDS = ("pretrain", "sft", "dpo", "kto", "orpo")
"""Kinds of run whose result is a language model: it can be chatted with, evaluated and tuned further."""


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
        if self.launch.num_processes > 1 and not isinstance(self, TrainingRecipe):
            raise ValueError(f"launch.num_processes is for what trains a model: a {kind} run is one process")
        return self

    @model_validator(mode="after")
    def _job_has_a_way_home(self) -> "BaseRecipe":
        if self.launch.where == "local":
            return self
        hub = getattr(self, "hub", None)
        if not isinstance(self, TrainingRecipe):
            kind = getattr(self, "kind", "")
            raise ValueError(f"launch.where hf-jobs is for runs that train: a {kind} run is made here")  # noqa: TRY004  # pydantic's way
        if hub is None:
            raise ValueError("launch.where hf-jobs needs hub.repo_id: a Job's checkpoints come home through the Hub")
        if not hub.keep_rows:
            raise ValueError(
                "launch.where hf-jobs needs hub.keep_rows: true, your consent to push the rows to a private dataset of "
                "yours, where the Job reads them"
            )
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
    after: list[Literal["export"]] = Field(
        default=[], max_length=1, description="What comes once the run has succeeded: [export] makes GGUF files of it."
    )
    export: ExportSection | None = Field(
        default=None, description="How `after: [export]` exports; empty for the usual types of the best checkpoint."
    )

    @property
    def sources(self) -> list[DatasetSection]:
        """Every source that rows are read from, the validation rows' own last."""
        return [*self.datasets, *([self.validation.dataset] if self.validation.dataset else [])]

    @model_validator(mode="after")
    def _shards_can_train(self) -> "TrainingRecipe":
        config = self.launch.config
        if config == "ddp":
            return self
        if self.launch.num_processes < 2:
            raise ValueError(
                f"launch.config {config} shares a model among processes: set launch.num_processes to 2 or more"
            )
        for name in ("evaluate", "samples"):
            if getattr(self, name):
                raise ValueError(
                    f"launch.config {config} and {name} do not go together: one process writes the answers, and it holds a "
                    "part of the model only"
                )
        return self

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

    @property
    def export_after(self) -> ExportSection | None:
        """The export that follows a success, None where there is none."""
        return (self.export or ExportSection()) if "export" in self.after else None

    @model_validator(mode="after")
    def _export_can_follow(self) -> "TrainingRecipe":
        wanted = self.export_after
        if wanted is None:
            if self.export is not None:
                raise ValueError("export says how, and nothing says when: set after: [export] too")
            return self
        if getattr(self, "kind", "") not in WRITING_KINDS:
            raise ValueError("after: [export] is for models that write text: a reward model has no use as a GGUF file")
        if self.launch.where != "local":
            raise ValueError(
                "after: [export] is for runs that train on this machine: a Job's checkpoints lie on the Hub, from where "
                "the Export tab takes them by their id"
            )
        if wanted.push and self.hub is None:
            raise ValueError("export.push needs hub.repo_id: the files go to that name with -GGUF behind it")
        return self

    @model_validator(mode="before")
    @classmethod
    def _check_train(cls, values: Any) -> Any:  # noqa: ANN401  # pydantic hands over raw YAML
        if isinstance(values, Mapping) and isinstance(values.get("train"), Mapping):
            kind = str(values.get("kind"))
            return {**values, "train": check_train(kind, values["train"])}
        return values


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
    def _four_bits_are_shared_by_fsdp1(self) -> "TuningRecipe":
        """FSDP 1 lays a layer's weights end to end as one tensor, so that none may have a precision of its own."""
        config = self.launch.config
        if config != "ddp" and (config == "fsdp1") != self.model.load_in_4bit:
            raise ValueError(
                "launch.config fsdp1 is for a base in 4 bits: set model.load_in_4bit, or take fsdp2"
                if config == "fsdp1"
                else f"launch.config {config} shares weights of 16 and 32 bits alone: take fsdp1, which shares those in 4 bits"
            )
        if config != "fsdp1":
            return self
        if getattr(self, "kind", "") != "sft":
            raise ValueError(
                "launch.config fsdp1 is for sft: the other kinds hold 4 bits on each GPU, with config: ddp"
            )
        if self.model.added_tokens or (self.lora and self.lora.modules_to_save):
            raise ValueError(
                "launch.config fsdp1 trains adapters alone: take model.added_tokens and lora.modules_to_save out"
            )
        if self.model.dtype == "float32":
            raise ValueError("launch.config fsdp1 stores 4 bits as numbers of 16: set model.dtype to auto or bfloat16")
        return self

    @model_validator(mode="after")
    def _four_bit_needs_lora(self) -> "TuningRecipe":
        if self.model.load_in_4bit and self.lora is None:
            raise ValueError("model.load_in_4bit needs a lora section: weights in 4 bits cannot be trained themselves")
        if self.lora and self.lora.continue_adapter and self.model.added_tokens:
            raise ValueError("lora.continue_adapter trains the adapter as it was made: leave model.added_tokens out")
        return self
