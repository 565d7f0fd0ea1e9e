"""Curves: thinning keeps what matters, a cut leaves no trace, a million points answer at once."""

import math
import random

import pytest

from codex_space.store import metrics


def fill(db, run_id, values, metric="loss"):
    metrics.add_points(db, run_id, [(metric, step, value, 0.0) for step, value in values])


def test_a_short_curve_comes_back_whole(db, new_run):
    run = new_run()
    fill(db, run.id, [(1, 3.0), (2, 2.0), (5, 1.0)])
    curve = metrics.read_curve(db, run.id, "loss")
    assert (curve.steps, curve.values, curve.lows, curve.highs) == (
        [1, 2, 5],
        [3.0, 2.0, 1.0],
        [3.0, 2.0, 1.0],
        [3.0, 2.0, 1.0],
    )


def test_only_new_points_come_after_a_step(db, new_run):
    run = new_run()
    fill(db, run.id, [(step, float(step)) for step in range(100)])
    assert metrics.read_curve(db, run.id, "loss", after_step=97).steps == [98, 99]
    assert metrics.read_curve(db, run.id, "loss", after_step=99).steps == []


def test_an_unknown_curve_is_empty(db, new_run):
    assert metrics.read_curve(db, new_run().id, "loss").steps == []
    assert metrics.read_curve(db, "no-such-run", "loss").steps == []
    assert metrics.last_step(db, "no-such-run", "loss") == -1
    assert metrics.latest(db, "no-such-run") == {}


@pytest.mark.parametrize("count", [1000, 40_000])
@pytest.mark.parametrize("max_points", [7, 100])
def test_a_thinned_curve_hides_no_peak_and_ends_where_the_curve_ends(db, new_run, count, max_points):
    run = new_run()
    fill(db, run.id, [(step, math.sin(step / 900)) for step in range(count)])
    fill(db, run.id, [(count // 3, 50.0), (count // 2, -50.0)])
    curve = metrics.read_curve(db, run.id, "loss", max_points=max_points)
    assert len(curve.steps) <= max_points
    assert (max(curve.highs), min(curve.lows)) == (50.0, -50.0)
    assert (curve.steps[-1], curve.values[-1]) == (count - 1, math.sin((count - 1) / 900))
    assert curve.steps == sorted(set(curve.steps))


def test_new_points_of_a_long_curve_are_thinned_but_never_older_ones(db, new_run):
    run = new_run()
    fill(db, run.id, [(step, 1.0) for step in range(100_000)])
    curve = metrics.read_curve(db, run.id, "loss", max_points=50, after_step=12_345)
    assert curve.steps[0] > 12_345
    assert curve.steps[-1] == 99_999
    assert len(curve.steps) <= 50


def test_a_step_logged_again_counts_with_its_second_value_only(db, new_run):
    run = new_run()
    fill(db, run.id, [(step, 1.0) for step in range(10_000)])
    fill(db, run.id, [(5000, 99.0)])
    fill(db, run.id, [(5000, 2.0)])
    assert max(metrics.read_curve(db, run.id, "loss", max_points=10).highs) == 2.0
    fill(db, run.id, [(9999, 7.0)])
    assert metrics.latest(db, run.id) == {"loss": 7.0}


def test_values_that_are_no_numbers_are_left_out(db, new_run):
    run = new_run()
    fill(db, run.id, [(1, math.nan), (2, math.inf), (3, -math.inf), (4, 1.0)])
    assert metrics.read_curve(db, run.id, "loss").steps == [4]
    fill(db, run.id, [(5, math.nan)], metric="only-nan")
    assert metrics.list_metrics(db, run.id) == ["loss"]


@pytest.mark.parametrize("cut", [-1, 0, 1, 63, 64, 65, 4095, 4096, 5000, 9_999, 60_000])
def test_a_cut_curve_is_as_if_the_rest_had_never_been_logged(db, new_run, cut):
    whole, short = new_run(), new_run()
    values = [(step, random.Random(step).random()) for step in range(10_000)]
    fill(db, whole.id, values)
    metrics.truncate_after(db, whole.id, cut)
    fill(db, short.id, [value for value in values if value[0] <= cut])
    for table in ("points", "buckets"):
        rows = [
            [tuple(row)[1:] for row in db.query(
                f"SELECT t.* FROM {table} AS t JOIN curves ON curves.id = t.curve_id WHERE run_id = ?", (run.id,)
            )]
            for run in (whole, short)
        ]  # fmt: skip
        assert rows[0] == rows[1], table
    assert metrics.list_metrics(db, whole.id) == (["loss"] if cut >= 0 else [])
    assert metrics.last_step(db, whole.id, "loss") == max(min(cut, 9_999), -1)


def test_curves_of_different_runs_and_metrics_do_not_touch(db, new_run):
    first, second = new_run(), new_run()
    metrics.add_points(db, first.id, [("loss", 1, 1.0, 0.0), ("eval_loss", 1, 2.0, 0.0), ("loss", 2, 3.0, 0.0)])
    fill(db, second.id, [(1, 9.0)])
    metrics.truncate_after(db, first.id, 1)
    assert metrics.latest(db, first.id) == {"eval_loss": 2.0, "loss": 1.0}
    assert metrics.latest(db, second.id) == {"loss": 9.0}
    assert metrics.list_metrics(db, first.id) == ["eval_loss", "loss"]


def test_a_million_points_are_answered_from_few_rows(db, new_run):
    """Not a clock but a count of SQLite's own steps: reading each point would take several million."""
    run = new_run()
    with db.transaction() as cursor:
        metrics.add_points(db, run.id, [("loss", 0, 1.0, 0.0)])
        cursor.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 999999) "
            "INSERT INTO points SELECT 1, i, 1.0 / i, 0.0 FROM n"
        )
        metrics._recount(cursor, 1, 0, 999_999)
    thousands = iter(range(10**9))
    db._connection.set_progress_handler(lambda: next(thousands) and 0, 1000)
    curve = metrics.read_curve(db, run.id, "loss")
    db._connection.set_progress_handler(None, 0)
    assert 500 < len(curve.steps) <= 1000
    assert curve.steps[-1] == 999_999
    assert next(thousands) < 500, "thousands of SQLite steps"
