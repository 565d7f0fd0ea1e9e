"""pass@k against exact fractions, intervals against published values, the paired test against scipy's."""

import itertools
import math
import random
from fractions import Fraction

import pytest

from codex_space.core.errors import EvaluationError
from codex_space.grade.statistics import (
    Interval,
    bootstrap,
    compare,
    mcnemar,
    mean_of,
    pass_at_k,
    pass_rate,
    wilson,
)


def exact_pass_at_k(n, c, k):
    """Count the draws of k out of n that hold a pass, as fractions: one sample after the other fails."""
    fails = Fraction(1)
    for drawn in range(k):
        fails *= Fraction(max(0, n - c - drawn), n - drawn)
    return 1 - fails


def test_pass_at_k_is_the_exact_fraction_rounded_once():
    for n in range(1, 26):
        for c, k in itertools.product(range(n + 1), range(1, n + 1)):
            assert pass_at_k(n, c, k) == float(exact_pass_at_k(n, c, k)), (n, c, k)


@pytest.mark.parametrize(("n", "c", "k"), [(200, 1, 100), (200, 37, 10), (1000, 999, 1), (2000, 3, 1000)])
def test_pass_at_k_holds_for_many_samples(n, c, k):
    assert pass_at_k(n, c, k) == float(exact_pass_at_k(n, c, k))
    product = 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1)) if n - c >= k else 1.0
    assert pass_at_k(n, c, k) == pytest.approx(product, abs=1e-12)  # the form the HumanEval paper prints


def test_pass_at_k_is_what_draws_give_on_average():
    passed = [True] * 3 + [False] * 7
    draws = list(itertools.combinations(passed, 4))
    assert pass_at_k(10, 3, 4) == pytest.approx(sum(map(any, draws)) / len(draws))


@pytest.mark.parametrize(("n", "c", "k"), [(1, 1, 2), (0, 0, 1), (5, 6, 1), (5, -1, 1), (5, 1, 0), (5, 1, -3)])
def test_pass_at_k_of_impossible_numbers_is_refused(n, c, k):
    with pytest.raises(EvaluationError):
        pass_at_k(n, c, k)


def test_greedy_verdicts_get_wilsons_interval():
    score = pass_rate({f"t/{number}": [number < 72] for number in range(164)})
    assert score.value == 72 / 164
    assert score.interval == wilson(72, 164)
    assert score.num_rows == 164


def test_samples_get_a_bootstrap_over_the_problems():
    verdicts = {f"t/{number}": [sample < number % 5 for sample in range(4)] for number in range(50)}
    score = pass_rate(verdicts, 2)
    assert score.value == pytest.approx(sum(pass_at_k(4, n % 5, 2) for n in range(50)) / 50)
    assert score.interval.method == "bootstrap"
    assert score.interval.low < score.value < score.interval.high
    assert pass_rate(verdicts, 2, seed=1).interval != score.interval


def test_one_problem_with_too_few_samples_stops_pass_at_k_and_is_named():
    with pytest.raises(EvaluationError, match=r"^b: pass@2 needs 2 samples .* has 1"):
        pass_rate({"a": [True, False], "b": [True]}, 2)
    with pytest.raises(EvaluationError, match="no verdict"):
        pass_rate({})
    with pytest.raises(EvaluationError, match="has 0"):
        pass_rate({"a": []})


