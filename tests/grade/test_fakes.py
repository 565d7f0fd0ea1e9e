"""No program passes without being right, in any kind of suite; those that are right do."""

import json

import pytest

from codex_space.grade.sandbox import Job, Limits, Sandbox, Suite
from tests.grade.conftest import FAIR, QUICK, cases_suite, live_suite, outcome, program_suite
from tests.grade.hostile import FAKES, GOOD, GREEDY, HANGS

WITH_CLASS = "\nclass N:\n def __init__(s, d): s.data = d; s.left = None\n"


@pytest.mark.parametrize("name", FAKES)
def test_no_fake_passes_a_test_program(sandbox, name):
    assert outcome(sandbox, FAKES[name], program_suite()).status == "fail"


@pytest.mark.parametrize("name", FAKES)
def test_no_fake_passes_compared_outputs(sandbox, name):
    assert outcome(sandbox, FAKES[name], cases_suite()).status == "fail"


@pytest.mark.parametrize("name", FAKES)
def test_no_fake_passes_tests_that_hold_objects(sandbox, name):
    assert outcome(sandbox, FAKES[name] + WITH_CLASS, live_suite()).status == "fail"


@pytest.mark.parametrize("name", GREEDY)
def test_greed_passes_nothing_and_is_bounded(sandbox, name):
    found = outcome(sandbox, GREEDY[name], program_suite(limits=QUICK))
    assert found.status != "pass"
    assert found.max_rss_kib <= QUICK.memory_bytes >> 10
    assert outcome(sandbox, GREEDY[name], cases_suite(limits=QUICK)).status != "pass"


@pytest.mark.parametrize("name", HANGS)
def test_what_hangs_is_ended(sandbox, name):
    found = outcome(sandbox, HANGS[name], program_suite(limits=QUICK))
    assert found.status == "timeout", found


@pytest.mark.parametrize("name", GOOD)
def test_right_programs_pass(sandbox, name):
    assert outcome(sandbox, GOOD[name], program_suite()).status == "pass"
    assert outcome(sandbox, GOOD[name], cases_suite()).status == "pass"


def test_objects_stay_with_the_program(sandbox):
    right = "def f(n): return 2 * n.data" + WITH_CLASS
    assert outcome(sandbox, right, live_suite()).status == "pass"
    for lie in (
        "class T:\n def __eq__(s, o): return True\n def __rmul__(s, o): return s\ndef f(n): return T()",
        "def f(n): return n",
        "def f(n): return n.left",
    ):
        assert outcome(sandbox, lie + WITH_CLASS, live_suite()).status == "fail"


def test_memory_is_bounded(sandbox):
    program = "def f(x):\n try: bytearray(3 << 30)\n except MemoryError: return 2 * x\n return 0"
    assert outcome(sandbox, program, program_suite()).status == "pass"


def test_tests_that_call_nothing_pass_nobody(sandbox):
    assert outcome(sandbox, GOOD["plain"], program_suite("assert True")).status == "fail"


def test_a_long_right_answer_is_taken_by_its_digest_and_a_wrong_one_is_not(sandbox):
    canonical = "def f(n): return [0.5] * n"
    outputs = outcome(sandbox, canonical, _record(canonical)).found["outputs"]
    assert set(outputs[1]) == {"sha256"}
    suite = cases_suite(calls=["[2]", "[9000]"], expected=outputs, canonical=canonical)
    assert outcome(sandbox, canonical, suite).status == "pass"
    assert (
        outcome(sandbox, "def f(n): return [0.5000001] * n", suite).status == "pass"
    )  # within the tolerance of floats
    assert outcome(sandbox, "def f(n): return [0.6] * n", suite).status == "fail"
    assert outcome(sandbox, "def f(n): return [0.5] * min(n, 8999)", suite).status == "fail"
    assert outcome(sandbox, "def f(n): return (0.5,) * n", suite).status == "fail"


def _record(canonical):
    suite = cases_suite(calls=["[2]", "[9000]"], canonical=canonical)
    return type(suite)("test", {**suite.judge, "kind": "record"}, suite.names, Limits())


