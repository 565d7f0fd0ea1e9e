"""Score answers against reference texts by registered metrics, each a value in 0..1 with a bootstrap interval.

A new metric is one decorated function: it takes the answers and their references and returns a scorer, which gives the
score of any choice of rows. That is all the bootstrap needs, be the score a mean or one of the whole corpus.

BLEU and chrF are sacrebleu's. ROUGE is written here, equal to rouge-score without stemming: that package had its last
release in 2022, and brings nltk, joblib, absl and six for sixty lines of counting.
"""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codex_space.core.errors import EvaluationError, nearest
from codex_space.grade.statistics import Score, Scorer, bootstrap, mean_of

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric as SacreMetric

Texts = Sequence[str]
Tokens = Sequence[Hashable]


@dataclass(frozen=True)
class Metric:
    """A registered metric: one sentence for a person, and how to score."""

    name: str
    what: str
    prepare: Callable[[Texts, Texts], Scorer]


METRICS: dict[str, Metric] = {}
"""By name, in the order in which a page lists them."""


def metric(name: str, what: str) -> Callable[[Callable[[Texts, Texts], Scorer]], Callable[[Texts, Texts], Scorer]]:
    """Register the decorated function under this name."""

    def register(prepare: Callable[[Texts, Texts], Scorer]) -> Callable[[Texts, Texts], Scorer]:
        if name in METRICS:
            raise ValueError(f"there are two metrics named {name!r}")
        METRICS[name] = Metric(name, what, prepare)
        return prepare

    return register


def require(names: Texts) -> None:
    """Refuse a name that is not registered.

    Raises:
        EvaluationError: With the nearest one that is.
    """
    for name in names:
        if name not in METRICS:
            raise EvaluationError(f"no metric is named {name!r}", where="metrics", cure=nearest(name, list(METRICS)))


def score_texts(names: Texts, answers: Texts, references: Texts, *, seed: int = 0) -> dict[str, Score]:
    """Score answers against their references by the named metrics.

    Raises:
        EvaluationError: A name is not registered, there is no row, or the two lists are not of one length.
    """
    require(names)
    if len(answers) != len(references):
        raise EvaluationError(f"there are {len(answers):,} answers and {len(references):,} references")
    if not answers:
        raise EvaluationError("there is no answer to score", cure="Give at least one row.")
    found = {}
    for name in names:
        scorer = METRICS[name].prepare(answers, references)
        interval = bootstrap(scorer, len(answers), seed=seed)
        found[name] = Score(scorer(range(len(answers))), interval, len(answers))
    return found


@metric("exact-match", "Share of answers equal to the reference, white space at their ends apart.")
def exact_match(answers: Texts, references: Texts) -> Scorer:
    """Return the scorer of equal texts."""
    return mean_of([float(a.strip() == r.strip()) for a, r in zip(answers, references, strict=True)])


@metric("token-f1", "Overlap of words and signs with the reference, their order apart (F1, mean over the answers).")
def token_f1(answers: Texts, references: Texts) -> Scorer:
    """Return the scorer of SQuAD's F1 (Rajpurkar et al. 2016), on words and signs as they stand: code has no articles."""
    return _mean_f1(answers, references, _overlap, _tokens, empty=1.0)


@metric("bleu", "BLEU of the whole corpus (sacrebleu, tokenizer 13a, exponential smoothing).")
def bleu(answers: Texts, references: Texts) -> Scorer:
    """Return the scorer of corpus BLEU (Papineni et al. 2002; Post 2018)."""
    from sacrebleu.metrics import BLEU  # noqa: PLC0415  # 0.2 s that a run without text metrics need not spend

    return _sacrebleu(BLEU(), answers, references)


@metric("rouge-1", "ROUGE-1: shared words (F1, mean over the answers).")
def rouge_1(answers: Texts, references: Texts) -> Scorer:
    """Return the scorer of ROUGE-1 (Lin 2004)."""
    return _mean_f1(answers, references, _overlap, _words)


@metric("rouge-2", "ROUGE-2: shared pairs of words (F1, mean over the answers).")
def rouge_2(answers: Texts, references: Texts) -> Scorer:
    """Return the scorer of ROUGE-2 (Lin 2004)."""
    return _mean_f1(answers, references, _overlap, lambda text: _ngrams(_words(text), 2))


