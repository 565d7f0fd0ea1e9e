"""Turn verdicts into figures one may believe: pass@k, its interval, and whether two models differ at all."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from codex_space.core.errors import EvaluationError

LEVEL = 0.95
"""Share of intervals that hold the true value, over many evaluations."""
NUM_RESAMPLES = 1000

Scorer = Callable[[Sequence[int]], float]
"""The score of the rows with these numbers; a number may come more than once."""


@dataclass(frozen=True)
class Interval:
    """Where the true value lies, and how that was found ("Wilson" or "bootstrap")."""

    low: float
    high: float
    method: str


@dataclass(frozen=True)
class Score:
    """A value in 0..1 over `num_rows` rows (or problems).

    `interval` is None where the rows say nothing of it: all of them score alike and no formula stands in.
    """

    value: float
    interval: Interval | None
    num_rows: int


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Return the chance that at least one of k samples passes, estimated from n of which c pass.

    1 - C(n-c, k) / C(n, k): Chen et al. 2021 (arXiv 2107.03374), equation 1. Worked out in whole numbers and rounded once.

    Raises:
        EvaluationError: There are fewer samples than k, or the numbers cannot be.
    """
    if k < 1 or not 0 <= num_correct <= num_samples:
        raise EvaluationError(f"pass@{k} of {num_correct} passes in {num_samples} samples makes no sense")
    if num_samples < k:
        raise EvaluationError(
            f"pass@{k} needs {k} samples of every problem and there are {num_samples}",
            cure=f"Draw at least {k} samples, or ask for a smaller k.",
        )
    ways = math.comb(num_samples, k)
    return (ways - math.comb(num_samples - num_correct, k)) / ways


def pass_rate(verdicts: Mapping[str, Sequence[bool]], k: int = 1, *, seed: int = 0) -> Score:
    """Return pass@k, averaged over the problems, from each problem's verdicts.

    The interval is Wilson's where each problem has one verdict, else a bootstrap over the problems.

    Raises:
        EvaluationError: There is no problem, or one of them has fewer samples than k.
    """
    if not verdicts:
        raise EvaluationError("there is no verdict to count", cure="Grade at least one problem.")
    short = min(verdicts, key=lambda task: len(verdicts[task]))
    if len(verdicts[short]) < k:
        what = f"pass@{k} needs {k} samples of every problem and this one has {len(verdicts[short])}"
        raise EvaluationError(what, where=short, cure="Draw more samples, or ask for a smaller k.")
    each = [pass_at_k(len(passed), sum(map(bool, passed)), k) for passed in verdicts.values()]
    scorer = mean_of(each)
    value = scorer(range(len(each)))
    if all(len(passed) == 1 for passed in verdicts.values()):
        return Score(value, wilson(sum(map(round, each)), len(each)), len(each))
    return Score(value, bootstrap(scorer, len(each), seed=seed), len(each))


def wilson(num_passed: int, num_tasks: int) -> Interval:
    """Return the score interval of a share (Wilson 1927): of a width above nought even at 0 % and 100 %.

    Raises:
        EvaluationError: The numbers are no share of anything.
    """
    if not 0 <= num_passed <= num_tasks or num_tasks == 0:
        raise EvaluationError(f"{num_passed} of {num_tasks} is not a share")
    z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    share, squeeze = num_passed / num_tasks, 1 + z * z / num_tasks
    centre = (share + z * z / (2 * num_tasks)) / squeeze
    half = z * math.sqrt(share * (1 - share) / num_tasks + z * z / (4 * num_tasks**2)) / squeeze
    # Rounding may leave the ends of 0 % and 100 % a hair off.
    low = 0.0 if num_passed == 0 else centre - half
    high = 1.0 if num_passed == num_tasks else centre + half
    return Interval(low, high, "Wilson")


def mean_of(values: Sequence[float]) -> Scorer:
    """Return the scorer whose score is the mean of the rows' own values."""
    return lambda numbers: math.fsum(values[number] for number in numbers) / len(numbers)


