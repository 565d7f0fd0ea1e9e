"""A sandbox for each level, started once; suites and jobs around one function f."""

import pytest

from codex_space.grade import lockdown
from codex_space.grade.sandbox import Job, Limits, Sandbox, Suite
from tests.grade.hostile import TEST

LEVELS = ["landlock", "no-landlock"]
QUICK = Limits(call_cpu_s=0.2, total_cpu_s=1.0, load_cpu_s=0.2, wall_factor=3, memory_bytes=1 << 30)
"""For what hangs."""
FAIR = Limits(call_cpu_s=3.0, total_cpu_s=6.0, wall_factor=10, memory_bytes=1 << 30)
"""The clock has room, since other tests may hold the cores."""


def job(program, suite):
    return Job("job", (program,), (suite,))


def program_suite(test=TEST, limits=FAIR, **fields):
    return Suite("test", {"kind": "program", "setup": "", "test": test}, ("f",), limits, **fields)


def cases_suite(limits=FAIR, calls=("[1]", "[3]"), expected=("2", "6"), **fields):
    judge = {
        "kind": "cases",
        "calls": "[" + ",".join(calls) + "]",
        "expected": list(expected),
        "slow": {},
        "oracle": "",
        "atol": 0,
    }
    return Suite("test", {**judge, "canonical": "def f(x): return 2 * x", **fields}, ("f",), limits)


def live_suite(limits=FAIR):
    """Tests that hold an object of the program's class N, as those of three MBPP tasks do."""
    test = "n = N(1)\nn.left = N(3)\nassert f(n) == 2\nassert f(n.left) == 6\nassert n.left.data == 3"
    return Suite("test", {"kind": "program", "setup": "", "test": test}, ("f", "N"), limits, live=True)


def outcome(sandbox, program, suite):
    return sandbox.run(job(program, suite)).outcomes["test"]


@pytest.fixture(scope="session", params=LEVELS)
def sandbox(request):
    if request.param == "landlock" and not lockdown.landlock_abi():
        pytest.skip("this kernel has no Landlock")
    with Sandbox(1, request.param, prove=False) as sandbox:
        yield sandbox
