"""What the disk and the Hub's storage hold is told with its time, and a run that needs more room is warned of."""

import json
import shutil

import pytest

from codex_space.core.errors import HubAuthError, HubBusyError
from codex_space.services import disk, gauges
from codex_space.services.disk import PRO_QUOTA_BYTES, SPARE_BYTES, Disk
from codex_space.store import checkpoints, runs
from tests.fakes.checkpoints import OTHER_RUN_ID, RECIPE, RUN_ID, write_checkpoint
from tests.services.test_clean import add_run, ctx, end  # noqa: F401  # the fixture

LARGE = 10 << 40


def free(ctx, free_bytes):  # noqa: F811
    return Disk(disk.read(ctx).usage, free_bytes, LARGE)


def test_it_is_measured_once_and_then_kept(ctx):  # noqa: F811
    first = disk.read(ctx)
    (ctx.workspace.datasets / "one").mkdir()
    (ctx.workspace.datasets / "one" / "rows").write_bytes(b"x" * 100_000)
    assert disk.read(ctx).usage == first.usage
    assert disk.read(ctx, anew=True).usage.parts["datasets"] >= 100_000
    assert 0 < first.free_bytes < first.size_bytes


def test_a_run_that_has_too_little_room_is_warned_of(ctx):  # noqa: F811
    runs.insert_run(ctx.db, id=RUN_ID, name="first", kind="sft", recipe=RECIPE, repo_id=None, now=1.0)
    assert disk.warning(ctx, free(ctx, 0)) == ""  # nothing trains
    checkpoints.add_checkpoint(ctx.db, RUN_ID, 2, created_at=1.0, size_bytes=7_000_000_000, metrics={})
    end(ctx, "running")
    needed = 7_000_000_000 + SPARE_BYTES
    assert disk.needed_bytes(ctx) == needed
    assert disk.warning(ctx, free(ctx, needed)) == ""
    told = disk.warning(ctx, free(ctx, needed - 1))
    assert "needs 7.3 GB" in told
    end(ctx, "succeeded")
    assert disk.warning(ctx, free(ctx, 0)) == ""


def test_before_its_first_checkpoint_the_estimate_speaks(ctx):  # noqa: F811
    recipe = RECIPE.replace("ada/base", "Qwen/Qwen2.5-Coder-0.5B")
    runs.insert_run(ctx.db, id=RUN_ID, name="first", kind="sft", recipe=recipe, repo_id=None, now=1.0)
    end(ctx, "running")
    assert 0.5e9 < disk.needed_bytes(ctx) < 5e9
    assert disk.needed_bytes(ctx, guesses=False) == 0  # a scraper makes nobody ask the Hub


def test_a_model_nobody_knows_is_no_reason_to_fail(ctx, hub):  # noqa: F811
    runs.insert_run(ctx.db, id=RUN_ID, name="first", kind="sft", recipe=RECIPE, repo_id=None, now=1.0)
    end(ctx, "running")
    hub.fail("", status=503, times=999)
    assert disk.needed_bytes(ctx) == 0
    assert disk.warning(ctx, free(ctx, 0)) == ""


def test_the_hub_says_what_our_repositories_hold(ctx, hub):  # noqa: F811
    add_run(ctx, hub)
    hub.client().make_repo("ada/model-rows", private=True, repo_type="dataset")
    runs.insert_run(ctx.db, id=OTHER_RUN_ID, name="b", kind="sft", recipe=RECIPE, repo_id="lab/gone", now=2.0)
    assert disk.hub_storage(ctx) is None
    found = disk.ask_hub(ctx)
    assert found.owners["ada"] > 3 * 2000  # weights of three steps, all revisions together
    assert "lab" not in found.owners
    assert found.quotas == {"ada": 100 * 10**9}
    assert disk.hub_storage(ctx) == found
    assert hub.asked("/api/datasets/ada/model-rows", "GET")


def test_a_pro_account_has_more(ctx, hub):  # noqa: F811
    hub.fail("whoami", status=200, text=json.dumps({"name": "ada", "orgs": [], "isPro": True, "auth": {}}))
    assert disk.ask_hub(ctx).quotas == {"ada": PRO_QUOTA_BYTES}


def test_not_more_repositories_than_is_cheap_are_asked_for(ctx, hub, monkeypatch):  # noqa: F811
    monkeypatch.setattr(disk, "MAX_REPOS", 2)
    for number in range(4):
        run_id = f"20261121-00153{number}-sft-aaaa"
        runs.insert_run(ctx.db, id=run_id, name="x", kind="sft", recipe=RECIPE, repo_id=f"ada/m{number}", now=1.0)
    found = disk.ask_hub(ctx)
    assert found.is_partial
    assert len(hub.asked("/api/models/ada/m", "GET")) == 2


def test_without_an_answer_what_was_known_stays(ctx, hub):  # noqa: F811
    add_run(ctx, hub)
    known = disk.ask_hub(ctx)
    hub.fail("", status=503, times=999)
    with pytest.raises(HubBusyError):
        disk.ask_hub(ctx)
    hub.heal()
    hub.state.users.clear()
    with pytest.raises(HubAuthError):
        disk.ask_hub(ctx)
    assert disk.hub_storage(ctx) == known


@pytest.mark.parametrize("text", ["", "[]", '{"at": 1}', '{"at": "x", "owners": {}, "quotas": {}}', '{"at": 1, "owners": [], "quotas": {}}'])  # fmt: skip
def test_a_damaged_answer_counts_as_none(ctx, text):  # noqa: F811
    (ctx.workspace.root / "hub_storage.json").write_text(text)
    assert disk.hub_storage(ctx) is None


def test_monitoring_reads_it(ctx):  # noqa: F811
    write_checkpoint(ctx.workspace.job(RUN_ID).checkpoint(2), 2)
    disk.read(ctx)
    told = gauges.render(ctx).decode()
    lines = dict(line.rsplit(" ", 1) for line in told.splitlines() if not line.startswith("#"))
    assert float(lines['codex_space_disk_used_bytes{part="checkpoints"}']) >= 2000
    assert float(lines["codex_space_disk_measured_seconds"]) > 0
    assert float(lines["codex_space_disk_needed_bytes"]) == 0
    assert float(lines["codex_space_disk_free_bytes"]) == pytest.approx(shutil.disk_usage("/tmp").free, rel=0.5)


def test_monitoring_measures_nothing_itself(ctx):  # noqa: F811
    assert "disk_used_bytes{" not in gauges.render(ctx).decode()
    assert not ctx.workspace.disk.exists()
