"""The container is lost with its disk: the next one goes on from the Hub, by itself or on a click, with the same losses."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from tests.e2e.conftest import Page, all_runs, wait_for
from tests.e2e.test_hub_runs import RECIPE as SHORT
from tests.e2e.test_hub_runs import REPO, TO_HUB, environ, final_weights, kill_everything, losses, train

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

RECIPE = SHORT.replace("max_steps: 24", "max_steps: 480").replace("every_steps: 6", "every_steps: 48")


def page_of(root, hub, **given):
    root.mkdir(parents=True, exist_ok=True)
    env = {**environ(hub), "HF_HUB_OFFLINE": "0", "CODEX_SPACE_HOLDER": "one-container", "CODEX_SPACE_HEARTBEAT_S": "1"}
    return Page(root / "workspace", **{**env, **given})


def notes(hub):
    name = "datasets/ada/codex-space-runs"
    repo = hub.state.repos.get(name)
    return (
        hub.state.files("datasets", "ada/codex-space-runs") if repo and "main" in repo["heads"] else {}
    )  # made, then filled


def submit(page, recipe):
    """As a person at a terminal would: the page owns the workspace and starts it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "codex_space", "train", "-", "--workspace", str(page.workspace)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=page.environ, cwd=REPO,
    )  # fmt: skip
    process.stdin.write(recipe.encode())
    process.stdin.close()
    try:
        return wait_for(lambda: next((run["id"] for run in all_runs(page)), None), 60, "the run")
    finally:
        process.kill()
        process.wait()


def lose(hub, root):
    """Train on one machine until a checkpoint is safe, then take all of it away; return the run's id."""
    page = page_of(root, hub)
    page.workspace.mkdir()
    page.start()
    try:
        run_id = submit(page, RECIPE + TO_HUB)
        wait_for(lambda: f"unfinished/{run_id}.json" in notes(hub), 30, "the note")
        deadline = time.monotonic() + 200
        while not hub.state.repos.get("models/ada/model", {"tags": {}})["tags"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        kill_everything(page.process, page.workspace)
    assert f"unfinished/{run_id}.json" in notes(hub), "it ended before it could be lost"
    shutil.rmtree(root)
    return run_id


def test_an_empty_machine_goes_on_by_itself_with_the_same_losses_and_weights(hub, tmp_path):
    undisturbed = train(tmp_path / "undisturbed", RECIPE, dict(os.environ))
    run_id = lose(hub, tmp_path / "lost")
    page = page_of(tmp_path / "found", hub, CODEX_SPACE_RESUME="auto")
    page.workspace.mkdir()
    began = time.monotonic()
    try:
        page.start()
        answered_s = time.monotonic() - began
        assert answered_s < 60  # nothing of the search stands before the page
        ended = wait_for(
            lambda: next(
                (run for run in all_runs(page) if run["state"] not in {"queued", "preflight", "running"}), None
            ),
            200,
            "the end",
        )
        assert (ended["id"], ended["state"]) == (run_id, "succeeded")
        wait_for(lambda: "step-480" in hub.repo("ada/model")["tags"], 60, "the last upload")
        wait_for(lambda: f"ended/{run_id}.json" in notes(hub), 60, "its end")
    finally:
        page.close()
    reference = tmp_path / "undisturbed"
    assert final_weights(page.workspace, run_id) == final_weights(reference, undisturbed["run"])
    before, after = losses(reference, undisturbed["run"]), losses(page.workspace, run_id)
    assert after == {step: loss for step, loss in before.items() if step in after}
    assert set(range(433, 481)) <= set(after)
    note = json.loads(notes(hub)[f"ended/{run_id}.json"])
    assert (note["state"], note["attempt"]) == ("succeeded", 2)


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_the_card_offers_it_and_one_click_goes_on(hub, tmp_path, open_tab, colours):
    run_id = lose(hub, tmp_path / "lost")
    page = page_of(tmp_path / "found", hub)
    page.workspace.mkdir()
    page.start()
    try:
        tab = open_tab(page, color_scheme=colours)
        card = tab.page.locator("#start-interrupted section")
        card.wait_for()
        assert "1 run was interrupted: go on" in card.inner_text()
        tab.shot(f"interrupted-start-{colours}")
        tab.go("Runs")
        tab.page.locator("#runs-interrupted section").wait_for()
        tab.page.set_viewport_size({"width": 390, "height": 844})
        tab.shot(f"interrupted-runs-{colours}-phone")
        tab.page.set_viewport_size({"width": 1440, "height": 900})
        tab.page.locator("#runs-interrupted button", has_text="Go on").click()
        wait_for(lambda: [run["id"] for run in all_runs(page)] == [run_id], 60, "the run")
        tab.page.locator("#runs-interrupted section").wait_for(state="hidden")
        if colours == "light":
            wait_for(lambda: all_runs(page)[0]["state"] == "succeeded", 200, "the end")
        page.cli("runs", "cancel", run_id)
    finally:
        page.close()


def test_what_is_lost_here_is_listed_and_goes_on_from_the_command_line(hub, tmp_path):
    page = page_of(tmp_path / "here", hub)
    page.workspace.mkdir()
    page.start()
    try:
        run_id = submit(page, RECIPE + TO_HUB)
        wait_for(lambda: any(page.workspace.glob("runs/*/checkpoint-48/codex_manifest.json")), 200, "step 48")
        kill_everything(page.process, page.workspace)
        done = page.cli("runs", "interrupted", "--resume-all", "--json")  # nobody has judged it yet
        listed = json.loads(page.cli("runs", "interrupted", "--json").stdout)
        if listed:
            assert [one["run_id"] for one in listed] == [run_id]
            done = page.cli("runs", "interrupted", "--resume-all", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["status"] == "succeeded"
    finally:
        page.close()
