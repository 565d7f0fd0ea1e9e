"""What must hold whoever calls, at both levels: escapes and fakes, nothing left behind, the same verdicts on busy cores; as JSON."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

from codex_space.grade import battery, lockdown
from codex_space.grade.sandbox import Job, Limits, Sandbox, Suite
from tests.grade.hostile import FAKES, GOOD, HANGS, TEST

FAIR = Limits(memory_bytes=1 << 30, wall_factor=10)
QUICK = Limits(call_cpu_s=0.2, total_cpu_s=1.0, load_cpu_s=0.2, memory_bytes=1 << 30)
HANGING = list(HANGS)[:4]


def main():
    wrong, tried, left, busy = [], 0, {}, {}
    levels = ["landlock", "no-landlock"] if lockdown.landlock_abi() else ["no-landlock"]
    for level in levels:
        with Sandbox(2, level) as sandbox, battery.traps() as head:
            jobs = [battery.escape_job(name, head) for name in battery.escapes()]
            jobs += [_job(name, program) for name, program in {**FAKES, **GOOD}.items()]
            for verdict in sandbox.grade(jobs):
                tried += 1
                if verdict.passed("test") != (verdict.job_id in GOOD):
                    wrong.append([level, verdict.job_id, verdict.outcomes["test"].why])
        with Sandbox(1, level, prove=False) as sandbox:
            left[level] = left_behind(sandbox)
            busy[level] = differ_when_busy(sandbox)
    json.dump({"tried": tried, "wrong": wrong, "left_behind": left, "busy": busy}, sys.stdout)


def left_behind(sandbox):
    """Run 200 hostile programs in a row in one worker, after 20 that warm it, and return what of them is still there."""
    names = list(FAKES)
    worker = sandbox._workers[0]
    zygotes = [end._process.pid for end in (worker._judge, worker._solver)]
    for name in names[:20]:
        sandbox.run(_job(name, FAKES[name]))
    before = (_memory_kib(zygotes), _descriptors(zygotes), _files())
    jobs = [_job(names[n % len(names)], FAKES[names[n % len(names)]]) for n in range(196)]
    jobs += [_job(name, HANGS[name], QUICK) for name in HANGING]
    passed = [job.job_id for job in jobs if sandbox.run(job).passed("test")]
    return {
        "programs": len(jobs),
        "passed": passed,
        "processes": [child for zygote in zygotes for child in _children(zygote)],
        "files": sorted(_files() - before[2]),
        "descriptors": _descriptors(zygotes) - before[1],
        "memory_kib": _memory_kib(zygotes) - before[0],
    }


def differ_when_busy(sandbox):
    """Grade on quiet cores and beside two endless loops a core; return what came out otherwise."""
    jobs = [_job(name, program) for name, program in {**FAKES, **GOOD}.items()]
    jobs += [_job(name, HANGS[name], QUICK) for name in HANGING]
    quiet = _statuses(sandbox, jobs)
    command = [sys.executable, "-c", "while True: pass"]
    spinning = [subprocess.Popen(command) for _ in range(2 * len(os.sched_getaffinity(0)))]
    try:
        busy = _statuses(sandbox, jobs)
    finally:
        for process in spinning:
            process.kill()
            process.wait()
    return {"compared": len(quiet), "differ": [name for name in quiet if quiet[name] != busy[name]]}


def _statuses(sandbox, jobs):
    return {verdict.job_id: verdict.outcomes["test"].status for verdict in sandbox.grade(jobs)}


def _job(name, program, limits=FAIR):
    return Job(name, (program,), (Suite("test", {"kind": "program", "setup": "", "test": TEST}, ("f",), limits),))


def _memory_kib(pids):
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def _descriptors(zygotes):
    """Of this process and, where its user may look, as root may, of the zygotes."""
    total = 0
    for pid in ("self", *zygotes):
        with contextlib.suppress(PermissionError):
            total += sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return total


def _children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _files():
    folders = ("/tmp", "/dev/shm", "/", ".")
    return {str(path) for folder in folders for path in Path(folder).glob("*escape*")}


if __name__ == "__main__":
    main()
