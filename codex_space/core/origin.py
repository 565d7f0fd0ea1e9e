"""What a card tells of where a model comes from: sources, licence, scores, curves and facts of the run it is of."""

from dataclasses import dataclass, field
from typing import Any

from codex_space.core.licences import Verdict
from codex_space.core.sources import Source

Point = tuple[int, float]


@dataclass(frozen=True)
class Score:
    """A pass rate with its 95 % interval; `base` is that of the model before it was tuned, None where it was not asked.

    Attributes:
        step: Of the checkpoint that was asked.
        flips: What the paired test on the same problems says, empty where the base was not asked them all.
        gained: Problems that the base failed and this solves; `lost` the other way round.
    """

    name: str
    value: float
    low: float
    high: float
    num_problems: int
    base: float | None = None
    step: int = 0
    flips: str = ""
    gained: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graded:
    """One evaluation as the owner graded it, out of its database; the files beside the answers are copies that a worker could write.

    Attributes:
        protocol: How it was asked, in one line.
        scores: {name, value, low, high, num_problems} each.
        solved: Task id -> whether it was solved, in every suite.
    """

    step: int
    benchmark: str
    protocol: str = ""
    scores: tuple[dict[str, Any], ...] = ()
    solved: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Origin:
    """What a model came from; all of it empty where it is not known.

    Attributes:
        model: The base model, with the commit that was read.
        licence: What can be said of this model's own.
        protocol: How the scores were asked, a line each.
        losses: Of the training, by step; `eval_losses` those on rows held out.
        facts: (name, value) of machine, time, money and packages.
    """

    recipe_text: str = ""
    model: Source | None = None
    datasets: tuple[Source, ...] = ()
    licence: Verdict = field(default_factory=Verdict)
    scores: tuple[Score, ...] = ()
    protocol: tuple[str, ...] = ()
    losses: tuple[Point, ...] = ()
    eval_losses: tuple[Point, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