@pytest.mark.parametrize(
    ("passed", "of", "low", "high"),
    [
        # Newcombe 1998 (Statistics in Medicine 17, table I), method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_is_what_newcombe_prints(passed, of, low, high):
    interval = wilson(passed, of)
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


def test_wilson_is_scipys():
    from scipy.stats import binomtest

    for of in (1, 2, 20, 164, 500):
        for passed in {0, 1, of // 3, of - 1, of}:
            expected = binomtest(passed, of).proportion_ci(method="wilson")
            assert wilson(passed, of).low == pytest.approx(expected.low, abs=1e-12)
            assert wilson(passed, of).high == pytest.approx(expected.high, abs=1e-12)


@pytest.mark.parametrize(("passed", "of"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_no_share(passed, of):
    with pytest.raises(EvaluationError, match="not a share"):
        wilson(passed, of)


def test_bootstrap_of_a_mean_is_as_wide_as_theory_says_and_repeats():
    draw = random.Random(7)
    values = [draw.random() for _ in range(400)]
    interval = bootstrap(mean_of(values), 400)
    error = 1.96 * math.sqrt(1 / 12 / 400)
    assert interval.high - interval.low == pytest.approx(2 * error, rel=0.15)
    assert interval == bootstrap(mean_of(values), 400)
    random.seed(3)
    before = random.getstate()
    bootstrap(mean_of(values), 400)
    assert random.getstate() == before


@pytest.mark.slow
def test_bootstrap_covers_the_true_value_as_often_as_it_says():
    draw = random.Random(11)
    held = 0
    for seed in range(200):
        values = [float(draw.random() < 0.4) for _ in range(60)]
        interval = bootstrap(mean_of(values), 60, seed=seed, num_resamples=200)
        held += interval.low <= 0.4 <= interval.high
    assert 175 <= held <= 200


def test_bootstrap_stays_in_range_and_says_nothing_where_rows_do_not_differ():
    interval = bootstrap(mean_of([1.0] * 9 + [0.9]), 10)
    assert interval.low < interval.high <= 1.0
    assert bootstrap(mean_of([0.0] * 20), 20) is None
    assert bootstrap(mean_of([0.3]), 1) is None
    with pytest.raises(EvaluationError, match="no row"):
        bootstrap(mean_of([]), 0)


def test_mcnemar_is_scipys_exact_binomial_test():
    from scipy.stats import binomtest

    for gained, lost in itertools.product(range(25), repeat=2):
        expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
        assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-9), (gained, lost)
    assert mcnemar(900, 700) == pytest.approx(binomtest(900, 1600).pvalue, rel=1e-6)
    assert 0 <= mcnemar(5000, 0) < 1e-300


def test_mcnemar_refuses_negative_counts():
    with pytest.raises(EvaluationError, match="not counts"):
        mcnemar(-1, 4)


def verdicts(text):
    return {f"t/{number}": mark == "+" for number, mark in enumerate(text)}


def test_flips_are_listed_either_way():
    found = compare(verdicts("++--"), verdicts("+-+-"))
    assert (found.gained, found.lost, found.same) == (("t/2",), ("t/1",), ("t/0", "t/3"))
    assert found.p_value == 1.0


@pytest.mark.parametrize(
    ("base", "tuned", "expected"),
    [
        ("++--", "++--", "No difference can be claimed: the verdict is the same on all 4 problems."),
        ("-", "-", "No difference can be claimed: the verdict is the same on all 1 problem."),
        (
            "-----+",
            "+++++-",
            "No difference can be claimed: 5 gained and 1 lost of 6 problems (p = 0.219, exact McNemar test on 6 flips).",
        ),
        (
            "-------",
            "+++++++",
            "Better than the base: 7 gained and 0 lost of 7 problems (p = 0.016, exact McNemar test on 7 flips).",
        ),
        (
            "+" * 20,
            "-" * 20,
            "Worse than the base: 0 gained and 20 lost of 20 problems (p < 0.001, exact McNemar test on 20 flips).",
        ),
        (
            "-+",
            "++",
            "No difference can be claimed: 1 gained and 0 lost of 2 problems (p = 1.000, exact McNemar test on 1 flip).",
        ),
    ],
)
def test_the_sentence_claims_no_more_than_the_test_shows(base, tuned, expected):
    assert compare(verdicts(base), verdicts(tuned)).sentence() == expected


def test_models_graded_on_different_problems_are_not_compared():
    with pytest.raises(EvaluationError, match=r"^t/1: 1 problem graded for one model only"):
        compare(verdicts("++"), verdicts("+"))
    with pytest.raises(EvaluationError, match="no problem"):
        compare({}, {})


def test_an_interval_names_its_method():
    assert wilson(1, 2).method == "Wilson"
    assert Interval(0.1, 0.2, "bootstrap").low == 0.1
