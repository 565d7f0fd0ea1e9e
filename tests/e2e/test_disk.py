"""The Disk card in a real Chromium: what may go is seen, deleted after a yes, and brought back on Runs."""

import shutil
import threading
import time

import pytest
from playwright.sync_api import expect

from codex_space.hub.push import push_checkpoint
from codex_space.store import checkpoints, runs
from tests.e2e.test_roles import open_there  # noqa: F401  # the fixture
from tests.fakes.checkpoints import RECIPE, RUN_ID, write_checkpoint
from tests.fakes.space import OWNER, Clock, open_space  # noqa: F401  # the fixture

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


def fill(space):
    """A run that has succeeded, with three checkpoints here and on the Hub, another run's exports, a dataset."""
    ctx, hub = space.ctx, space.hub
    hub.client().make_repo("ada/model", private=True)
    job = ctx.workspace.job(RUN_ID)
    job.root.mkdir(parents=True)
    job.recipe.write_text(RECIPE)
    runs.insert_run(ctx.db, id=RUN_ID, name="first", kind="sft", recipe=RECIPE, repo_id="ada/model", now=1.0)
    for step in (20, 40, 60):
        folder = write_checkpoint(job.checkpoint(step), step, size_bytes=3_000_000)
        commit = push_checkpoint(
            hub.client(), folder, repo_id="ada/model", card="c", recipe_text=RECIPE, with_resume=step == 60
        )
        checkpoints.add_checkpoint(
            ctx.db, RUN_ID, step, created_at=1.0, size_bytes=3_000_000, metrics={"loss": 1 / step}
        )
        checkpoints.set_upload(ctx.db, RUN_ID, step, "uploaded", commit_id=commit)
    shutil.copytree(job.checkpoint(20), job.export)
    shutil.copytree(job.checkpoint(20), ctx.workspace.datasets / "mine")
    (job.checkpoint(40) / "notes.txt").write_text("only here")
    runs.restore_run(ctx.db, RUN_ID, state="succeeded", ended_at=2.0, step=60, max_steps=60)
    return job


@pytest.fixture
def keep_live():
    """Take snapshots of runs, as `serve` does and `launch` alone does not."""
    ending, threads = threading.Event(), []

    def repeat(space):
        while not ending.wait(0.2):
            space.page.live.refresh(time.time())

    def start(space):
        threads.append(threading.Thread(target=repeat, args=(space,)))
        threads[-1].start()

    yield start
    ending.set()
    for thread in threads:
        thread.join()


def test_checkpoints_go_after_a_yes_and_come_back(open_space, open_there, monkeypatch, keep_live):  # noqa: F811
    monkeypatch.setattr(Clock, "__call__", lambda _: time.time())
    space = open_space(HF_TOKEN="hf_write", CODEX_SPACE_VISITORS="look")
    job = fill(space)
    keep_live(space)
    tab = open_there(space)
    page = tab.page
    tab.go("Space")
    expect(page.locator("#disk-meter")).to_contain_text("Checkpoints")  # a visitor may look
    expect(page.locator("#disk-see")).to_have_attribute("aria-disabled", "true")
    space.provider.person = OWNER
    page.locator("#top-bar").get_by_role("link", name="Sign in").click()
    expect(page.locator("#top-bar")).to_contain_text("ada")
    tab.go("Space")
    expect(page.locator("#disk-meter")).to_contain_text("Checkpoints")
    expect(page.locator("#disk-go")).to_be_hidden()
    page.locator("#disk-see").click()
    expect(page.locator("#disk-list")).to_contain_text("step 20")
    expect(page.locator("#disk-go")).to_be_disabled()
    tab.shot("disk-offer")
    page.locator("#disk-sure input").check()
    page.locator("#disk-go").click()
    expect(page.locator("#disk-result")).to_contain_text("1 thing is gone")
    expect(page.locator("#disk-result")).to_contain_text("1 stays on this machine")
    tab.shot("disk-done")
    assert job.checkpoint_steps() == [40, 60]

    page.goto(f"{page.url.partition('#')[0]}#runs/{RUN_ID}")
    tab.go("Runs")
    row = page.locator("#runs-checkpoints tr", has_text="on the Hub only")
    expect(row).to_contain_text("20")
    tab.shot("disk-bring-back")
    row.get_by_role("button", name="Bring back").click()
    expect(page.locator("#runs-checkpoints tr", has_text="on the Hub only")).to_have_count(0)
    assert job.checkpoint_steps() == [20, 40, 60]
    expect(page.locator("#runs-checkpoints a", has_text="Chat")).to_have_count(3)
