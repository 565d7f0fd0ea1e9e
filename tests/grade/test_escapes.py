"""Nothing gets out of the sandbox, nothing is left of what tried, and each layer is seen to be what held it."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from codex_space.core.errors import GradeError
from codex_space.grade import battery
from codex_space.grade.sandbox import Job, Sandbox
from tests.grade import as_user
from tests.grade.conftest import FAIR, job, outcome, program_suite
from tests.grade.hostile import GOOD, GREEDY

REPO = Path(__file__).parents[2]
ROOMY = replace(FAIR, memory_bytes=4 << 30)
"""The stacks of a hundred threads are 800 MiB of address space."""


@pytest.fixture(scope="session")
def trapped(sandbox):
    with battery.traps() as head:
        yield head


@pytest.mark.parametrize("name", battery.escapes())
def test_no_escape(sandbox, trapped, name):
    found = sandbox.run(battery.escape_job(name, trapped)).outcomes["test"]
    assert found.status == "fail", found


def test_every_escape_works_without_the_sandbox(tmp_path):
    """An escape that cannot work anywhere proves nothing: outside, most do."""
    names = ["environment", "secret file", "write here", "delete", "tcp", "unix socket", "fork", "subprocess", "raw clone", "memory file",
             "signal the caller", "signal by the kernel", "outlive the parent", "inherited descriptors"]  # fmt: skip
    for name in names:
        with battery.traps() as head:
            body = battery.escape_job(name, head).programs[0]
            code = f"{body}\nos.dup2(0, 20)\nr = f()\nif r == 'OUT': os.write(1, b'OUT')\n"
            code += "" if name != "delete" else "open(SECRET, 'w').write('secret')\n"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=tmp_path, timeout=20)
        assert b"OUT" in done.stdout, (name, done.stderr[-300:])


@pytest.mark.slow
def test_as_an_ordinary_user_too():
    if os.getuid() != 0:
        pytest.skip("this run is an ordinary user's already")
    python = next((p for p in (sys.executable, "/usr/bin/python3") if _runs_as_user(p)), None)
    if python is None:
        pytest.skip("uid 1000 can run no Python 3.11 here")
    done = subprocess.run(
        [*_USER, python, "-B", "-m", "tests.grade.as_user"], cwd=REPO, env=_CLEAN, capture_output=True, timeout=200
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert found["tried"] > 100
    for level, figures in found["left_behind"].items():
        assert figures["memory_kib"] < 2048, level
        assert {**figures, "memory_kib": 0} == {
            "programs": 200,
            "passed": [],
            "processes": [],
            "files": [],
            "descriptors": 0,
            "memory_kib": 0,
        }
        assert found["busy"][level]["differ"] == []


_USER = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]

_CLEAN = {"PATH": os.defpath}


def _runs_as_user(python):
    probe = (
        "import subprocess, sys, codex_space.grade.sandbox; assert sys.version_info >= (3, 11)\n"
        "subprocess.run([sys.executable, '-c', ''], check=True)"
    )
    if shutil.which("setpriv") is None:
        return False
    return (
        subprocess.run([*_USER, python, "-B", "-c", probe], cwd=REPO, env=_CLEAN, capture_output=True).returncode == 0
    )


@pytest.mark.slow
def test_two_hundred_hostile_programs_leave_nothing(sandbox):
    found = as_user.left_behind(sandbox)
    assert found["programs"] == 200
    assert found["passed"] == []
    assert found["processes"] == []
    assert found["files"] == []
    assert found["descriptors"] == 0
    assert found["memory_kib"] < 2048
    assert outcome(sandbox, GOOD["plain"], program_suite()).status == "pass"


@pytest.mark.slow
def test_a_grader_whose_cores_are_busy_gives_the_same_verdicts(sandbox):
    found = as_user.differ_when_busy(sandbox)
    assert found["compared"] > 50
    assert found["differ"] == []


def test_a_program_that_starts_threads_without_end_is_stopped_by_their_number(sandbox):
    found = outcome(sandbox, GREEDY["starts threads without end"], program_suite())
    assert (found.status, found.why) == ("fail", "it started more than 128 threads")
    some = "import threading, time\ndef f(x):\n"
    some += " for _ in range(50): threading.Thread(target=time.sleep, args=(100,), daemon=True).start()\n time.sleep(0.2)\n return 2 * x"
    assert outcome(sandbox, some, program_suite(limits=ROOMY)).status == "pass"


def test_a_program_leaves_no_mark_for_the_next_on_what_they_share(sandbox):
    """The standard descriptors are one open file for all programs of a zygote: its flags would carry a word from one to another."""
    each = "import fcntl, os\ndef f(x):\n for n in range(3):\n  flags = fcntl.fcntl(n, fcntl.F_GETFL)\n"
    mark = (
        each
        + "  try: fcntl.fcntl(n, fcntl.F_SETFL, flags | os.O_APPEND | os.O_NONBLOCK)\n  except OSError: pass\n return 2 * x"
    )
    look = each + "  if flags & (os.O_APPEND | os.O_NONBLOCK): return 2 * x\n return 0"
    assert outcome(sandbox, mark, program_suite()).status == "pass"
    assert outcome(sandbox, look, program_suite()).status == "fail"
    assert (
        outcome(
            sandbox,
            mark.replace(
                "fcntl.fcntl(n, fcntl.F_SETFL, flags | os.O_APPEND | os.O_NONBLOCK)", "os.set_blocking(n, False)"
            ),
            program_suite(),
        ).status
        == "pass"
    )
    assert outcome(sandbox, look, program_suite()).status == "fail"


def test_leaving_ends_every_process():
    with Sandbox(2, prove=False) as sandbox:
        pids = [end._process.pid for worker in sandbox._workers for end in (worker._judge, worker._solver)]
        sandbox.run(job(GOOD["plain"], program_suite()))
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_closing_while_a_program_runs_ends_it_and_says_so():
    told = []

    def run():
        try:
            sandbox.run(job("while True: pass", program_suite()))
        except GradeError as error:
            told.append(str(error))

    with Sandbox(1, prove=False) as sandbox:
        ends = [sandbox._workers[0]._judge, sandbox._workers[0]._solver]
        thread = threading.Thread(target=run)
        thread.start()
        deadline = time.monotonic() + 20
        while sum(len(psutil.Process(end._process.pid).children()) for end in ends) < 2 and time.monotonic() < deadline:
            time.sleep(0.005)
    thread.join(20)
    assert told == ["the sandbox was closed while it ran a program"]
    assert not any(psutil.pid_exists(end._process.pid) for end in ends)


def test_a_killed_caller_leaves_no_process():
    code = (
        "import threading, time\nfrom codex_space.grade.sandbox import *\nfrom tests.grade.conftest import *\n"
        "s = Sandbox(1, prove=False).__enter__()\n"
        "threading.Thread(target=s.run, args=(job('while True: pass', program_suite()),)).start()\n"
        "while len(__import__('psutil').Process().children(recursive=True)) < 4: time.sleep(0.01)\nprint('running', flush=True)\n"
    )
    caller = subprocess.Popen([sys.executable, "-c", code], cwd=REPO, stdout=subprocess.PIPE)
    with caller:
        assert caller.stdout.readline() == b"running\n"
        family = psutil.Process(caller.pid).children(recursive=True)
        caller.kill()
    assert len(family) == 4
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []


def test_a_killed_zygote_is_started_again(sandbox):
    for role in ("_solver", "_judge"):
        end = getattr(sandbox._workers[0], role)
        end._process.kill()
        end._process.wait()
        assert outcome(sandbox, GOOD["plain"], program_suite()).status != "pass"
        assert outcome(sandbox, GOOD["plain"], program_suite()).status == "pass"


@pytest.mark.parametrize("what", ["sys.platform", "platform.machine"])
def test_elsewhere_it_refuses_in_a_sentence(monkeypatch, what):
    monkeypatch.setattr(f"codex_space.grade.sandbox.{what}", "darwin" if what == "sys.platform" else lambda: "aarch64")
    with pytest.raises(GradeError, match="needs Linux on x86-64"):
        Sandbox(1).__enter__()


def test_a_zygote_that_refuses_switches_grading_off():
    with pytest.raises(GradeError, match="cannot be built"):
        Sandbox(1, "no-such-level", prove=False).__enter__()


def test_an_escape_switches_grading_off(monkeypatch):
    monkeypatch.setattr(battery, "_ESCAPES", {"opens the door": "return 'OUT'"})
    with Sandbox(1, prove=False) as sandbox, pytest.raises(GradeError, match="opens the door"):
        battery.prove(sandbox)


def test_a_sandbox_in_which_nothing_runs_is_not_taken_for_a_tight_one(monkeypatch):
    monkeypatch.setattr(battery, "_MUST_PASS", {"plain": "def f(x): return 3"})
    with Sandbox(1, prove=False) as sandbox, pytest.raises(GradeError, match="plain"):
        battery.prove(sandbox)


def test_caller_may_be_undumpable_and_hold_threads_and_a_token():
    code = (
        "import ctypes, os, threading, time\nos.environ['HF_TOKEN'] = 'hf_x'\nctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\n"
        "[threading.Thread(target=time.sleep, args=(5,), daemon=True).start() for _ in range(8)]\n"
        "from codex_space.grade.sandbox import *\nfrom tests.grade.conftest import *\nfrom tests.grade.hostile import GOOD\n"
        "with Sandbox(1) as s: print(s.run(job(GOOD['plain'], program_suite())).passed('test'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, timeout=60)
    assert done.stdout == b"True\n", done.stderr


def test_verdicts_stream_while_jobs_still_come(sandbox):
    seen = []

    def jobs():
        for number in range(3):
            deadline = time.monotonic() + 20
            while len(seen) < number and time.monotonic() < deadline:
                time.sleep(0.001)
            yield Job(str(number), (GOOD["plain"],), (program_suite(),))

    for verdict in sandbox.grade(jobs()):
        seen.append(verdict.job_id)
    assert seen == ["0", "1", "2"]


def test_a_broken_source_of_jobs_is_the_callers_to_see(sandbox):
    def jobs():
        yield job(GOOD["plain"], program_suite())
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(sandbox.grade(jobs()))