@metric("rouge-l", "ROUGE-L: longest common subsequence of words (F1, mean over the answers).")
def rouge_l(answers: Texts, references: Texts) -> Scorer:
    """Return the scorer of ROUGE-L (Lin 2004), sentence level."""
    return _mean_f1(answers, references, _common_subsequence, _words)


@metric("chrf", "chrF of the whole corpus: character n-grams up to 6, recall counted twice (sacrebleu, chrF2).")
def chrf(answers: Texts, references: Texts) -> Scorer:
    """Return the scorer of chrF2 (Popovic 2015)."""
    from sacrebleu.metrics import CHRF  # noqa: PLC0415  # as for BLEU

    return _sacrebleu(CHRF(), answers, references)


@metric("distinct-1", "Different words and signs among all that the answers hold: low where a model repeats itself.")
def distinct_1(answers: Texts, references: Texts) -> Scorer:
    """Return the scorer of distinct-1 (Li et al. 2016)."""
    return _distinct(answers, 1)


@metric("distinct-2", "Different pairs of words and signs among all that the answers hold.")
def distinct_2(answers: Texts, references: Texts) -> Scorer:
    """Return the scorer of distinct-2 (Li et al. 2016)."""
    return _distinct(answers, 2)


@metric("token-accuracy", "Share of places, from the start, at which answer and reference hold the same word or sign.")
def token_accuracy(answers: Texts, references: Texts) -> Scorer:
    """Return the scorer of equal tokens over the longer one's length, counted over the whole corpus."""
    counted = []
    for answer, reference in zip(answers, references, strict=True):
        ours, theirs = _tokens(answer), _tokens(reference)
        same = sum(a == b for a, b in zip(ours, theirs, strict=False))
        counted.append((same, max(len(ours), len(theirs))))
    return lambda numbers: _ratio(sum(counted[n][0] for n in numbers), sum(counted[n][1] for n in numbers), empty=1.0)


def _tokens(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)


def _words(text: str) -> list[str]:
    """Split as ROUGE does: lower case, and letters and digits of ASCII only."""
    return re.findall(r"[a-z0-9]+", text.lower())


def _ngrams(tokens: list[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(tokens[start:] for start in range(n)), strict=False))


def _mean_f1(
    answers: Texts,
    references: Texts,
    shared: Callable[[Tokens, Tokens], int],
    split: Callable[[str], Tokens],
    *,
    empty: float = 0.0,
) -> Scorer:
    """Average 2PR / (P + R), which is twice what the two share over all they hold; `empty` where neither holds any."""
    values = []
    for answer, reference in zip(answers, references, strict=True):
        ours, theirs = split(answer), split(reference)
        values.append(_ratio(2 * shared(ours, theirs), len(ours) + len(theirs), empty=empty))
    return mean_of(values)


def _ratio(part: int, whole: int, *, empty: float) -> float:
    return part / whole if whole else empty


def _overlap(answer: Tokens, reference: Tokens) -> int:
    return (Counter(answer) & Counter(reference)).total()


def _common_subsequence(answer: Tokens, reference: Tokens) -> int:
    """Return the length of the longest common subsequence, a row of the table in one whole number (Hyyrö 2004).

    The table itself would take an hour for two texts of 100 kB.
    """
    places: dict[Hashable, int] = {}
    for place, token in enumerate(reference):
        places[token] = places.get(token, 0) | 1 << place
    every = (1 << len(reference)) - 1
    row = every
    for token in answer:
        matched = row & places.get(token, 0)
        row = (row + matched | row - matched) & every
    return len(reference) - row.bit_count()


def _distinct(answers: Texts, n: int) -> Scorer:
    grams = [_ngrams(_tokens(answer), n) for answer in answers]
    kinds = [set(each) for each in grams]
    return lambda numbers: _ratio(
        len(set().union(*(kinds[number] for number in numbers))),
        sum(len(grams[number]) for number in numbers),
        empty=0.0,
    )


def _sacrebleu(kind: "SacreMetric", answers: Texts, references: Texts) -> Scorer:
    """Add up sacrebleu's counts of each row as its own significance tests do: these two methods are their interface."""
    counts = kind._extract_corpus_statistics(answers, [references])
    return lambda numbers: min(1.0, kind._aggregate_and_compute([counts[number] for number in numbers]).score / 100)
