"""Run the whole battery, every fake and every good program at both levels, as whoever calls; print what went wrong as JSON."""

import json
import sys

from codex_space.grade import battery, lockdown
from codex_space.grade.sandbox import Job, Limits, Sandbox, Suite
from tests.grade.hostile import FAKES, GOOD, TEST


def main():
    wrong, tried = [], 0
    levels = ["landlock", "no-landlock"] if lockdown.landlock_abi() else ["no-landlock"]
    suite = Suite(
        "test", {"kind": "program", "setup": "", "test": TEST}, ("f",), Limits(memory_bytes=1 << 30, wall_factor=10)
    )
    for level in levels:
        with Sandbox(2, level) as sandbox, battery.traps() as head:
            jobs = [battery.escape_job(name, head) for name in battery.escapes()]
            jobs += [Job(name, (program,), (suite,)) for name, program in {**FAKES, **GOOD}.items()]
            for verdict in sandbox.grade(jobs):
                tried += 1
                if verdict.passed("test") != (verdict.job_id in GOOD):
                    wrong.append([level, verdict.job_id, verdict.outcomes["test"].why])
    json.dump({"tried": tried, "wrong": wrong}, sys.stdout)


if __name__ == "__main__":
    main()
