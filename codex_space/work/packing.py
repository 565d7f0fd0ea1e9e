"""Cut a corpus into rows of one length, in an order that a seed and a row's number alone decide, so that any place is found again."""

import bisect
import functools
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from codex_space.work.shards import Reader

BUFFER_TEXTS = 1000


class Rows(Protocol):
    """What a training reads: row after row, epoch after epoch."""

    num_rows: int
    """In one epoch."""
    num_cut: int
    """Tokens of one epoch that are in no row."""

    def row(self, index: int) -> np.ndarray:
        """Return `length` + 1 tokens: each but the last is an input, each but the first a target."""
        ...


class Stream:
    """Texts one after the other, cut every `length` tokens; each epoch begins elsewhere and shuffles its rows."""

    def __init__(self, reader: Reader, length: int, seed: int) -> None:
        """Take a corpus of at least `length` + 1 tokens; a shorter one has no row."""
        self._reader, self._length, self._seed = reader, length, seed
        spare = len(reader) - 1
        self.num_rows = max(spare // length, 0)
        self.num_cut = spare - self.num_rows * length
        self._epoch = functools.lru_cache(maxsize=2)(self._shuffle)

    def row(self, index: int) -> np.ndarray:
        """Return the row of that number, counted over all epochs."""
        epoch, place = divmod(index, self.num_rows)
        offset, order = self._epoch(epoch)
        start = offset + int(order[place]) * self._length
        return self._reader.span(start, start + self._length + 1)

    def _shuffle(self, epoch: int) -> tuple[int, np.ndarray]:
        random = np.random.default_rng((self._seed, epoch))
        return int(random.integers(self.num_cut + 1)), random.permutation(self.num_rows)


class BestFit:
    """Each row begins with the beginning of a text and is full: the longest waiting text that fits, else the shortest, cut.

    The algorithm is nanochat's (BOS-aligned best-fit-crop); what is cut off is not used in that epoch.
    """

    def __init__(self, reader: Reader, length: int, seed: int) -> None:
        """Plan the first epoch; another one may have a few rows less, and then begins again."""
        self._reader, self._length, self._seed = reader, length, seed
        self._starts = reader.text_starts()
        self._epoch = functools.lru_cache(maxsize=2)(self._plan)
        self.num_rows = len(self._epoch(0))
        self.num_cut = max(len(reader) - 1 - self.num_rows * (length + 1), 0)

    def row(self, index: int) -> np.ndarray:
        """Return the row of that number, counted over all epochs."""
        epoch, place = divmod(index, self.num_rows)
        plan = self._epoch(epoch)
        return np.concatenate([self._reader.span(start, start + size) for start, size in plan[place % len(plan)]])

    def _plan(self, epoch: int) -> list[list[tuple[int, int]]]:
        random = np.random.default_rng((self._seed, epoch))
        plan = list(_fill(self._starts, self._length + 1, random))
        return [plan[place] for place in random.permutation(len(plan))]  # the longest texts came first


def _fill(starts: np.ndarray, room: int, random: np.random.Generator) -> Iterator[list[tuple[int, int]]]:
    """Yield rows as (start, size) of pieces that add up to `room`; what is left at the end is less than a row."""
    sizes = np.diff(starts)
    order = iter(random.permutation(len(sizes)).tolist())
    waiting: list[tuple[int, int]] = []  # (size, start), sorted
    row: list[tuple[int, int]] = []
    left = room
    while True:
        while len(waiting) < BUFFER_TEXTS and (text := next(order, None)) is not None:
            bisect.insort(waiting, (int(sizes[text]), int(starts[text])))
        if not waiting:
            return
        at = bisect.bisect_right(waiting, (left, int(starts[-1]))) - 1
        size, start = waiting.pop(max(at, 0))
        row.append((start, min(size, left)))
        left -= row[-1][1]
        if not left:
            yield row
            row, left = [], room