def test_an_integer_of_ten_thousand_digits(sandbox):
    suite = cases_suite(calls=["[10000]"], expected=[json.dumps({"int": hex(10**10000)})])
    assert outcome(sandbox, "def f(n): return 10 ** n", suite).status == "pass"
    assert outcome(sandbox, "def f(n): return 10 ** n + 1", suite).status == "fail"


def test_hash_seed_is_fixed(sandbox):
    with Sandbox(1, sandbox.level, prove=False) as other:
        assert _hash_in(sandbox) == _hash_in(other)


def _hash_in(sandbox):
    suite = cases_suite(calls=['["abc"]'], expected=["0"])
    record = Suite("test", {**suite.judge, "kind": "record"}, suite.names)
    return outcome(sandbox, "def f(x): return hash(x)", record).found["outputs"][0]


def test_an_exception_cannot_end_the_loops_of_a_test(sandbox):
    test = "f(0)\nassert list(map(f, [1, 2])) == [] or all(map(f, [1, 2]))"
    program = "def f(x):\n if x: raise StopIteration\n return 0"
    assert outcome(sandbox, program, program_suite(test)).status == "fail"


def test_the_first_program_that_compiles_counts(sandbox):
    programs = (
        "x = 1\nfrom __future__ import annotations\n",
        "from __future__ import annotations\ndef f(x): return 2 * x",
    )
    assert sandbox.run(Job("job", programs, (program_suite(),))).passed("test")
    assert not sandbox.run(Job("job", ("def f(x): return 0", GOOD["plain"]), (program_suite(),))).passed("test")


def test_suites_of_a_job_load_the_program_anew_and_each_has_its_own_verdict(sandbox):
    base, plus = (Suite(name, cases_suite().judge, ("f",), FAIR) for name in ("base", "plus"))
    counts = "seen = []\ndef f(x):\n seen.append(x)\n return 2 * x if len(seen) < 3 else 0"
    verdict = sandbox.run(Job("job", (counts,), (base, plus)))
    assert [verdict.passed(name) for name in ("base", "plus")] == [True, True]
    assert verdict.outcomes["plus"].cpu_s >= 0
    harder = Suite("plus", cases_suite(calls=["[1]", "[4]"], expected=["2", "9"]).judge, ("f",), FAIR)
    verdict = sandbox.run(Job("job", (counts,), (base, harder)))
    assert [verdict.outcomes[name].status for name in ("base", "plus")] == ["pass", "fail"]
    assert verdict.outcomes["plus"].why == "call 1: wrong output"


@pytest.mark.parametrize("name", FAKES)
def test_no_fake_that_was_right_in_the_first_suite_passes_the_second(sandbox, name):
    """It knows by the process which suite it is in, as suites of a job share one."""
    first = "def f(x): return 2 * x"
    program = f"import builtins\nif hasattr(builtins, 'seen'):\n exec({FAKES[name]!r})\nelse:\n builtins.seen = 1\n exec({first!r})\n"
    base, plus = (Suite(which, cases_suite().judge, ("f",), FAIR) for which in ("base", "plus"))
    verdict = sandbox.run(Job("job", (program,), (base, plus)))
    assert [verdict.passed(which) for which in ("base", "plus")] == [True, False]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("2\\n6\\n0", "call 2: wrong output"),  # more than was asked
        ("2\\n7", "call 1: wrong output"),
        ("", "JSONDecodeError"),
        ("2\\n\\n6", "JSONDecodeError"),
        ("2\\n[", "JSONDecodeError"),
        ('2\\n{"eval": 1}', "ValueError"),
    ],
)
def test_a_frame_of_several_answers_is_read_line_by_line(sandbox, answer, told):
    program = (
        "import os, struct\ndef f(x):\n for n in range(3, 9):\n"
        f"  d = b'{answer}'\n  try: os.write(n, struct.pack('=IB', len(d), 118) + d)\n  except OSError: pass\n"
    )
    found = outcome(sandbox, program, cases_suite())
    assert found.status == "fail"
    assert told in found.why


