"""What a new owner does with the workers an earlier one left: adopt, conclude, or call lost; never start twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codex_space.core import durable
from codex_space.jobs.process import Identity, adopt, read_identity
from codex_space.store import runs
from tests.jobs.conftest import DEADLINE_S

PROGRAM = """
import sys, time
from pathlib import Path
from codex_space.core.paths import Workspace
from tests.jobs.conftest import Bench
bench = Bench(Workspace(Path(sys.argv[1])))
while True:
    bench.now = max(bench.now, float(sys.argv[2]))
    bench.step()
    time.sleep(0.01)
"""


@pytest.fixture
def other_owner(bench):
    """Let a supervisor in another process start the run; return that process once the run is running."""
    processes = []

    def start(run):
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(bench.workspace.root), str(bench.now)])
        processes.append(process)
        deadline = time.monotonic() + DEADLINE_S
        while bench.read(run).state != "running":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def kill(process):
    process.kill()
    process.wait()


def test_a_worker_that_outlived_its_owner_is_adopted_and_stopped(bench, other_owner):
    run = bench.submit("setsid-grandchild")
    first = other_owner(run)
    pids = sorted(bench.alive(run))
    kill(first)
    bench.step()
    assert bench.read(run).state == "running"
    assert sorted(bench.alive(run)) == pids, "the same processes, none of them twice"
    assert bench.read(run).attempt == 1
    bench.wish(run, "stop")
    assert bench.until_ended(run).state == "stopped"
    assert bench.alive(run) == []


def test_a_worker_that_ended_while_nobody_looked_is_concluded(bench, other_owner):
    run = bench.submit("hang")
    kill(other_owner(run))
    bench.job(run).stop_request.touch()
    deadline = time.monotonic() + DEADLINE_S
    while bench.alive(run):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    bench.step()
    assert bench.read(run).state == "stopped"
    assert bench.read(run).step == 1


def test_a_stop_goes_on_under_the_next_owner(bench, other_owner):
    run = bench.submit("ignore-term")
    first = other_owner(run)
    bench.wish(run, "stop")
    deadline = time.monotonic() + DEADLINE_S
    while bench.read(run).intent != "stop":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    kill(first)
    bench.now = (bench.read(run).intent_at or 0) + 75
    assert bench.until_ended(run).state == "stopped"
    assert bench.alive(run) == []


def test_a_process_that_vanished_without_exit_json_is_lost_and_can_be_resumed(bench):
    run = bench.submit("setsid-grandchild")
    bench.until_state(run, "running")
    shim = json.loads(bench.job(run).worker.read_text())["pid"]
    grandchild = int((bench.job(run).root / "grandchild.pid").read_text())
    os.kill(shim, signal.SIGKILL)
    ended = bench.until_ended(run)
    assert ended.state == "lost"
    assert "vanished" in ended.reason
    assert bench.alive(run) == [], "what a killed shim left is cleaned up"
    assert _state(grandchild) in {"", "Z"}, "gone, or waiting to be reaped by the machine's first process"
    bench.wish(run, "resume")
    bench.step()
    assert bench.read(run).state in {"preflight", "running"}


def test_a_reused_pid_is_not_adopted(bench, other_owner):
    run = bench.submit("hang")
    kill(other_owner(run))
    worker = json.loads(bench.job(run).worker.read_text())
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        os.kill(worker["pid"], signal.SIGKILL)
        durable.write_json(bench.job(run).worker, {**worker, "pid": stranger.pid})
        assert bench.until_ended(run).state == "lost"
        assert stranger.poll() is None, "and it is not harmed"
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("wrong", [{"boot_id": "another-boot"}, {"start_ticks": 1}, {"pid": 2**22 + 1}])
def test_another_boot_start_time_or_pid_is_another_process(bench, wrong):
    run = bench.submit("hang")
    bench.until_state(run, "running")
    path = bench.job(run).worker
    value = durable.read_json(path)
    durable.write_json(path, {**value, **wrong})
    assert adopt(read_identity(path)) is None
    durable.write_json(path, value)
    handle = adopt(read_identity(path))
    assert handle.is_alive()
    handle.close()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"pid": "1"}', '{"pid": -1, "start_ticks": 1, "boot_id": "x"}', '{"pid": 1}']
)
def test_a_worker_json_that_makes_no_sense_names_no_process(tmp_path, text):
    (tmp_path / "worker.json").write_text(text)
    assert read_identity(tmp_path / "worker.json") is None


def test_a_zombie_is_not_adopted():
    child = subprocess.Popen([sys.executable, "-c", ""])
    deadline = time.monotonic() + DEADLINE_S
    while _state(child.pid) != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    fields = _fields(child.pid)
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert adopt(Identity(child.pid, int(fields[19]), boot_id)) is None
    child.wait()


def test_an_owner_that_died_between_the_decision_and_the_start_loses_the_run_only_after_a_while(bench):
    run = bench.submit("ok")
    runs.change_state(bench.db, run.id, "preflight", now=bench.now)
    bench.step()
    bench.step(seconds=29)
    assert bench.read(run).state == "preflight", "its shim may still come up"
    bench.step(seconds=1)
    assert bench.read(run).state == "lost"


def _fields(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return [""]


def _state(pid):
    return _fields(pid)[0]
