"""A database made again from the run folders is the one that was lost, but for what the module says."""

import json
import time

import pytest

from codex_space.core.errors import HubBusyError
from codex_space.core.paths import Workspace
from codex_space.core.settings import read_settings
from codex_space.services.context import open_context
from codex_space.services.rebuild import needs_rebuild, rebuild, set_aside
from codex_space.store import checkpoints, metrics, runs
from codex_space.store.db import Database
from tests.fakes.checkpoints import OTHER_RUN_ID, TOKENIZER_ID, write_tokenizer
from tests.jobs.conftest import bench  # noqa: F401  # fixture: a supervisor over fake workers

DEADLINE_S = 20
RECIPE = (
    "kind: sft\nmodel: {model_name_or_path: fresh:tiny}\ndatasets: [{path: 'sample:python-first-chat'}]\n"
    "hub: {repo_id: ada/model}\n"
)


def tables(db, run_ids):
    """Return all that can be equal."""
    told = {}
    for run_id in run_ids:
        run = vars(runs.read_run(db, run_id)).copy()
        curves = {
            name: db.query(
                "SELECT step, value, t FROM points JOIN curves ON id = curve_id WHERE run_id = ? AND metric = ? ORDER BY step",
                (run_id, name),
            )
            for name in metrics.list_metrics(db, run_id)
        }
        told[run_id] = (
            run,
            {name: [tuple(row) for row in rows] for name, rows in curves.items()},
            checkpoints.list_checkpoints(db, run_id),
        )
    return told


def no_hub():
    raise AssertionError("nothing of these runs is on a Hub")


@pytest.fixture
def ended(bench):  # noqa: F811
    """Runs of every end, as a supervisor left them."""
    made = [bench.submit(name) for name in ("ok", "crash", "sentence", "die-once", "killed")]
    for run in made:
        bench.until_ended(run)
    (dead,) = [run for run in made if run.name == "die-once"]
    bench.wish(dead, "resume")
    bench.until(lambda: bench.read(dead).state == "succeeded")
    stopped = bench.submit("hang")
    bench.until(lambda: bench.read(stopped).step == 1)
    bench.wish(stopped, "stop")
    bench.until_ended(stopped)
    bench.step()
    return bench, [run.id for run in (*made, stopped)]


def test_rebuilt_rows_equal_the_lost_ones(ended):
    bench, ids = ended  # noqa: F811
    before = tables(bench.db, ids)
    aside = set_aside(bench.workspace, bench.now)
    db = Database.open(bench.workspace.database)
    assert sorted(rebuild(db, bench.workspace, no_hub, bench.now)) == sorted(ids)
    assert tables(db, ids) == before
    assert rebuild(db, bench.workspace, no_hub, bench.now) == []  # again changes nothing
    assert tables(db, ids) == before
    db.close()
    assert aside.is_file()


def test_folders_without_records_are_judged_by_what_the_worker_left(ended):
    bench, ids = ended  # noqa: F811
    states = {run_id: bench.read(runs.read_run(bench.db, run_id)).state for run_id in ids}
    for run_id in ids:
        bench.workspace.job(run_id).record.unlink()
    set_aside(bench.workspace, bench.now)
    bench.db.close()
    bench.db = Database.open(bench.workspace.database)
    rebuild(bench.db, bench.workspace, no_hub, bench.now)
    bench.supervisor.close()
    bench.supervisor = bench.new_supervisor()
    bench.step()
    assert {run_id: runs.read_run(bench.db, run_id).state for run_id in ids} == states


@pytest.mark.parametrize(
    "record",
    [
        "",
        "[]",
        '{"state": "sorcery"}',
        '{"state": "succeeded", "attempt": "x", "ended_at": "now", "name": 3}',
        "{" * 9999,
    ],
)
def test_a_record_that_is_none_does_no_harm(ended, record):
    bench, ids = ended  # noqa: F811
    bench.workspace.job(ids[0]).record.write_text(record)
    set_aside(bench.workspace, bench.now)
    db = Database.open(bench.workspace.database)
    assert ids[0] in rebuild(db, bench.workspace, no_hub, bench.now)
    db.close()


def busy_hub():
    raise HubBusyError("no answer")


def folder_of(workspace, run_id, record="", recipe=RECIPE):
    job = workspace.job(run_id)
    job.root.mkdir()
    job.recipe.write_text(recipe)
    job.record.write_text(record)
    return job


