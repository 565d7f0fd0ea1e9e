"""Text from outside stays text: markup planted wherever the page shows what a run, a file or the Hub said runs nowhere."""

import csv
import json

import pytest
from playwright.sync_api import expect

from codex_space.core.paths import Workspace
from codex_space.store import audit, checkpoints, evaluations, hub_jobs, metrics
from codex_space.store import runs as run_rows
from codex_space.store.db import Database
from tests.e2e.conftest import Page

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

BAIT = "<img src=x onerror='window.ran=(window.ran||[]).concat(document.activeElement.id)'>"
LOUD = f"\"'></title></style></textarea></script>{BAIT}${{window.ran=['template']}}{{{{value}}}}<script>window.ran=['script']</script>"
RECIPE = "kind: sft\nmodel: {model_name_or_path: fresh:tiny}\ndatasets: [{path: sample:python-first-chat}]\n"
IDS = ("20270115-080000-sft-aaaa", "20270115-080001-sft-bbbb", "20270115-080002-sft-cccc")
NOW = 1_800_000_000.0


@pytest.fixture
def baited(tmp_path, hub):
    """A page whose runs and Hub say nothing but bait."""
    served = Page(
        tmp_path / "workspace",
        HF_HUB_OFFLINE="0",
        HF_ENDPOINT=hub.endpoint,
        HF_TOKEN="hf_write",
        CODEX_SPACE_RESUME="off",
    )
    workspace = Workspace(served.workspace).make()
    db = Database.open(workspace.database)
    for run_id, place in zip(IDS, ("local", "hf-jobs", "local"), strict=True):
        run_rows.insert_run(
            db,
            id=run_id,
            name=LOUD,
            kind="sft",
            recipe=f"# {LOUD}\n{RECIPE}",
            repo_id="nobody/model",
            now=NOW,
            place=place,
        )
        job = workspace.job(run_id)
        (job.root / "samples").mkdir(parents=True)
        job.recipe.write_text(RECIPE)
        job.log.write_text(f"{LOUD}\n" * 5)
        rows = [{"prompt": LOUD, "expected": LOUD, "text": LOUD}]
        job.samples(2).write_text(json.dumps({"samples": rows}))
        for state in ("preflight", "running", "stopping"):
            run_rows.change_state(db, run_id, state, now=NOW)
        run_rows.update_progress(db, run_id, step=2, max_steps=4, phase=LOUD)
        run_rows.change_state(db, run_id, "stopped", now=NOW, reason=LOUD)
        metrics.add_points(db, run_id, [(name, step, 2.0, NOW) for name in ("loss", LOUD) for step in (1, 2)])
        checkpoints.add_checkpoint(db, run_id, 2, created_at=NOW, size_bytes=1, metrics={"loss": 1.0}, upload="failed")
        checkpoints.set_upload(db, run_id, 2, "failed", error=LOUD)
        evaluations.start(db, run_id, 2, "first-steps", target=(run_id, 2), num_samples=1, protocol=LOUD, now=NOW)
        (row,) = evaluations.of_writer(db, run_id)
        evaluations.fail(db, row, LOUD)
    hub_jobs.add_job(db, IDS[1], 1, flavor=LOUD, timeout_s=1.0, now=NOW, log_offset=0)
    hub_jobs.update_job(db, IDS[1], 1, stage=LOUD, message=LOUD, url="javascript:window.ran=['link']", running_s=1.0)
    audit.add(db, at=NOW, who=LOUD, verb=LOUD, what=LOUD)
    db.close()
    hub.fail("/api/(?!whoami)", status=403, message=BAIT, times=10_000)
    hub.state.users["hf_write"] = {**hub.state.users["hf_write"], "name": LOUD, "orgs": [LOUD]}
    yield served.start()
    served.close()


def assert_quiet(tab, where):
    tab.page.wait_for_timeout(300)  # an image that does not load says so a moment later
    assert tab.page.evaluate("window.ran || null") is None, where
    planted = "img[src='x'], a[href^='javascript:'], .gradio-container script:not([src]):not([type])"
    assert tab.page.locator(planted).count() == 0, where


