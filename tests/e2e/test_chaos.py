"""A short, seeded chaos: each kind of kill and cut once, over one training; `python -m bench chaos` is the long one."""

import pytest

from bench.chaos import TARGETS, run

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]


def test_nothing_is_lost_doubled_or_left_behind(tmp_path):
    figures = run(tmp_path, seed=3, kills=len(TARGETS), steps=840, every=105)
    assert figures["wrong"] == []
    assert figures["kills"] == len(TARGETS)
    assert figures["most_workers_at_once"] == 1
    assert figures["attempts"] >= 3  # of the start, the killed worker and the lost machine