@pytest.mark.parametrize(
    ("run_id", "record"),
    [
        ("20261121-001530-sft-aaaa", '{"state": "succeeded", "ended_at": 1%s}' % ("0" * 400)),
        ("20261121-001530-sft-aaaa", '{"state": "succeeded", "attempt": 1%s}' % ("0" * 40)),
        ("20261121-001530-sft-aaaa", '{"state": "succeeded", "created_at": NaN}'),
        ("20261121-001530-sft-aaaa", r'{"state": "succeeded", "name": "\ud800"}'),
        ("20269921-001530-sft-aaaa", '{"state": "succeeded"}'),
    ],
)
def test_one_folder_that_no_database_takes_does_not_keep_the_others_away(workspace, run_id, record):
    folder_of(workspace, run_id, record)
    folder_of(workspace, OTHER_RUN_ID, '{"state": "succeeded"}')
    db = Database.open(workspace.database)
    made = rebuild(db, workspace, busy_hub, 1.0)
    assert OTHER_RUN_ID in made
    assert [run.id for run in runs.list_runs(db)] == sorted(made, reverse=True)
    db.close()


def test_a_run_on_jobs_without_a_record_starts_no_job_by_itself(workspace):
    launch = "launch: {where: hf-jobs, flavor: l4x1}\n"
    there = RECIPE.replace("ada/model}", "ada/model, keep_rows: true}")
    job = folder_of(workspace, OTHER_RUN_ID, recipe=there + launch)
    job.events.write_text('{"t": 1, "e": "attempt", "attempt": 1, "resumed_from_step": 0}\n')
    db = Database.open(workspace.database)
    rebuild(db, workspace, busy_hub, 1.0)
    (run,) = runs.list_runs(db)
    assert (run.place, run.state) == ("hf-jobs", "lost")
    db.close()


def test_folders_that_are_no_runs_are_passed_over(ended, tmp_path):
    bench, ids = ended  # noqa: F811
    (bench.workspace.runs / "not-a-run").mkdir()
    (bench.workspace.runs / "20261121-001530-sft-link").symlink_to(tmp_path)
    bench.workspace.job(ids[0]).recipe.write_text("kind: sorcery\n")
    bench.workspace.job(ids[1]).recipe.write_bytes(b"\xff\xfe")
    bench.workspace.job(ids[2]).recipe.unlink()
    set_aside(bench.workspace, bench.now)
    db = Database.open(bench.workspace.database)
    assert sorted(rebuild(db, bench.workspace, no_hub, bench.now)) == sorted(ids[3:])
    db.close()


@pytest.mark.parametrize("damage", ["missing", "no database", "torn"])
def test_an_owner_rebuilds_by_itself_and_keeps_the_damaged_file(ended, damage):
    bench, ids = ended  # noqa: F811
    bench.db.query("PRAGMA wal_checkpoint(TRUNCATE)")
    bench.supervisor.close()
    path = bench.workspace.database
    whole = path.read_bytes()
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    if damage == "no database":
        path.write_bytes(b"this is not a database " * 500)
    if damage == "torn":
        path.write_bytes(whole[:100] + bytes(4096 - 100) + whole[4096:])
    settings = read_settings({"CODEX_SPACE_HOME": str(bench.workspace.root)})
    ctx = open_context(settings, time.time, own=True)
    try:
        assert sorted(run.id for run in runs.list_runs(ctx.db)) == sorted(ids)
    finally:
        ctx.close()
    aside = list(path.parent.glob("codex_space.db.damaged-*"))
    assert bool(aside) == (damage != "missing")
    bench.db, bench.supervisor = Database.open(path), bench.new_supervisor()


def test_a_guest_never_sets_a_damaged_file_aside(workspace):
    from codex_space.core.errors import WorkspaceError

    workspace.database.write_bytes(b"this is not a database " * 500)
    with pytest.raises(WorkspaceError, match="workspace rebuild"):
        open_context(read_settings({"CODEX_SPACE_HOME": str(workspace.root)}), time.time, own=False)
    assert workspace.database.read_bytes().startswith(b"this is not")


def test_an_empty_workspace_needs_none(tmp_path):
    assert not needs_rebuild(Workspace(tmp_path / "w").make())


def test_uploads_are_asked_of_the_hubs_manifests(workspace, hub):
    from tests.services.test_interrupted import RUN_ID, Machine

    here = Machine(workspace.root, hub)
    job = here.train()
    job.record.write_text(json.dumps({"state": "lost", "reason": "gone", "name": "renamed"}))
    set_aside(workspace, 1000.0)
    db = Database.open(workspace.database)
    rebuild(db, workspace, hub.client, 1000.0)
    (row,) = checkpoints.list_checkpoints(db, RUN_ID)
    assert (row.step, row.upload) == (6, "uploaded")
    assert row.commit_id == hub.repo("ada/model")["tags"]["step-6"]
    assert runs.read_run(db, RUN_ID).name == "renamed"
    db.close()
    here.close()


def test_a_checkpoint_that_was_brought_here_for_another_run_is_no_run(workspace, caplog):
    write_tokenizer(workspace.job(TOKENIZER_ID).checkpoint(0))
    db = Database.open(workspace.database)
    assert rebuild(db, workspace, no_hub, 1.0) == runs.list_runs(db) == []
    assert not caplog.records
    db.close()
