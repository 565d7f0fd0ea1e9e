"""Train a tokenizer of the method a recipe asks for, and say how well it fits; or make one of bare bytes."""

import json
import logging
import shutil
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from codex_space.core import durable
from codex_space.core.paths import share_dir
from codex_space.core.recipe import TokenizerRecipe
from codex_space.work import checkpoint, rows
from codex_space.work.attempt import Attempt
from codex_space.work.vocabularies import SENTENCEPIECE, learn, learn_sentencepiece, learn_words, too_large

log = logging.getLogger(__name__)

REPORT, REPORTED_LINES = "tokenizer_report.json", 10_000
_GGUF = {
    "byte_bpe": (True, "its split is one llama.cpp knows as qwen2"),
    "sentencepiece_bpe": (True, "as llama.cpp's own SentencePiece type, without a space in front"),
    "sentencepiece_unigram": (
        False,
        "llama.cpp would merge its pieces as BPE, and its type for unigram has no byte fallback",
    ),
    "whitespace": (False, "it loses spaces and unknown words, and llama.cpp has no such type"),
}


def run(attempt: Attempt) -> None:
    """Train the tokenizer a recipe asks for and save it as checkpoint-0.

    Raises:
        DataError: The rows cannot be read, or do not give as many entries as the recipe wants.
    """
    recipe = attempt.recipe
    assert isinstance(recipe, TokenizerRecipe)  # noqa: S101  # narrows the type
    prepared = rows.prepare(attempt)
    attempt.say("ready", max_steps=0, num_rows=prepared.num_train)
    if attempt.check_only:
        return
    attempt.say("phase", phase="training", detail=f"learning {recipe.vocab_size:,} tokens")
    folder = attempt.job.checkpoint(0)
    tokenizer = _learn(attempt, recipe, prepared.train, folder)
    if len(tokenizer) < recipe.vocab_size:
        raise too_large(recipe.vocab_size, len(tokenizer))
    tokenizer.save_pretrained(folder)
    attempt.say("phase", phase="report", detail=f"trying {REPORTED_LINES:,} lines")
    texts = sample_texts(prepared.train, recipe.max_bytes // 8)
    told = examine(AutoTokenizer.from_pretrained(folder), recipe.method, texts)
    durable.write_json(folder / REPORT, told)
    metrics = {
        name: float(told[name]) for name in ("bytes_per_token", "vocab_size", "unknown_share", "round_trip_share")
    }
    log.info("%s tokens learnt, %.2f bytes a token", f"{len(tokenizer):,}", metrics["bytes_per_token"])
    log.info("GGUF: %s, %s", "yes" if told["gguf"] else "no", told["gguf_reason"])
    size_bytes = checkpoint.complete(
        folder, run_id=attempt.job.root.name, step=0, kind="tokenizer", base_model="", metrics=metrics
    )
    attempt.say("log", step=0, epoch=0.0, metrics=metrics)
    attempt.say("checkpoint", step=0, size_bytes=size_bytes, metrics=metrics)
    attempt.say("done", step=0, summary=metrics)


def _learn(attempt: Attempt, recipe: TokenizerRecipe, train: Path, folder: Path) -> PreTrainedTokenizerFast:
    texts, size = sample_texts(train, recipe.max_bytes), recipe.vocab_size
    if recipe.method in SENTENCEPIECE:
        threads = attempt.num_threads
        return learn_sentencepiece(texts, size, recipe.method, folder, threads=threads, added=recipe.special_tokens)
    return (learn_words if recipe.method == "whitespace" else learn)(texts, size, recipe.special_tokens)


def examine(tokenizer: Any, method: str, texts: Iterable[str]) -> dict[str, Any]:  # noqa: ANN401  # AutoTokenizer's
    """Return bytes a token (of these texts and of samples by language), unknowns, round trips, and whether it can go to GGUF."""
    lines = list(islice((line for text in texts for line in text.splitlines()), REPORTED_LINES))
    encoded = [each.ids for each in tokenizer.backend_tokenizer.encode_batch(lines, add_special_tokens=False)]
    num_tokens = max(sum(map(len, encoded)), 1)
    same = sum(tokenizer.decode(ids) == line for ids, line in zip(encoded, lines, strict=True))
    unknown = sum(ids.count(tokenizer.unk_token_id) for ids in encoded) if tokenizer.unk_token else 0
    samples = json.loads((share_dir("data") / "languages.json").read_text(encoding="utf-8"))
    gguf, reason = _GGUF[method]
    return {
        "method": method,
        "vocab_size": len(tokenizer),
        "bytes_per_token": sum(len(line.encode()) for line in lines) / num_tokens,
        "bytes_per_token_by_language": {
            name: round(len(text.encode()) / max(len(tokenizer.encode(text, add_special_tokens=False)), 1), 3)
            for name, text in samples.items()
        },
        "lines": len(lines),
        "round_trip_share": same / max(len(lines), 1),
        "unknown_share": unknown / num_tokens,
        "special_tokens": sorted(tokenizer.all_special_tokens),
        "gguf": gguf,
        "gguf_reason": reason,
    }


def make_bytes(folder: Path) -> None:
    """Save a tokenizer whose only entries are the bytes and the special tokens."""
    _save_whole(learn([], 0), folder)


def make_bpe(train: Path, folder: Path) -> None:
    """Learn a tokenizer of 4,096 entries from prepared rows and save it.

    Raises:
        DataError: The rows hold nothing to learn.
    """
    _save_whole(learn(sample_texts(train, 8_000_000), 4096), folder)


def read_texts(path: Path) -> Iterator[str]:
    """Yield the texts of a prepared Parquet file in bounded memory."""
    for batch in pq.ParquetFile(path).iter_batches(batch_size=64, columns=["text"]):
        yield from batch.column(0).to_pylist()


def sample_texts(path: Path, max_bytes: int) -> Iterator[str]:
    """Yield about `max_bytes` of the texts, spread evenly over the file."""
    total = sum(len(text) for text in read_texts(path))
    share = min(1.0, max_bytes / max(total, 1))
    seen = taken = 0
    for text in read_texts(path):
        seen += len(text)
        if taken + len(text) <= share * seen + 1 or share == 1.0:
            taken += len(text)
            yield text


def _save_whole(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save under another name, then rename: a kill leaves nothing half written."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    tokenizer.save_pretrained(temporary)
    temporary.rename(folder)
