"""Keep a text corpus as one row of token numbers on disk, and cut it into blocks of one size."""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from codex_space.core import durable
from codex_space.work.tokenizer import read_texts

_TEXTS_AT_ONCE = 64


@dataclass(frozen=True)
class TokenFile:
    """A file of token numbers; `sha256` is that of the rows it was made from."""

    path: Path
    num_tokens: int
    num_bytes: int
    sha256: str
    vocab_size: int

    def read(self) -> np.ndarray:
        """Return the numbers, mapped from disk."""
        return np.load(self.path, mmap_mode="r")


def write_tokens(rows: Path, sha256: str, tokenizer: PreTrainedTokenizerBase, path: Path) -> TokenFile:
    """Tokenise the rows once, an end token after each text; a later call returns what is there.

    The numbers lie in an .npy file of uint16, or uint32 for more than 65,536 entries; the facts beside it come last.
    """
    facts = path.with_suffix(".json")
    known = durable.read_json(facts) or {}
    if known.get("sha256") == sha256 and known.get("vocab_size") == len(tokenizer) and path.is_file():
        return TokenFile(path, **known)
    facts.unlink(missing_ok=True)
    dtype = np.dtype(np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32)
    raw = path.with_suffix(".raw")
    num_bytes = num_tokens = 0
    with raw.open("wb") as file:
        for texts in _batches(rows):
            for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
                num_tokens += len(ids) + 1
                file.write(np.array([*ids, tokenizer.eos_token_id], dtype=dtype).tobytes())
            num_bytes += sum(len(text.encode()) for text in texts)
    _wrap(raw, path, dtype, num_tokens)
    found = TokenFile(path, num_tokens, num_bytes, sha256, len(tokenizer))
    durable.write_json(facts, {name: value for name, value in asdict(found).items() if name != "path"})
    return found


class Blocks(Dataset):
    """Blocks of `size` tokens one after the other; what is left over at the end is not used."""

    def __init__(self, tokens: TokenFile, size: int) -> None:
        """Map the file; nothing is read yet."""
        self._tokens, self._size = tokens.read(), size

    def __len__(self) -> int:
        return len(self._tokens) // self._size

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        block = self._tokens[index * self._size : (index + 1) * self._size].astype(np.int64)
        ids = torch.from_numpy(block)
        return {"input_ids": ids, "labels": ids}


def _batches(rows: Path) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in read_texts(rows):
        batch.append(text)
        if len(batch) == _TEXTS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _wrap(raw: Path, path: Path, dtype: np.dtype, num_tokens: int) -> None:
    """Put an .npy header before the numbers, through a temporary name."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as out:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (num_tokens,)}
        np.lib.format.write_array_header_1_0(out, header)
        with raw.open("rb") as source:
            while chunk := source.read(4 << 20):
                out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(path)
    raw.unlink()
