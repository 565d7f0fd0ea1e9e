"""From the dial to a recipe: what it needs on every machine, and what its packed rows look like."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from tokenizers import Tokenizer

from codex_space.core.dial import Dial, turn
from codex_space.core.errors import DataError
from codex_space.core.estimate import Estimate
from codex_space.core.hardware import list_hardware
from codex_space.core.sections import DatasetSection
from codex_space.data.formats import convert
from codex_space.data.sources import open_source
from codex_space.jobs import references
from codex_space.services import estimate
from codex_space.services.context import Context

LOOK_TEXTS, LOOK_CHARS = 40, 20_000


@dataclass(frozen=True)
class Choice:
    """What a person sets: the dial, and what is read with which shares."""

    depth: int
    style: Literal["llama", "starcoder2"]
    tokens_per_parameter: float
    tokenizer: str
    datasets: tuple[str, ...]
    shares: str = ""


@dataclass(frozen=True)
class Plan:
    """The dial and the recipe it makes."""

    dial: Dial
    text: str


def plan(ctx: Context, choice: Choice) -> Plan:
    """Return the recipe of a choice.

    Raises:
        DataError: No source, or shares that do not fit the sources or do not add up to 1.
        ModelError: The tokenizer is not on this machine.
    """
    size = estimate.vocabulary(ctx, choice.tokenizer)
    dial = turn(choice.depth, size, style=choice.style, tokens_per_parameter=choice.tokens_per_parameter)
    values = dial.recipe(blend(choice.datasets, choice.shares), choice.tokenizer, f"depth {choice.depth}")
    return Plan(dial, yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100))


def blend(datasets: tuple[str, ...], shares: str) -> list[dict[str, Any]]:
    """Return the sources with the share of the trained text each is to have; without shares all their rows.

    Raises:
        DataError: As in `plan`.
    """
    if not datasets:
        raise DataError("no text is chosen", where="datasets", cure="Choose at least one source.")
    if not shares.strip():
        return [{"path": path} for path in datasets]
    try:
        given = [float(part) for part in shares.replace("%", "").split(",")]
    except ValueError as error:
        raise DataError("these shares are no numbers", where="shares", cure="Write them like 0.7, 0.2, 0.1.") from error
    if len(given) != len(datasets):
        what = f"there are {len(given)} shares for {len(datasets)} sources"
        raise DataError(what, where="shares", cure="Give one for each, or none.")
    if abs(sum(given) - 1) > 1e-3 and abs(sum(given) - 100) > 0.1:
        what = f"the shares add up to {sum(given):g}"
        raise DataError(what, where="shares", cure="They are to add up to 1 or to 100 %.")
    whole = sum(given)
    return [{"path": path, "share": round(part / whole, 4)} for path, part in zip(datasets, given, strict=True)]


def budget(ctx: Context, text: str) -> list[Estimate]:
    """Return what the recipe needs on this machine and on each of the Hub's, cheapest first."""
    names = [estimate.THIS_MACHINE, *list_hardware()]
    return [estimate.estimate(ctx, text, hardware=name) for name in names]


def look(ctx: Context, choice: Choice, length: int, row: int = 0) -> list[tuple[int, str]]:
    """Return one packed row as (number of the text, piece of it) in order, from the beginning of the first source.

    Raises:
        DataError: The source cannot be read, or has no such row; the tokenizer is not learnt yet.
    """
    if choice.tokenizer.startswith("fresh:"):
        what = "the tokenizer is learnt when the run starts"
        raise DataError(what, where="tokenizer", cure="Choose one that was trained here to see packed text.")
    folder = Path(references.resolve_model(ctx.workspace, choice.tokenizer))
    words = Tokenizer.from_file(str(folder / "tokenizer.json"))
    words.encode_special_tokens = True
    found: list[tuple[int, int]] = []
    section = DatasetSection(path=choice.datasets[0])
    rows = open_source(section, ctx.workspace.root, {})
    for number, each in enumerate(itertools.islice(rows, LOOK_TEXTS)):
        text = convert(each, "text")["text"]
        found += [(number, token) for token in words.encode(text[:LOOK_CHARS], add_special_tokens=False).ids]
        found.append((number, -1))
        if len(found) >= (row + 1) * length:
            break
    chosen = found[row * length : (row + 1) * length]
    if not chosen:
        raise DataError("there is no such row", where=choice.datasets[0], cure="Look at an earlier one.")
    pieces: list[tuple[int, str]] = []
    for number, group in itertools.groupby(chosen, key=lambda pair: pair[0]):
        ids = [token for _, token in group]
        ended = ids[-1] == -1
        pieces.append((number, words.decode([token for token in ids if token >= 0]) + ("\u25a0" if ended else "")))
    return pieces
