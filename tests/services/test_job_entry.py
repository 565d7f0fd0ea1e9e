"""The owner inside a Job: what it says of a log, and that it comes to its end whatever happens at the last moment."""

import threading

import pytest

from codex_space.core.paths import JobDir
from codex_space.core.settings import read_settings
from codex_space.services import job_entry
from codex_space.services.context import open_context
from codex_space.store import runs as run_rows
from tests.fakes.checkpoints import RECIPE, RUN_ID


@pytest.fixture
def ctx(tmp_path):
    environ = {"CODEX_SPACE_HOME": str(tmp_path / "workspace"), "CODEX_SPACE_RESUME": "off"}
    context = open_context(read_settings(environ), lambda: 1e9, own=False)
    yield context
    context.close()


@pytest.fixture
def run(ctx):
    made = run_rows.insert_run(ctx.db, id=RUN_ID, name="x", kind="sft", recipe=RECIPE, repo_id=None, now=1.0)
    ctx.workspace.job(made.id).root.mkdir()
    for state in ("preflight", "running"):
        made = run_rows.change_state(ctx.db, made.id, state, now=1.0)
    return made


def test_a_bar_that_is_drawn_anew_for_hours_is_told_as_it_was_last_and_takes_no_memory(ctx, run, monkeypatch):
    monkeypatch.setattr(job_entry, "LOG_BYTES", 1000)
    said = []
    told, log = job_entry.Told(said.append), ctx.workspace.job(run.id).log
    with log.open("a") as file:
        for percent in range(100):
            file.write(f"\r{percent:3} % {'#' * 50}")
            file.flush()
            told.new_of(ctx, run)
            assert len(told._rest) <= 1000
        file.write("\r100 % done\nnext\n" + "x" * 5000)
    told.new_of(ctx, run)
    assert said == ["| 100 % done", "| next"]
    assert len(told._rest) <= 1000


def test_a_run_that_ends_while_the_hub_is_asked_whether_to_stop_it_has_ended(ctx, run):
    class Requests:
        def look(self, _):
            run_rows.change_state(ctx.db, run.id, "succeeded", now=2.0)
            return True

    told = job_entry.Told(lambda _: None)
    assert job_entry._stand_by(ctx, run, told, threading.Event(), Requests()).state == "succeeded"


def test_a_folder_that_cannot_be_made_is_the_end_that_the_control_room_reads(ctx, hub, tmp_path):
    environ = {"CODEX_SPACE_HOME": str(tmp_path / "there"), "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_write"}
    there = open_context(read_settings(environ), lambda: 1e9, own=False)
    hub.client().make_repo("ada/model-rows", private=True, repo_type="dataset")
    commit = hub.state.put("datasets", "ada/model-rows", {"recipe.yaml": RECIPE}, private=True)
    hub.client().set_tag("ada/model-rows", RUN_ID, commit, "dataset")
    JobDir(there.workspace.runs / RUN_ID).root.write_text("a file")
    said = []
    assert job_entry.run_job(there, "ada/model", RUN_ID, attempt=1, say=said.append, asked=threading.Event()) == 1
    assert '"e": "end"' in said[-1]
    assert "File exists" in said[-1]
    there.close()
