"""Train a byte-level BPE tokenizer, or make one of bare bytes; both in a shape that llama.cpp knows."""

import logging
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from codex_space.core.errors import DataError
from codex_space.core.recipe import TokenizerRecipe
from codex_space.work import checkpoint, rows
from codex_space.work.attempt import Attempt

log = logging.getLogger(__name__)

EOS, PAD = "<|endoftext|>", "<|pad|>"
SPECIAL_TOKENS = [EOS, PAD, "<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"]
NUM_BYTES = 256
# Qwen2's, from its tokenizer.json; llama.cpp has the same under the name "qwen2"
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def run(attempt: Attempt) -> None:
    """Train the tokenizer a recipe asks for and save it as checkpoint-0.

    Raises:
        DataError: The rows cannot be read.
    """
    recipe = attempt.recipe
    assert isinstance(recipe, TokenizerRecipe)  # noqa: S101  # narrows the type
    prepared = rows.prepare(attempt)
    attempt.say("ready", max_steps=0, num_rows=prepared.num_train)
    if attempt.check_only:
        return
    attempt.say("phase", phase="training", detail=f"learning {recipe.vocab_size:,} tokens")
    tokenizer = learn(sample_texts(prepared.train, recipe.max_bytes), recipe.vocab_size)
    metrics = _measure(tokenizer, sample_texts(prepared.train, recipe.max_bytes // 8))
    log.info("%s tokens learnt, %.2f bytes a token", f"{len(tokenizer):,}", metrics["bytes_per_token"])
    folder = attempt.job.checkpoint(0)
    tokenizer.save_pretrained(folder)
    size_bytes = checkpoint.complete(
        folder, run_id=attempt.job.root.name, step=0, kind="tokenizer", base_model="", metrics=metrics
    )
    attempt.say("log", step=0, epoch=0.0, metrics=metrics)
    attempt.say("checkpoint", step=0, size_bytes=size_bytes, metrics=metrics)
    attempt.say("done", step=0, summary=metrics)


def learn(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer of at most that many entries; with vocab_size 0 one of bare bytes.

    Raises:
        DataError: The vocabulary was asked to be larger than bytes alone, and the texts hold nothing to learn.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=max(vocab_size, len(SPECIAL_TOKENS) + NUM_BYTES),
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    if vocab_size and tokenizer.get_vocab_size() == len(SPECIAL_TOKENS) + NUM_BYTES:
        raise DataError("the texts hold nothing a tokenizer could learn", where="datasets", cure="Add more text.")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, pad_token=PAD)


def make_bytes(folder: Path) -> None:
    """Save a tokenizer whose only entries are the bytes and the special tokens."""
    _save_whole(learn([], 0), folder)


def make_bpe(train: Path, folder: Path, *, vocab_size: int = 4096, max_bytes: int = 8_000_000) -> None:
    """Learn a tokenizer from prepared rows and save it.

    Raises:
        DataError: The rows hold nothing to learn.
    """
    _save_whole(learn(sample_texts(train, max_bytes), vocab_size), folder)


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


def _measure(tokenizer: PreTrainedTokenizerFast, texts: Iterator[str]) -> dict[str, float]:
    num_bytes = num_tokens = 0
    for text in texts:
        num_bytes += len(text.encode())
        num_tokens += len(tokenizer.backend_tokenizer.encode(text).ids)
    return {"bytes_per_token": num_bytes / max(num_tokens, 1), "vocab_size": float(len(tokenizer))}


def _save_whole(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save under another name, then rename: a kill leaves nothing half written."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    tokenizer.save_pretrained(temporary)
    temporary.rename(folder)
