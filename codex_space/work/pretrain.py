"""Train a small Llama-shaped model from random weights on plain text, measured in bits a byte."""

import logging
import math
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, Trainer, TrainingArguments, default_data_collator

from codex_space.core.errors import DataError, ModelError
from codex_space.core.presets import read_architecture
from codex_space.core.recipe import PretrainRecipe
from codex_space.data.prepare import Prepared
from codex_space.work import arguments, benchmark, models, report, rows, samples, tokenizer, tokens
from codex_space.work.attempt import Attempt
from codex_space.work.tokens import Blocks, TokenFile

log = logging.getLogger(__name__)

FRESH_BPE, FRESH_BYTES = "fresh:bpe", "fresh:bytes"


def run(attempt: Attempt) -> None:
    """Train what the recipe says.

    Raises:
        CodexError: Why it cannot start or go on.
    """
    recipe = attempt.recipe
    assert isinstance(recipe, PretrainRecipe)  # noqa: S101  # narrows the type
    prepared = rows.prepare(attempt)
    attempt.say("phase", phase="tokens", detail=f"turning {prepared.num_train:,} texts into tokens")
    words = _load_tokenizer(attempt, recipe, prepared)
    root = attempt.job.root
    train = tokens.write_tokens(prepared.train, prepared.train_sha256, words, root / "train.npy")
    held = tokens.write_tokens(prepared.validation, prepared.validation_sha256, words, root / "validation.npy")
    blocks, held_blocks = Blocks(train, recipe.block_size), Blocks(held, recipe.block_size)
    if not len(blocks):
        raise DataError(
            f"the texts hold {train.num_tokens:,} tokens, less than one block of {recipe.block_size}",
            where="block_size",
            cure="Add text, or set a smaller block_size.",
        )
    fields = recipe.architecture if isinstance(recipe.architecture, dict) else read_architecture(recipe.architecture)
    _require_positions(fields, recipe.block_size)
    model = models.build_llama(fields, words, recipe.seed)
    log.info("%s parameters, %s tokens", f"{model.num_parameters():,}", f"{train.num_tokens:,}")
    trainer = _Trainer(
        held,
        model=model,
        args=arguments.build(attempt, TrainingArguments, tokens_counted="all", logging_steps=10),
        train_dataset=blocks,
        eval_dataset=held_blocks if len(held_blocks) else None,
        data_collator=default_data_collator,
        processing_class=words,
    )
    num_tokens = len(blocks) * recipe.block_size
    reporter = report.Reporter(
        attempt, evaluates=len(held_blocks) > 0, examine=benchmark.examiner(attempt, trainer, words)
    )
    reporter.sampler = samples.make(attempt, trainer, words, prepared, as_chat=False)
    report.train(
        attempt,
        trainer,
        reporter,
        num_rows=prepared.num_train,
        trained_tokens=num_tokens,
        total_tokens=train.num_tokens,
    )


class _Trainer(Trainer):
    """Adds bits a byte, which compares across tokenizers as loss does not."""

    def __init__(self, held: TokenFile, **kwargs: Any) -> None:  # noqa: ANN401  # the trainer's own
        super().__init__(**kwargs)
        self._tokens_per_byte = held.num_tokens / max(held.num_bytes, 1)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as the trainer does."""
        if "eval_loss" in logs:
            logs["eval_bits_per_byte"] = logs["eval_loss"] * self._tokens_per_byte / math.log(2)
        super().log(logs, start_time)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:  # noqa: ANN401  # the trainer's own
        """Evaluate as the trainer does, with a copy of the random state: one evaluation more or less changes no weight."""
        with torch.random.fork_rng():
            return super().evaluate(*args, **kwargs)


def _load_tokenizer(attempt: Attempt, recipe: PretrainRecipe, prepared: Prepared) -> PreTrainedTokenizerBase:
    ref = recipe.tokenizer
    folder = attempt.job.root / "tokenizer"
    if ref in (FRESH_BPE, FRESH_BYTES):
        if not folder.is_dir():
            if ref == FRESH_BYTES:
                tokenizer.make_bytes(folder)
            else:
                tokenizer.make_bpe(prepared.train, folder)
        return models.load_tokenizer(str(folder))
    if ref.startswith("run:"):
        ref = attempt.references.get(ref, "")
        if not Path(ref).is_dir() or not ref:
            cure = "Train it first, or write fresh:bpe."
            raise ModelError("that tokenizer is not on this machine", where=recipe.tokenizer, cure=cure)
    return models.load_tokenizer(ref)


def _require_positions(fields: dict[str, Any], block_size: int) -> None:
    limit = fields.get("max_position_embeddings", 2048)
    if isinstance(limit, int) and block_size > limit:
        raise ModelError(
            f"a block of {block_size} tokens is longer than the model's {limit} positions",
            where="block_size",
            cure="Lower block_size, or raise max_position_embeddings in the architecture.",
        )
