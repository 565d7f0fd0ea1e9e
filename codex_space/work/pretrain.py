"""Train a small language model from random weights on plain text with our own loop, measured in bits a byte."""

import logging
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from codex_space.core import durable
from codex_space.core.architectures import Architecture, read_architecture
from codex_space.core.errors import DataError, ModelError, RecipeError, nearest
from codex_space.core.paths import MANIFEST, Workspace
from codex_space.core.recipe import PretrainRecipe
from codex_space.data.prepare import Prepared
from codex_space.work import benchmark, fresh, models, packing, processes, report, rows, samples, shards, tokenizer
from codex_space.work.attempt import Attempt
from codex_space.work.loop_arguments import LoopArguments
from codex_space.work.loop_text import Corpus, TextLoop

log = logging.getLogger(__name__)

FRESH_BPE, FRESH_BYTES = "fresh:bpe", "fresh:bytes"
PACKINGS = {"wrapped": packing.Stream, "best_fit": packing.BestFit}


def run(attempt: Attempt) -> None:
    """Train what the recipe says.

    Raises:
        CodexError: Why it cannot start or go on.
    """
    recipe = attempt.recipe
    assert isinstance(recipe, PretrainRecipe)  # noqa: S101  # narrows the type
    arguments = LoopArguments(**recipe.train)
    architecture = read_architecture(recipe.architecture)
    _require_positions(architecture, recipe.block_size)
    architecture.shape()  # off its target it is refused before anything is read
    with processes.main_first():
        prepared = rows.prepare(attempt)
    attempt.say("phase", phase="tokens", detail=f"turning {prepared.num_train:,} texts into tokens")
    with processes.main_first():
        words = _load_tokenizer(attempt, recipe, prepared)
        train, held = _tokens(attempt, prepared, words)
    corpus = Corpus(_pack(train, recipe, arguments), recipe.block_size, train.key, held)
    model = fresh.build_fresh(architecture, words, recipe.seed)
    fresh.quieten(model)
    log.info("%s parameters, %s tokens", f"{model.num_parameters():,}", f"{train.num_tokens:,}")
    is_shared = recipe.launch.config == "fsdp2"
    loop = TextLoop(attempt, model, words, corpus, arguments, shares_model=is_shared)
    is_main = processes.is_main()
    examine = benchmark.examiner(attempt, loop, words) if is_main else None
    reporter = report.Reporter(attempt, evaluates=held is not None, examine=examine)
    if is_main:
        reporter.sampler = samples.make(attempt, loop, words, prepared, as_chat=False)
    report.train(
        attempt,
        loop,
        reporter,
        num_rows=prepared.num_train,
        trained_tokens=corpus.rows.num_rows * recipe.block_size,
        total_tokens=train.num_tokens,
    )
    if attempt.timed_steps and attempt.check_only:
        attempt.say("speed", **loop.time_steps(attempt.timed_steps))
    if not attempt.check_only and is_main:
        _write_metrics(attempt, recipe)


def _tokens(
    attempt: Attempt, prepared: Prepared, words: PreTrainedTokenizerBase
) -> tuple[shards.Tokens, shards.Tokens | None]:
    """Return what is trained on and what is held out."""
    cache = attempt.job.root / "tokens" if attempt.workspace is None else Workspace(attempt.workspace).tokens
    train = shards.write(prepared.train, prepared.train_sha256, words, cache)
    if not prepared.num_validation:
        return train, None
    return train, shards.write(prepared.validation, prepared.validation_sha256, words, cache)


def _write_metrics(attempt: Attempt, recipe: PretrainRecipe) -> None:
    """Write metrics.json: what the final and the best checkpoint on disk measured."""
    job, wanted = attempt.job, recipe.checkpoints
    found = {
        step: (durable.read_json(job.checkpoint(step) / MANIFEST) or {})["metrics"] for step in job.checkpoint_steps()
    }
    judged = [step for step, metrics in found.items() if wanted.metric in metrics]
    if not found:
        return
    choose = max if wanted.higher_is_better else min
    told: dict[str, Any] = {"final": {"step": max(found), **found[max(found)]}}
    if judged:
        best = choose(judged, key=lambda step: found[step][wanted.metric])
        told["best"] = {"step": best, **found[best]}
    durable.write_json(job.root / "metrics.json", told)


def _pack(tokens: shards.Tokens, recipe: PretrainRecipe, arguments: LoopArguments) -> packing.Rows:
    if arguments.packing_strategy not in PACKINGS:
        what = f"there is no packing {arguments.packing_strategy!r} for pretraining"
        raise RecipeError(
            what, where="train.packing_strategy", cure=nearest(arguments.packing_strategy, list(PACKINGS))
        )
    found = PACKINGS[arguments.packing_strategy](shards.Reader(tokens), recipe.block_size, recipe.seed)
    if not found.num_rows:
        raise DataError(
            f"the texts hold {tokens.num_tokens:,} tokens, less than one block of {recipe.block_size}",
            where="block_size",
            cure="Add text, or set a smaller block_size.",
        )
    share = found.num_cut / tokens.num_tokens
    log.info("%s rows of %s tokens, %.1f %% left out", f"{found.num_rows:,}", f"{recipe.block_size:,}", 100 * share)
    return found


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


def _require_positions(architecture: Architecture, block_size: int) -> None:
    limit = architecture.fields.get("max_position_embeddings", 2048)
    if isinstance(limit, int) and block_size > limit:
        raise ModelError(
            f"a block of {block_size} tokens is longer than the model's {limit} positions",
            where="block_size",
            cure="Lower block_size, or raise max_position_embeddings in the architecture.",
        )
