"""Metrics against values that papers and packages print, and against counts made by hand."""

import random
import subprocess
import sys

import pytest

from codex_space.core.errors import EvaluationError
from codex_space.grade.text_metrics import METRICS, metric, score_texts


def value(name, answers, references):
    return score_texts([name], answers, references)[name].value


def one(name, answer, reference):
    return value(name, [answer], [reference])


def test_the_page_lists_these_and_each_has_a_sentence():
    assert list(METRICS) == [
        "exact-match",
        "token-f1",
        "bleu",
        "rouge-1",
        "rouge-2",
        "rouge-l",
        "chrf",
        "distinct-1",
        "distinct-2",
        "token-accuracy",
    ]
    assert all(each.what.endswith(".") for each in METRICS.values())


@pytest.mark.parametrize("name", [name for name in METRICS if not name.startswith("distinct")])
def test_the_reference_itself_scores_one_and_nothing_scores_nought(name):
    text = "def add(first, second):\n    return first + second\n"
    assert one(name, text, text) == pytest.approx(1.0)
    assert one(name, "", text) == 0.0
    assert one(name, "%%", "pass now") == 0.0


@pytest.mark.parametrize(
    ("name", "answer", "reference", "expected"),
    [
        ("exact-match", " a b\n", "a b", 1.0),
        ("exact-match", "a  b", "a b", 0.0),
        ("token-f1", "return a + b", "return b - a", 2 * 3 / 8),
        ("token-f1", "a a a", "a", 2 * 1 / 4),
        ("token-f1", "", "", 1.0),
        ("token-accuracy", "return a - b", "return a + b", 3 / 4),
        ("token-accuracy", "x return a", "return a", 0.0),
        ("token-accuracy", "return a", "return a + b", 2 / 4),
        ("token-accuracy", "", "", 1.0),
        # 4/5 * 3/4 * 2/3 * 1/2 of the n-grams match, lengths are equal: the fourth root of a fifth
        ("bleu", "a b c d e", "a b c d f", 0.2**0.25),
        # all of the answer's n-grams match, and 3/4, 2/3 and 1/2 of the reference's up to trigrams; recall counts twice
        ("chrf", "abc", "abcd", 5 * (23 / 36) / (4 + 23 / 36)),
    ],
)
def test_values_counted_by_hand(name, answer, reference, expected):
    assert one(name, answer, reference) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "reference", "answer", "expected"),
    [
        # rouge_scorer_test.py of rouge-score 0.1.2
        ("rouge-1", "testing one two", "testing", 1 / 2),
        ("rouge-2", "testing one two", "testing one", 2 / 3),
        ("rouge-l", "testing one two", "testing one", 4 / 5),
        ("rouge-l", "testing one two", "testing two", 4 / 5),
        ("rouge-1", "first something", "text first", 1 / 2),
        ("rouge-2", "first text", "text first", 0),
        ("rouge-l", "first text", "text first", 1 / 2),
        ("rouge-1", "testing one two", "", 0),
        ("rouge-1", "w1 w2 w3", "/", 0),
        # Lin 2004, section 3.1: "police killed the gunman" against two sentences (there as recall of the F-measure)
        ("rouge-l", "police killed the gunman", "police kill the gunman", 3 / 4),
        ("rouge-l", "police killed the gunman", "the gunman kill police", 2 / 4),
    ],
)
def test_rouge_is_what_its_package_and_paper_print(name, reference, answer, expected):
    assert one(name, answer, reference) == pytest.approx(expected)


def test_rouge_l_is_the_longest_common_subsequence_of_the_plain_table():
    draw = random.Random(5)
    for _ in range(200):
        ours, theirs = (draw.choices("abcd", k=draw.randrange(1, 30)) for _ in range(2))
        table = [[0] * (len(theirs) + 1) for _ in range(len(ours) + 1)]
        for row, a in enumerate(ours, 1):
            for column, b in enumerate(theirs, 1):
                longer = max(table[row - 1][column], table[row][column - 1])
                table[row][column] = table[row - 1][column - 1] + 1 if a == b else longer
        expected = 2 * table[-1][-1] / (len(ours) + len(theirs))
        assert one("rouge-l", " ".join(ours), " ".join(theirs)) == pytest.approx(expected)


