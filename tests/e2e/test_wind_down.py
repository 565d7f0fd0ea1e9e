"""SIGTERM to the page of a container: the run saves, its checkpoint reaches the Hub, and no process is left."""

import signal
import time

import psutil
import pytest

from codex_space.core.paths import JobDir
from tests.e2e.conftest import wait_for
from tests.e2e.test_hub_runs import TO_HUB
from tests.e2e.test_interrupted import RECIPE, notes, page_of, submit

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

SLOW = RECIPE.replace("max_steps: 480", "max_steps: 4000").replace("every_steps: 48", "every_steps: 4000")


def left(workspace):
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(workspace) in part for part in process.info["cmdline"] or []):
            found.append(process.pid)
    return found


def test_a_container_saves_within_its_grace_and_the_next_one_goes_on(hub, tmp_path):
    page = page_of(tmp_path / "here", hub, CODEX_SPACE_GRACE_S="20")
    page.workspace.mkdir()
    page.start()
    try:
        run_id = submit(page, SLOW + TO_HUB)
        events = JobDir(page.workspace / "runs" / run_id).events
        wait_for(lambda: events.is_file() and b'"step": 20,' in events.read_bytes(), 200, "step 20")
        began = time.monotonic()
        page.process.send_signal(signal.SIGTERM)
        assert page.process.wait(40) == 0
        assert time.monotonic() - began < 25
        assert left(page.workspace) == []
        (step,) = JobDir(page.workspace / "runs" / run_id).checkpoint_steps()
        assert f"step-{step}" in hub.repo("ada/model")["tags"]
        note = notes(hub)[f"unfinished/{run_id}.json"].decode()
        assert '"is_released": true' in note
        assert '"state": "lost"' in note
    finally:
        page.close()


def test_without_a_grace_the_run_outlives_the_page(hub, tmp_path):
    page = page_of(tmp_path / "here", hub)
    page.workspace.mkdir()
    page.start()
    try:
        run_id = submit(page, SLOW + TO_HUB)
        events = JobDir(page.workspace / "runs" / run_id).events
        wait_for(lambda: events.is_file() and b'"step": 20,' in events.read_bytes(), 200, "step 20")
        page.process.send_signal(signal.SIGTERM)
        page.process.wait(20)
        assert left(page.workspace)
    finally:
        page.close()
