"""One owner per workspace, its threads, and what it hides."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from codex_space.core.errors import WorkspaceError
from codex_space.core.settings import read_settings
from codex_space.jobs.owner import Owner, is_owned
from codex_space.store import checkpoints
from tests.jobs.conftest import DEADLINE_S, fake_command

PROGRAM = """
import sys, time
from pathlib import Path
from codex_space.core.paths import Workspace
from codex_space.core.settings import read_settings
from codex_space.jobs.owner import Owner
from codex_space.store.db import Database
workspace = Workspace(Path(sys.argv[1]))
owner = Owner(read_settings({}), workspace, Database.open(workspace.database), clock=time.time)
owner.start()
print("owned", flush=True)
time.sleep(60)
"""


def until(condition):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def make_owner(bench):
    made = []

    def make(**given):
        environ = {"PATH": os.environ["PATH"], "CODEX_SPACE_HOME": str(bench.workspace.root)}
        values = {"clock": time.time, "command_for": fake_command}
        owner = Owner(read_settings(environ), bench.workspace, bench.db, **{**values, **given})
        made.append(owner)
        return owner

    yield make
    for owner in made:
        owner.close()


@pytest.fixture
def other_process(bench):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(bench.workspace.root)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "owned\n"
    yield process
    process.kill()
    process.communicate()


def test_an_owner_takes_a_run_to_its_end(bench, make_owner):
    make_owner().start()
    run = bench.submit("ok")
    until(lambda: bench.read(run).state == "succeeded")


def test_two_owners_are_refused_and_the_first_is_named(bench, make_owner, other_process):
    assert is_owned(bench.workspace) == other_process.pid
    with pytest.raises(WorkspaceError, match=f"pid {other_process.pid}.*choose another folder"):
        make_owner().start()


def test_two_owners_in_one_process_are_refused(bench, make_owner):
    make_owner().start()
    with pytest.raises(WorkspaceError, match=str(os.getpid())):
        make_owner().start()


def test_a_killed_owner_holds_nothing(bench, make_owner, other_process):
    os.kill(other_process.pid, signal.SIGKILL)
    other_process.wait()
    assert is_owned(bench.workspace) is None
    make_owner().start()
    assert is_owned(bench.workspace) == os.getpid()


def test_an_empty_or_missing_workspace_is_not_owned(bench, tmp_path):
    from codex_space.core.paths import Workspace

    assert is_owned(bench.workspace) is None
    assert is_owned(Workspace(tmp_path / "nowhere")) is None
    assert not (tmp_path / "nowhere").exists()


def test_asking_who_owns_does_not_keep_an_owner_out(bench, make_owner):
    asking = threading.Event()

    def ask():
        while not asking.is_set():
            is_owned(bench.workspace)

    bench.workspace.lock.touch()
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(5):
            owner = make_owner()
            owner.start()
            owner.close()
    finally:
        asking.set()
        thread.join()


def test_closing_leaves_the_worker_running_for_the_next_owner(bench, make_owner):
    first = make_owner()
    first.start()
    run = bench.submit("hang")
    until(lambda: bench.read(run).state == "running")
    pids = sorted(bench.alive(run))
    first.close()
    assert is_owned(bench.workspace) is None
    assert not [thread for thread in threading.enumerate() if thread.name in {"supervisor", "uploader"}]
    assert sorted(bench.alive(run)) == pids
    make_owner().start()
    bench.wish(run, "stop")
    until(lambda: bench.read(run).state == "stopped")
    assert bench.read(run).attempt == 1


def test_a_stumbling_step_is_logged_and_the_next_one_comes(bench, make_owner, caplog):
    class Stumbling:
        calls = 0

        def step(self, now):
            self.calls += 1
            raise ZeroDivisionError(f"call {self.calls}")

    uploader = Stumbling()
    with caplog.at_level(logging.ERROR):
        make_owner(uploader=uploader).start()
        until(lambda: uploader.calls >= 2)
    assert "ZeroDivisionError: call 1" in caplog.text
    run = bench.submit("ok")
    until(lambda: bench.read(run).state == "succeeded")


def test_an_upload_that_was_on_its_way_is_queued_again_at_the_start(bench, make_owner):
    run = bench.submit("ok")
    checkpoints.add_checkpoint(bench.db, run.id, 1, created_at=1.0, size_bytes=1, metrics={}, upload="uploading")
    make_owner().start()
    assert checkpoints.list_checkpoints(bench.db, run.id)[0].upload == "queued"


def test_a_refused_owner_leaves_the_uploads_of_the_first_alone(bench, make_owner, other_process):
    run = bench.submit("ok")
    checkpoints.add_checkpoint(bench.db, run.id, 1, created_at=1.0, size_bytes=1, metrics={}, upload="uploading")
    with pytest.raises(WorkspaceError):
        make_owner().start()
    assert checkpoints.list_checkpoints(bench.db, run.id)[0].upload == "uploading"


def test_an_owner_cannot_be_looked_into_by_its_workers(make_owner):
    prctl = ctypes.CDLL(None).prctl
    get_dumpable, set_dumpable = 3, 4
    prctl(set_dumpable, 1, 0, 0, 0)
    make_owner().start()
    assert prctl(get_dumpable, 0, 0, 0, 0) == 0
    prctl(set_dumpable, 1, 0, 0, 0)


def test_a_submitted_run_starts_and_ends_without_waiting_for_the_next_look(bench, make_owner, monkeypatch):
    monkeypatch.setattr("codex_space.jobs.owner.SUPERVISE_EVERY_S", 1000.0)
    owner = make_owner()
    owner.start()
    run = bench.submit("ok")
    owner.supervisor.wake()
    until(lambda: bench.read(run).state == "succeeded")


def test_waking_a_closed_owner_harms_nothing(make_owner):
    owner = make_owner()
    owner.start()
    owner.close()
    owner.supervisor.wake()
    owner.close()


def test_winding_down_lets_a_run_save_and_marks_it_interrupted(bench, make_owner):
    owner = make_owner()
    owner.start()
    run, waiting = bench.submit("hang"), bench.submit("ok")
    until(lambda: bench.read(run).step == 1)
    owner.wind_down(10.0, threading.Event())
    ended = bench.read(run)
    assert (ended.state, ended.intent) == ("lost", "")
    assert "asked to end. It can go on from step 1." in ended.reason
    assert bench.job(run).checkpoint_steps() == [1]
    assert bench.alive(run) == []
    assert bench.read(waiting).state == "queued"  # nothing new is started meanwhile


def test_winding_down_ends_a_worker_that_does_not_listen_before_the_grace_is_over(bench, make_owner):
    owner = make_owner()
    owner.start()
    run = bench.submit("ignore-term")
    until(lambda: bench.read(run).step == 1)
    began = time.monotonic()
    owner.wind_down(3.0, threading.Event())
    assert time.monotonic() - began < 3.5
    assert bench.read(run).state == "lost"
    assert bench.alive(run) == []


def test_winding_down_with_nothing_to_do_takes_no_time(bench, make_owner):
    owner = make_owner()
    owner.start()
    began = time.monotonic()
    owner.wind_down(20.0, threading.Event())
    assert time.monotonic() - began < 1


def test_a_second_signal_ends_the_winding_down(bench, make_owner):
    owner = make_owner()
    owner.start()
    run = bench.submit("ignore-term")
    until(lambda: bench.read(run).step == 1)
    hurry = threading.Event()
    hurry.set()
    began = time.monotonic()
    owner.wind_down(20.0, hurry)
    assert time.monotonic() - began < 1


def test_winding_down_waits_for_the_newest_upload_alone(bench, make_owner):
    owner = make_owner()
    owner.start()
    run = bench.submit("ok")
    until(lambda: bench.read(run).state == "succeeded")
    for step, upload in ((1, "queued"), (9, "queued")):
        checkpoints.add_checkpoint(bench.db, run.id, step, created_at=1.0, size_bytes=1, metrics={}, upload=upload)
    thread = threading.Thread(target=owner.wind_down, args=(20.0, threading.Event()))
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    checkpoints.set_upload(bench.db, run.id, 9, "uploaded")
    thread.join(2)
    assert not thread.is_alive()