def _answers(payload):
    """Return a program that writes an answer by itself, past the encoder."""
    return (
        f"import os, struct\ndef f(x):\n d = {payload}\n for n in range(3, 9):\n  left = struct.pack('=IB', len(d), 118) + d\n"
        "  try:\n   while left: left = left[os.write(n, left):]\n  except OSError: pass\n"
    )


@pytest.mark.parametrize(
    "payload",
    [
        'b\'{"Fraction": "1e1000000000"}\'',
        'b\'{"Fraction": "1/0"}\'',
        'b\'{"Decimal": "1e999999999999999999"}\'',
        'b\'{"Decimal": "sNaN"}\'',
        "b'{\"range\": [0, 1000000000000, 1]}'",
        "b'{\"range\": [0, 1, 0]}'",
        'b\'{"int": "0x"}\'',
        "b'{\"tuple\": 5}'",
        "b'{\"set\": [[1]]}'",
        "b'[' * 10**6",
        "b'9' * 10**5",
        'b\'{"tuple": [1], "set": [1]}\'',
    ],
)
@pytest.mark.parametrize("oracle", ["", "set"])
def test_an_answer_small_to_send_and_huge_to_hold_costs_its_judge_nothing(sandbox, payload, oracle):
    found = outcome(sandbox, _answers(payload), cases_suite(oracle=oracle))
    assert found.status == "fail"
    assert found.wall_s < 3


@pytest.mark.slow
def test_an_answer_that_keeps_its_judge_for_ever_is_ended_by_the_clock_and_the_next_program_has_its_verdict(sandbox):
    """A set of numbers with one hash: the time goes to whoever builds it, which the program's own CPU limit does not see."""
    same_hash = "b'{\"set\": [' + b','.join(str(n * (2**61 - 1)).encode() for n in range(1, 10**5)) + b']}'"
    found = outcome(sandbox, _answers(same_hash), cases_suite(limits=QUICK))
    assert found.status != "pass"
    assert found.wall_s < 2 * QUICK.wall_s
    assert outcome(sandbox, GOOD["plain"], cases_suite()).status == "pass"


def test_a_digest_may_be_guessed_once_and_its_value_is_looked_at(sandbox):
    """The judge tells whether an offered digest is the expected one, so a program could try many."""
    canonical = "def f(n): return [0.5] * n"
    suite = cases_suite(
        calls=["[9000]"],
        expected=outcome(sandbox, canonical, _record(canonical)).found["outputs"][1:],
        canonical=canonical,
    )
    for frames in ("[(104, b'0' * 64)] * 9", "[(104, b'0' * 64), (118, b'[]')]", "[(110, b'')] * 9", "[(115, b'')]"):
        program = (
            f"import os, struct\ndef f(x):\n for kind, d in {frames}:\n  for n in range(3, 9):\n"
            "   try: os.write(n, struct.pack('=IB', len(d), kind) + d)\n   except OSError: pass\n return 0"
        )
        assert outcome(sandbox, program, suite).status == "fail"


def test_a_suite_after_one_that_failed_is_not_run(sandbox):
    plus = Suite("plus", program_suite().judge, ("f",))
    verdict = sandbox.run(Job("job", ("def f(x): return 0",), (program_suite(), plus)))
    assert list(verdict.outcomes) == ["test"]
    assert not verdict.passed("plus")


def test_what_ran_into_the_clocks_limit_is_run_again_alone_before_it_counts(sandbox):
    jobs = [Job("slow", (HANGS["sleep"],), (program_suite(limits=QUICK),))]
    jobs += [Job(str(n), (GOOD["plain"],), (program_suite(),)) for n in range(3)]
    verdicts = list(sandbox.grade(jobs))
    assert [verdict.job_id for verdict in verdicts] == ["0", "1", "2", "slow"]
    assert verdicts[-1].outcomes["test"].status == "timeout"
    assert verdicts[-1].outcomes["test"].retried


def test_a_timeout_counts_at_once_only_where_the_program_had_a_core_to_itself(sandbox):
    (verdict,) = sandbox.grade([Job("loop", (HANGS["infinite loop"],), (program_suite(limits=QUICK),))])
    found = verdict.outcomes["test"]
    assert found.status == "timeout"
    assert found.final or found.retried
