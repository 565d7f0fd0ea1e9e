"""Five signed-in people act at once beside twenty viewers; `python -m bench people` is the one with fifty, and takes the time."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from bench.people import run

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]


def test_no_act_is_lost_or_doubled(tmp_path):
    with ThreadPoolExecutor(
        1
    ) as thread:  # Playwright keeps a running event loop in this one, where another browser test came first
        figures = thread.submit(run, tmp_path, people=5, viewers=20, act_s=12, poll_s=3).result()
    assert figures["wrong"] == []
    assert figures["errors"] == []
    assert all(figures["seconds_of"][kind]["n"] for kind in ("upload", "start", "stop", "chat"))
    assert figures["polling"]["polls"] > 100