def test_what_runs_and_their_jobs_say_is_text(baited, open_tab):
    tab = open_tab(baited)
    page = tab.page
    for run_id in IDS:
        page.goto(f"{baited.address}/#runs/{run_id}")
        expect(page.locator("#runs-head")).to_contain_text("<img src=x")
        for view in ("Samples", "Log", "Recipe", "Manage", "Checkpoints"):
            page.locator("#runs-views").get_by_role("tab", name=view, exact=True).click()
            assert_quiet(tab, f"runs, {view}")
    page.locator("#runs-views").get_by_role("tab", name="Log", exact=True).click()
    expect(page.locator("#runs-log")).to_contain_text("<img src=x")
    page.locator("#runs-log-search textarea, #runs-log-search input").first.fill("img")
    page.keyboard.press("Enter")
    expect(page.locator("#runs-log-found")).to_contain_text("<img src=x")
    for box in page.locator("#runs-list input[type=checkbox]").all():
        box.check()
    assert_quiet(tab, "compared runs")
    page.locator("#runs-views").get_by_role("tab", name="Manage", exact=True).click()
    tab.shot("hostile-runs")


def test_what_the_hub_and_a_recipe_say_is_text(baited, open_tab):
    tab = open_tab(baited)
    page = tab.page
    for name in ("Start", "Pretrain", "Evaluate", "Export", "Playground", "Space"):
        tab.go(name)
        assert_quiet(tab, name)
    expect(page.locator("#space-audit")).to_contain_text("<img src=x")
    expect(page.locator("#space-account")).to_contain_text("<img src=x")
    page.locator("#disk-measure").click()
    expect(page.locator(".toast-body").first).to_contain_text("The Hub was not asked")
    assert_quiet(tab, "the Hub's refusal beside the disk")
    tab.shot("hostile-space")

    tab.go("Train")
    yaml = page.locator("#train-yaml textarea")
    for text in (
        f"kind: sft\n{json.dumps(LOUD)}: 1\n",
        RECIPE.replace("fresh:tiny", "nobody/knows-this"),
        RECIPE.replace("fresh:tiny", json.dumps(LOUD)).replace("{model_name", "{ model_name"),
        RECIPE + f"name: {json.dumps(LOUD)}\n",
        RECIPE + "hub: {repo_id: nobody/model}\n",
    ):
        yaml.fill(text)
        expect(page.locator("#train-ready")).to_contain_text("Not ready")
        assert_quiet(tab, text)
    tab.shot("hostile-train")
    tab.go("Runs")
    page.locator("#runs-views").get_by_role("tab", name="Manage", exact=True).click()
    page.locator("#runs-from-hub button").first.click()
    page.locator("#runs-repo textarea, #runs-repo input").first.fill("nobody/model")
    page.locator("#runs-fetch").click()
    expect(page.locator(".toast-body").first).to_be_visible()
    assert_quiet(tab, "a refusal of the Hub as a toast")


def test_what_a_file_says_is_text(baited, open_tab, tmp_path):
    tab = open_tab(baited)
    page = tab.page
    tab.go("Data")
    columns = tmp_path / f"{BAIT}.jsonl".replace("/", "")
    columns.write_text(json.dumps({LOUD: LOUD, f"b{LOUD}": 1}) + "\n")
    page.locator("#data-upload input[type=file]").set_input_files(columns)
    expect(page.locator("#data-result")).to_contain_text("<img src=x")
    assert_quiet(tab, "columns of a refused file")
    broken = tmp_path / "broken.csv"
    with broken.open("w", newline="") as file:
        csv.writer(file).writerows([["prompt", "completion", LOUD], ["a", "b"], [LOUD, LOUD, LOUD]])
    page.locator("#data-upload input[type=file]").set_input_files(broken)
    expect(page.locator("#data-result")).to_be_visible()
    assert_quiet(tab, "rows of a refused file")
    fine = tmp_path / "fine.jsonl"
    fine.write_text("".join(json.dumps({"prompt": LOUD, "completion": LOUD, LOUD: "x"}) + "\n" for _ in range(5)))
    page.locator("#data-upload input[type=file]").set_input_files(fine)
    expect(page.locator("#data-rows")).to_contain_text("<img src=x")
    page.locator("#data-views").get_by_role("tab").nth(1).click()
    assert_quiet(tab, "rows and columns of a dataset")
    page.locator("#data-hub button").first.click()
    page.locator("#data-repo textarea, #data-repo input").first.fill("nobody/rows")
    page.locator("#data-fetch").click()
    expect(page.locator("#data-result")).to_contain_text("nobody/rows")
    assert_quiet(tab, "a refusal of the Hub")
    tab.shot("hostile-data")
