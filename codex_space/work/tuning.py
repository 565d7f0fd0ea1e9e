"""What every kind that tunes a base model does alike: rows, model, template, adapters, the checks and the training."""

import functools
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import datasets
import torch
from peft import PeftModel, get_peft_model
from torch.utils.data import Sampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

from codex_space.core import sources
from codex_space.core.errors import DataError, ModelError, RecipeError
from codex_space.core.shared_recipe import TuningRecipe
from codex_space.data.prepare import Prepared
from codex_space.work import (
    adapters,
    arguments,
    bases,
    benchmark,
    fsdp1,
    head_tiles,
    models,
    processes,
    report,
    rows,
    samples,
    templates,
    token_check,
)
from codex_space.work.attempt import Attempt
from codex_space.work.loop import Loop

log = logging.getLogger(__name__)

AnyTrainer = TypeVar("AnyTrainer", bound=Trainer)
Arguments = TypeVar("Arguments", bound=TrainingArguments)
Rows = datasets.Dataset


@dataclass(frozen=True)
class Start:
    """What is there before a trainer is built.

    Attributes:
        as_chat: Whether rows go through the chat template.
        stop_id: The token that ends an answer.
        new_tokens: Numbers of the tokens whose embeddings the base has not learnt.
    """

    attempt: Attempt
    recipe: TuningRecipe
    prepared: Prepared
    source: models.Source
    tokenizer: PreTrainedTokenizerBase
    as_chat: bool
    stop_id: int
    new_tokens: tuple[int, ...] = ()

    def arguments(self, kind: type[Arguments], **defaults: Any) -> Arguments:  # noqa: ANN401  # the trainer's own
        """Return the trainer's arguments.

        Raises:
            RecipeError: The trainer refuses the combination.
        """
        return arguments.build(self.attempt, kind, tokens_counted="non_padding", **defaults)

    def load_model(self, *, scores: bool = False) -> PreTrainedModel:
        """Load the base; with `scores` under a fresh head that gives one number.

        Raises:
            ModelError: It cannot be loaded.
        """
        section, lora = self.recipe.model, self.recipe.lora
        dtype, is_shared = models.choose_dtype(section, adapters=lora is not None), self.recipe.launch.config == "fsdp1"
        if self.recipe.export_after or not section.load_in_4bit:
            path, revision = self.source.path, self.source.revision
            if models.is_adapter(path):
                folder = Path(path)
                path, revision = models.base_of(folder, scores=scores), sources.base_revision(folder)
            models.require_whole(path, revision)
        options: dict[str, Any] = {
            "scores": scores,
            "dtype": dtype,
            "attn_implementation": section.attn_implementation,
            "quantization_config": models.quantization(section, dtype if is_shared else torch.uint8),
            "device_map": models.device_map(is_shared=is_shared) if section.load_in_4bit else None,
        }
        if lora and lora.continue_adapter:
            if not models.is_adapter(self.source.path):
                cure = "Name a LoRA run or an adapter, or take lora.continue_adapter out."
                raise ModelError("the base model is no adapter", where="lora.continue_adapter", cure=cure)
            return cast("PreTrainedModel", models.load_adapter(self.source.path, is_trainable=True, **options))
        model = models.load_model(self.source.path, revision=self.source.revision, **options)
        models.grow_embeddings(model, len(self.tokenizer))
        return model

    def read(self, change: Callable[[Any], dict[str, Any]] | None = None) -> tuple[Rows, Rows | None]:
        """Return both files' rows, each one changed."""
        prepared = self.prepared
        self.attempt.say("phase", phase="tokens", detail=f"turning {prepared.num_train:,} rows into tokens")
        cache = str(self.attempt.job.root / "cache")

        def read(path: Path) -> Rows:
            with processes.main_first():
                dataset = Rows.from_parquet(str(path), cache_dir=cache)
                return dataset.map(change) if change else dataset

        return read(prepared.train), read(prepared.validation) if prepared.num_validation else None

    def read_answers(self) -> tuple[Rows, Rows | None]:
        """Return both files' rows of answers, as chats, or joined as they are where no template is used.

        Raises:
            DataError: A conversation of several messages has no template.
        """
        return self.read(None if self.as_chat or self.prepared.format == "preference_text" else _as_text)

    def build(
        self,
        kind: Callable[..., AnyTrainer],
        model: PreTrainedModel,
        config: TrainingArguments,
        data: tuple[Rows, Rows | None],
        *,
        attaches: bool = True,
        **kwargs: Any,  # noqa: ANN401  # the trainer's own
    ) -> AnyTrainer:
        """Return the trainer, its rows turned into tokens and its adapters attached: by itself where `attaches` says so.

        Raises:
            RecipeError: The trainer refuses the settings.
            ModelError: An adapter does not attach.
        """
        lora, peft_config = self.recipe.lora, None
        task_type = "CAUSAL_LM" if model.can_generate() else "SEQ_CLS"
        if lora and not isinstance(model, PeftModel):
            peft_config = adapters.lora_config(lora, model, task_type=task_type, new_tokens=self.new_tokens)
            peft_config.revision = self.source.revision
        if peft_config and not attaches:
            model, peft_config = cast("PreTrainedModel", get_peft_model(model, peft_config)), None
        if not torch.cuda.is_available():
            head_tiles.install()
        try:
            trainer = kind(
                model=model,
                args=config,
                train_dataset=data[0],
                eval_dataset=data[1],
                processing_class=self.tokenizer,
                peft_config=peft_config,
                **kwargs,
            )
        except (ValueError, NotImplementedError) as error:
            told = str(error).rstrip(".")
            raise RecipeError(f"the trainer refuses these settings: {told}", where="train") from error
        if self.recipe.launch.config == "fsdp1":
            fsdp1.prepare(trainer, self.attempt.resume_from)
        trained = cast("PreTrainedModel", trainer.model)
        if config.fp16:  # the scaler takes gradients in 32 bits alone; TRL gives adapters of a base in 4 bits bfloat16
            for weight in trained.parameters():
                weight.data = weight.data.float() if weight.requires_grad else weight.data
        if isinstance(trained, PeftModel):
            # PEFT would ask the Hub at each checkpoint, and add all embeddings to it where the adapter holds the new rows
            trained.save_pretrained = functools.partial(trained.save_pretrained, save_embedding_layers=False)
        if lora and not any(weight.requires_grad and "lora_" in name for name, weight in trained.named_parameters()):
            raise ModelError(
                "no adapter attached to this model", where="lora", cure="Set lora.target_modules: all-linear."
            )
        trainable = sum(weight.numel() for weight in trained.parameters() if weight.requires_grad)
        log.info("%s of %s parameters are trained", f"{trainable:,}", f"{trained.num_parameters():,}")
        return trainer