def bootstrap(
    score: Scorer,
    num_rows: int,
    *,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
    highest: float = 1.0,
) -> Interval | None:
    """Return the percentile interval (Efron 1979) of a score in 0..`highest` over rows drawn anew, or None if it never moves.

    The resamples are shifted so that their mean is the score itself: a row drawn twice brings nothing new, so scores
    that count different things (distinct-k) are lower in every resample. The same seed gives the same interval.

    Raises:
        EvaluationError: There is no row.
    """
    if num_rows == 0:
        raise EvaluationError("there is no row to draw from")
    draw = random.Random(seed)  # noqa: S311  # no secret; a generator of its own so that nothing else moves it
    rows = range(num_rows)
    found = sorted(score(draw.choices(rows, k=num_rows)) for _ in range(num_resamples))
    if found[0] == found[-1]:
        return None
    shift = score(rows) - math.fsum(found) / num_resamples
    tail = (1 - LEVEL) / 2
    low, high = (found[round(share * (num_resamples - 1))] + shift for share in (tail, 1 - tail))
    return Interval(max(0.0, low), min(highest, high), "bootstrap")


def is_solved(passed: Sequence[bool]) -> bool:
    """Say whether a problem counts as solved where models are compared: by more than half of its answers."""
    return 2 * sum(passed) > len(passed)


@dataclass(frozen=True)
class Comparison:
    """Two models on the same problems: which flipped, and the chance of flips as uneven if neither were better."""

    gained: tuple[str, ...]
    lost: tuple[str, ...]
    same: tuple[str, ...]
    p_value: float

    def sentence(self, significance: float = 1 - LEVEL) -> str:
        """Say in one sentence what may be claimed."""
        num_flips, total = len(self.gained) + len(self.lost), len(self.same) + len(self.gained) + len(self.lost)
        if not num_flips:
            return f"No difference can be claimed: the verdict is the same on all {_count(total, 'problem')}."
        flips = f"{len(self.gained)} gained and {len(self.lost)} lost of {_count(total, 'problem')}"
        test = f"{_shown(self.p_value)}, exact McNemar test on {_count(num_flips, 'flip')}"
        if self.p_value >= significance:
            return f"No difference can be claimed: {flips} ({test})."
        verdict = "Better" if len(self.gained) > len(self.lost) else "Worse"
        return f"{verdict} than the base: {flips} ({test})."


def compare(base: Mapping[str, bool], tuned: Mapping[str, bool]) -> Comparison:
    """Pair the verdicts of two models problem by problem, in the base's order.

    Raises:
        EvaluationError: The two were not graded on the same problems.
    """
    if odd := sorted(base.keys() ^ tuned.keys()):
        raise EvaluationError(
            f"{_count(len(odd), 'problem')} graded for one model only",
            where=odd[0],
            cure="Evaluate both on the same benchmark and limit.",
        )
    if not base:
        raise EvaluationError("there is no problem to compare", cure="Evaluate both models first.")
    gained = tuple(task for task in base if tuned[task] and not base[task])
    lost = tuple(task for task in base if base[task] and not tuned[task])
    same = tuple(task for task in base if bool(base[task]) == bool(tuned[task]))
    return Comparison(gained, lost, same, mcnemar(len(gained), len(lost)))


def mcnemar(num_gained: int, num_lost: int) -> float:
    """Return the two-sided exact p-value of McNemar's test: a fair coin falls as unevenly or more so.

    Raises:
        EvaluationError: A count is below nought.
    """
    if num_gained < 0 or num_lost < 0:
        raise EvaluationError(f"{num_gained} gained and {num_lost} lost are not counts")
    num_flips = num_gained + num_lost
    tail = sum(math.comb(num_flips, few) for few in range(min(num_gained, num_lost) + 1))
    return min(1.0, 2 * tail / 2**num_flips)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _shown(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