def test_bleu_and_chrf_are_those_of_sacrebleu():
    from sacrebleu import corpus_bleu, corpus_chrf

    answers = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
    references = ["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."]
    assert value("bleu", answers, references) == pytest.approx(corpus_bleu(answers, [references]).score / 100)
    assert value("chrf", answers, references) == pytest.approx(corpus_chrf(answers, [references]).score / 100)


def test_distinct_counts_kinds_over_all_answers_together():
    assert value("distinct-1", ["a b", "a c"], ["", ""]) == 3 / 4
    assert value("distinct-2", ["a b a b", "a b"], ["", ""]) == 2 / 4
    assert value("distinct-2", ["a", ""], ["", ""]) == 0.0


def test_every_metric_has_a_bootstrap_interval_around_its_value():
    draw = random.Random(1)
    words = ["def", "return", "for", "in", "if", "else", "a", "b", "c", "+", "-", "(", ")", ":"]
    references = [" ".join(draw.choices(words, k=20)) for _ in range(40)]
    answers = [text if draw.random() < 0.5 else " ".join(draw.choices(words, k=18)) for text in references]
    found = score_texts(list(METRICS), answers, references)
    for name, score in found.items():
        assert score.num_rows == 40
        assert score.interval.method == "bootstrap", name
        assert 0 <= score.interval.low <= score.value <= score.interval.high <= 1, name
        assert score.interval.low < score.interval.high, name
    assert score_texts(list(METRICS), answers, references) == found
    assert score_texts(["chrf"], answers, references, seed=1) != {"chrf": found["chrf"]}


def test_rows_that_all_score_alike_get_no_interval():
    assert score_texts(["exact-match"], ["a"] * 9, ["b"] * 9)["exact-match"].interval is None


@pytest.mark.parametrize(
    ("names", "answers", "references", "said"),
    [
        (["blue"], ["a"], ["a"], "Did you mean 'bleu'"),
        (["perplexity"], ["a"], ["a"], "Known: bleu"),
        (["bleu"], ["a"], ["a", "b"], "1 answers and 2 references"),
        (["bleu"], [], [], "no answer to score"),
    ],
)
def test_what_cannot_be_scored_is_refused(names, answers, references, said):
    with pytest.raises(EvaluationError, match=said):
        score_texts(names, answers, references)


@pytest.mark.parametrize("answer", ["x " * 50_000, "\x00\ud800 " * 1000, "(" * 100_000, "a" * 100_000, "\n" * 100_000])
def test_hostile_answers_are_scored_all_the_same(answer):
    for score in score_texts(list(METRICS), [answer, "fine"], ["x y " * 25_000, "fine"]).values():
        assert 0 <= score.value <= 1


def test_a_new_metric_is_one_decorated_function_and_names_are_taken_once():
    @metric("length", "Share of answers as long as the reference.")
    def length(answers, references):
        same = [len(a) == len(r) for a, r in zip(answers, references, strict=True)]
        return lambda numbers: sum(same[number] for number in numbers) / len(numbers)

    try:
        assert value("length", ["ab", "c"], ["xy", "zz"]) == 0.5
        with pytest.raises(ValueError, match="two metrics named 'length'"):
            metric("length", "Again.")(length)
    finally:
        del METRICS["length"]


def test_the_library_is_imported_only_where_it_is_used():
    code = (
        "import sys; from codex_space.grade.text_metrics import score_texts\n"
        "score_texts(['rouge-l', 'token-f1'], ['a'], ['a'])\n"
        "assert not {'sacrebleu', 'numpy', 'lxml', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