def begin(attempt: Attempt, *, weights: bool = True) -> Start:
    """Prepare the rows and find model, tokenizer and template; without `weights` only the tokenizer's files are touched.

    Raises:
        CodexError: One of them is not there or does not fit.
    """
    recipe = attempt.recipe
    assert isinstance(recipe, TuningRecipe)  # noqa: S101  # narrows the type
    with processes.main_first():
        prepared = rows.prepare(attempt)
    attempt.say("phase", phase="model", detail=f"loading {recipe.model.model_name_or_path}")
    with processes.main_first():
        source = bases.locate(attempt, recipe.model) if weights else bases.locate_tokenizer(attempt, recipe.model)
    tokenizer = models.load_tokenizer(source.path, source.revision)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # as TRL's stable trainers do; ORPO's would fail at the first batch
    new_tokens = models.add_tokens(source, tokenizer, recipe.model.added_tokens, weights=weights)
    as_chat = prepared.format not in {"text", "preference_text"} and recipe.chat_template != "none"
    if as_chat:
        templates.choose(tokenizer, recipe.chat_template)
    stop_id = templates.stop_id(tokenizer) if as_chat else int(tokenizer.eos_token_id)
    return Start(attempt, recipe, prepared, source, tokenizer, as_chat, stop_id, new_tokens)


class _ByLength(LengthGroupedSampler):
    """Rows of like length together, in an order that follows from seed and epoch: a resumed run sees the same one.

    The trainer's own draws the order from the global generator, which at a resume stands somewhere else.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int) -> None:
        super().__init__(batch_size, lengths=lengths)
        self._seed, self._epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before each epoch."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator = torch.Generator().manual_seed(self._seed + self._epoch)
        return super().__iter__()


class Ours(Trainer):
    """Mixed into each of TRL's trainers."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:  # noqa: ANN401  # the trainer's own
        sampler = super()._get_train_sampler(train_dataset)
        if isinstance(sampler, LengthGroupedSampler):
            return _ByLength(sampler.lengths, sampler.batch_size, self.args.data_seed or self.args.seed)
        return sampler

    def create_model_card(self, *args: object, **kwargs: object) -> None:
        """Write none: a draft would lie in the job folder and name this machine's paths."""

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:  # noqa: ANN401  # the trainer's own
        """Evaluate as the trainer does, with a copy of the random state: one evaluation more or less changes no weight."""
        with torch.random.fork_rng():
            return super().evaluate(*args, **kwargs)


def train(start: Start, trainer: Trainer | Loop, counts: token_check.Counts) -> None:
    """Say what the rows hold, train, and leave each checkpoint loadable by itself.

    Raises:
        TrainingError: The loss is no number, or the checkpoint to go on from is damaged.
    """
    attempt = start.attempt
    for warning in counts.warnings:
        attempt.say("warning", text=warning)
    model = cast("PreTrainedModel", trainer.model)
    writes, is_main = model.can_generate(), processes.is_main()
    if writes:
        models.add_stop_token(model, start.stop_id)

    def finish(folder: Path) -> None:
        if writes and model.generation_config:
            model.generation_config.save_pretrained(folder)
        templates.write_plain(folder)
        shutil.rmtree(folder / "ref", ignore_errors=True)  # TRL's copy of a continued adapter; a resume makes it anew

    reporter = report.Reporter(
        attempt,
        evaluates=bool(trainer.eval_dataset),
        base_model=start.source.reference,
        finish=finish,
        examine=benchmark.examiner(attempt, trainer, start.tokenizer) if writes and is_main else None,
    )
    if is_main:
        reporter.sampler = samples.make(attempt, trainer, start.tokenizer, start.prepared, as_chat=start.as_chat)
    report.train(
        attempt,
        trainer,
        reporter,
        num_rows=counts.num_rows,
        trained_tokens=counts.trained_tokens,
        total_tokens=counts.total_tokens,
    )


def _as_text(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of answers with each lone message as its text."""
    texts: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, list) and len(value) != 1:
            raise DataError(
                "a conversation of several messages needs a chat template",
                where="chat_template",
                cure="Set chat_template: auto or codex.",
            )
        texts[name] = value[0]["content"] if isinstance(value, list) else value
    return texts
