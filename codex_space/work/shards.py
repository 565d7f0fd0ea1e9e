"""Turn a text corpus into token numbers once: memory-mapped shards on disk, found again by what they were made from."""

import hashlib
import json
import logging
import os
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from codex_space.core import durable, scratch
from codex_space.core.errors import DataError
from codex_space.work.processes import tokenizing_on_all_threads
from codex_space.work.tokenizer import read_texts

log = logging.getLogger(__name__)
VERSION = 1
"""Of the layout below; another one is another key."""
SHARD_TOKENS = 32 << 20
BATCH_CHARS = 4_000_000
"""Texts handed to the tokenizer at once: enough for every core, little enough to hold twice."""
FACTS = "tokens.json"


@dataclass(frozen=True)
class Shard:
    """One file of token numbers and what it was made from: `num_rows` rows of `num_bytes` bytes of UTF-8."""

    num_tokens: int
    num_rows: int
    num_bytes: int


@dataclass(frozen=True)
class Tokens:
    """A corpus as one row of token numbers: an end token, then each text with an end token after it.

    Attributes:
        key: Hash of the rows and the tokenizer they were made with.
        end_id: The token between texts, which is also what a text begins after.
    """

    folder: Path
    key: str
    dtype: str
    end_id: int
    shards: tuple[Shard, ...]

    def hold(self, lock: int) -> "Tokens":
        """Keep the folder from a clean-up for as long as these are in use."""
        weakref.finalize(self, os.close, lock)
        return self

    @property
    def num_tokens(self) -> int:
        """Tokens of all shards."""
        return sum(shard.num_tokens for shard in self.shards)

    @property
    def num_bytes(self) -> int:
        """Bytes of the texts as UTF-8."""
        return sum(shard.num_bytes for shard in self.shards)


class Reader:
    """Reads spans of a corpus across its shards, each mapped from disk."""

    def __init__(self, tokens: Tokens) -> None:
        """Map the files; nothing is read yet."""
        self._tokens = tokens
        self._maps = [
            np.memmap(_shard(tokens.folder, number), dtype=tokens.dtype, mode="r")
            for number in range(len(tokens.shards))
        ]
        self._starts = np.cumsum([0, *(len(each) for each in self._maps)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def span(self, start: int, stop: int) -> np.ndarray:
        """Return the tokens from start up to stop as int64."""
        parts = []
        for number in range(int(np.searchsorted(self._starts, start, "right")) - 1, len(self._maps)):
            first = int(self._starts[number])
            if first >= stop:
                break
            parts.append(self._maps[number][max(start - first, 0) : stop - first])
        return np.concatenate(parts).astype(np.int64)

    def text_starts(self) -> np.ndarray:
        """Return where each text begins, its leading end token included; the last entry is the last end token."""
        found = [
            first + np.flatnonzero(each == self._tokens.end_id)
            for first, each in zip(self._starts[:-1], self._maps, strict=True)
        ]
        return np.concatenate(found)


def key_of(rows_sha256: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the hash of all that decides the token numbers."""
    words = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    facts = [VERSION, rows_sha256, words, tokenizer.eos_token_id]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def write(rows: Path, rows_sha256: str, tokenizer: PreTrainedTokenizerBase, cache: Path) -> Tokens:
    """Return the rows as tokens, made on all cores where the cache does not hold them yet.

    A call that was cut off leaves whole shards, from which the next one goes on.

    Raises:
        DataError: A shard is not as long as it was when it was written.
    """
    key = key_of(rows_sha256, tokenizer)
    folder = cache / key
    lock = scratch.share(folder)
    dtype = "uint16" if len(tokenizer) <= 1 << 16 else "uint32"
    known = durable.read_json(folder / FACTS)
    if known is None:
        shards = list(_write_shards(rows, tokenizer, folder, dtype))
        durable.write_json(folder / FACTS, {"shards": [vars(shard) for shard in shards]})
    else:
        shards = [Shard(**facts) for facts in known["shards"]]
        for number, shard in enumerate(shards):
            _require_whole(_shard(folder, number), shard, dtype)
    return Tokens(folder, key, dtype, int(tokenizer.eos_token_id), tuple(shards)).hold(lock)


def _write_shards(rows: Path, tokenizer: PreTrainedTokenizerBase, folder: Path, dtype: str) -> Iterator[Shard]:
    """Yield the shards that are there, then write the rest; a shard's facts are written after it."""
    done = 0
    number = 0
    while facts := durable.read_json(_facts(folder, number)):
        shard = Shard(**facts)
        _require_whole(_shard(folder, number), shard, dtype)
        yield shard
        done, number = done + shard.num_rows, number + 1
    texts = read_texts(rows)
    for _ in range(done):
        next(texts, "")
    batches = _encoded(texts, tokenizer)
    while (shard := _write_one(batches, folder, number, dtype, int(tokenizer.eos_token_id))) is not None:
        yield shard
        number += 1


def _write_one(
    batches: Iterator[tuple[list[list[int]], int]], folder: Path, number: int, dtype: str, end_id: int
) -> Shard | None:
    """Write batches until the shard is full; None where no row is left."""
    path = _shard(folder, number)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    num_tokens = num_rows = num_bytes = 0
    with temporary.open("wb") as file:
        if number == 0:
            num_tokens = file.write(np.array([end_id], dtype=dtype).tobytes()) and 1
        for encoded, size_bytes in batches:
            for ids in encoded:
                file.write(np.array([*ids, end_id], dtype=dtype).tobytes())
                num_tokens += len(ids) + 1
            num_rows, num_bytes = num_rows + len(encoded), num_bytes + size_bytes
            if num_tokens >= SHARD_TOKENS:
                break
        file.flush()
        os.fsync(file.fileno())
    if not num_rows and number:
        temporary.unlink()
        return None
    temporary.replace(path)
    shard = Shard(num_tokens, num_rows, num_bytes)
    durable.write_json(_facts(folder, number), vars(shard))
    return shard if num_rows else None


def _encoded(texts: Iterator[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[list[list[int]], int]]:
    """Yield (token numbers of each text, their bytes), the next batch being tokenised while one is used."""
    backend = tokenizer.backend_tokenizer
    backend.encode_special_tokens = True  # a text that spells <|endoftext|> must not end there

    def encode(batch: list[str]) -> tuple[list[list[int]], int]:
        found = backend.encode_batch_fast(batch, add_special_tokens=False)  # without Python's lock
        return [each.ids for each in found], sum(len(text.encode()) for text in batch)

    try:
        with tokenizing_on_all_threads(), ThreadPoolExecutor(1) as pool:
            waiting = None
            for batch in _batches(texts):
                ahead = pool.submit(encode, batch)
                if waiting:
                    yield waiting.result()
                waiting = ahead
            if waiting:
                yield waiting.result()
    finally:
        backend.encode_special_tokens = False


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _require_whole(path: Path, shard: Shard, dtype: str) -> None:
    expected = shard.num_tokens * np.dtype(dtype).itemsize
    found = path.stat().st_size if path.is_file() else 0
    if found != expected:
        raise DataError(
            f"a shard of tokens was cut short: {found:,} of {expected:,} bytes are there",
            where=str(path),
            cure=f"Delete the folder {path.parent.name}: the texts are then turned into tokens again.",
        )


def _shard(folder: Path, number: int) -> Path:
    return folder / f"{number:05}.bin"


def _facts(folder: Path, number: int) -> Path:
    return folder / f"{number:05}.json"
