"""What a recipe's trainer would be given, noted down instead of trained."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from peft import LoraConfig
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    TrainingArguments,
)

from codex_space.core.sections import SAVES_IN_A_RUN
from codex_space.core.shared_recipe import TuningRecipe
from codex_space.work import adapters, arguments, tuning
from codex_space.work.attempt import Attempt

DATA, MODEL, TEMPLATE = "data", "model", "chat_template.jinja"
_BATCHES = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")


@dataclass
class Plan:
    """What a kind hands to its trainer.

    Attributes:
        model: What stands for the base: `model` for the folder beside, else a Hub id.
        template: Whether a Hub model is given another chat template than its own.
        values: The trainer's arguments that differ from its own defaults, or are the recipe's.
        scores: Whether the model gives one number instead of text.
        attaches: Whether the trainer attaches the adapters; else they are before it is made.
        draws: Whether training draws random numbers at each step, so that one evaluation more would change it.
        notes: What the recipe says beside the training, one sentence each.
    """

    attempt: Attempt
    recipe: TuningRecipe
    config: type[TrainingArguments] = TrainingArguments
    values: dict[str, Any] = field(default_factory=dict)
    lora: LoraConfig | None = None
    rows: tuple[tuning.Rows, tuning.Rows | None] | None = None
    dtype: str = "float32"
    compute_dtype: str = "bfloat16"
    model: str = MODEL
    revision: str | None = None
    template: bool = False
    scores: bool = False
    attaches: bool = True
    needs_reference: bool = False
    draws: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """The recipe's kind."""
        return self.recipe.kind  # ty: ignore[missing-attribute]

    @property
    def has_validation(self) -> bool:
        """Whether there are rows to evaluate on."""
        return self.rows is not None and self.rows[1] is not None

    def settings(self) -> dict[str, Any]:
        """Return the arguments of the trainer's config."""
        recipe = self.recipe
        named = {"run_name": recipe.name} if recipe.name else {}
        values = {**self.values, **self._pace(), "output_dir": "output", **named}
        if self.draws:
            for name in ("eval_strategy", "eval_steps", "eval_on_start"):
                values.pop(name, None)
        return values

    def _pace(self) -> dict[str, Any]:
        """Return when checkpoints are saved and rows evaluated on, in TRL's words."""
        every = self.recipe.checkpoints.every_steps or 1 / SAVES_IN_A_RUN  # under 1 a share of the run
        found: dict[str, Any] = {"save_strategy": "steps", "save_steps": every}
        found["save_total_limit"] = self.recipe.checkpoints.keep_last
        if self.has_validation and not self.draws:
            found |= {"eval_strategy": "steps", "eval_steps": every}
        return found


@dataclass(frozen=True)
class Recorded(tuning.Start):
    """The start of a run that notes what its trainer would be given, and builds none."""

    plan: Plan = field(kw_only=True)

    def arguments(self, kind: type[tuning.Arguments], **defaults: Any) -> tuning.Arguments:  # noqa: ANN401  # the trainer's own
        """Return the run's own, and note what they were made of."""
        self.plan.config = kind
        self.plan.values = arguments.decide(self.attempt, **defaults)
        return super().arguments(kind, **defaults)

    def load_model(self, *, scores: bool = False) -> PreTrainedModel:
        """Return the model's layers without weights."""
        source = self.source
        config = AutoConfig.from_pretrained(source.path, revision=source.revision, trust_remote_code=False)
        kind: Any = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
        with torch.device("meta"):
            return kind.from_config(config)

    def build(
        self,
        kind: Callable[..., tuning.AnyTrainer],
        model: PreTrainedModel,
        config: TrainingArguments,
        data: tuple[tuning.Rows, tuning.Rows | None],
        *,
        attaches: bool = True,
        **kwargs: Any,  # noqa: ANN401  # the trainer's own
    ) -> tuning.AnyTrainer:
        """Note it all; of the arguments, those a kind has changed since."""
        plan, lora = self.plan, self.recipe.lora
        plan.values |= {
            name: getattr(config, name) for name in _BATCHES if getattr(config, name) != _default(config, name)
        }
        plan.rows = data
        plan.needs_reference = kwargs.get("ref_model") is not None
        plan.scores, plan.attaches = not model.can_generate(), attaches
        if lora:
            task_type = "SEQ_CLS" if plan.scores else "CAUSAL_LM"
            plan.lora = adapters.lora_config(lora, model, task_type=task_type, new_tokens=self.new_tokens)
        plan.draws = _draws(plan, model, config)
        return cast("tuning.AnyTrainer", None)


def _draws(plan: Plan, model: PreTrainedModel, config: TrainingArguments) -> bool:
    if getattr(config, "disable_dropout", False):
        return False
    drops = [value for name, value in model.config.to_dict().items() if "drop" in name and isinstance(value, float)]
    return bool(any(drops) or (plan.lora and plan.lora.lora_dropout) or config.neftune_noise_alpha)


def _default(config: TrainingArguments, name: str) -> Any:  # noqa: ANN401  # the trainer's own
    return type(config).__dataclass_fields__[name].default
