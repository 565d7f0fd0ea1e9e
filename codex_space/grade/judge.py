"""The process that alone sees tests and expected outputs and alone holds the verdict; the candidate runs elsewhere.

A suite is one of three. `program`: test code runs here, and the names it calls are stubs that ask the solver.
`cases`: the solver answers a list of calls, and its answers are compared with what is expected. `record`: the same for a
trusted program, whose answers and times are kept. Suites of one job run one after another with one solver, which loads
the program anew for each; only what the program did to its whole process stays from one to the next.

Covered: the solver's values come as builtin types (`wire`), its exceptions as a closed set of builtin ones, a test
program passes only after at least one answered call, and a call that takes longer than its limit, in CPU time as the
kernel counts it or by the clock, ends the suite. With `live`, objects of the candidate's own classes stay in the solver
and the tests hold numbers for them; reading an attribute is a call like any other, and what it gives can be as wrong as
any answer, but nothing the candidate wrote runs here.
Not covered: a test that a wrong program satisfies.
"""

import contextlib
import json
import os
import select
import time
from collections.abc import Callable
from typing import Any

from codex_space.grade import wire
from codex_space.grade.compare import Comparison

RAISED = {
    kind.__name__: kind
    for kind in (
        ArithmeticError, AssertionError, AttributeError, IndexError, KeyError, LookupError, NotImplementedError,
        OverflowError, RecursionError, RuntimeError, TypeError, UnicodeError, ValueError, ZeroDivisionError,
    )
}  # fmt: skip
"""What a stub may raise. StopIteration is not among them: it would end the test's own loops early."""
_LEAST_WAIT_S, _OWN_CORE = 0.02, 0.9
_WHY_CHARS = 2000


class _OutOfTimeError(BaseException):
    """A call's limit was reached; not an Exception, which test code might catch.

    `undisturbed`: the program had a core to itself all that time, so that its CPU time is what it is on a quiet machine.
    """

    undisturbed = False


class _OutOfAllTimeError(_OutOfTimeError):
    """The suite's limit was reached."""


class _SolverFailedError(BaseException):
    """The program did not load, or its process ended."""


def main(job: int, answers: int, calls: int, verdict: int) -> None:
    """Judge suites, a line of JSON each, up to the first that is not passed; write a line for each.

    Such a line is {"status", "passed", "why", "final", "cpu_s", "wall_s"} and, of `record`, "outputs" and "times". A timeout is `final`
    where no quieter machine would help: less than half was done in all the time there is, or one call used up its CPU
    time with a core to itself.
    """
    line = _Line(answers, calls)
    for suite in wire.read_all(job).splitlines():
        told = _judged(json.loads(suite), line)
        wire.write_all(verdict, json.dumps(told).encode() + b"\n")
        if told["status"] != "pass":
            break
    os._exit(0)


def warm_up() -> None:
    """Judge the answers of a program of ours."""
    answers, calls = os.pipe(), os.open(os.devnull, os.O_WRONLY)
    told = {b"p": str(os.getpid()).encode(), b"r": b"", b"v": b'[1]\n"b"'}
    wire.write_all(answers[1], b"".join(wire.frame(kind, payload) for kind, payload in told.items()))
    os.close(answers[1])
    limits = {"call_cpu_s": 1e6, "total_cpu_s": 1e6, "load_cpu_s": 1e6, "wall_factor": 1.0}
    suite = {
        "kind": "cases",
        "calls": '[[[1]],["a"]]',
        "expected": ["[1]", '"a"'],
        "slow": {},
        "oracle": "",
        "atol": 0.0,
        "canonical": "",
    }
    json.dumps(_judged({**suite, "names": ["f"], "live": False, "limits": limits}, _Line(answers[0], calls)))
    os.close(answers[0])
    os.close(calls)


def _judged(suite: dict[str, Any], line: "_Line") -> dict[str, Any]:
    progress, began = {"passed": 0}, time.monotonic()
    try:
        line.begin(suite)
        found = _KINDS[suite["kind"]](suite, line, progress)
        told = {"status": "pass", "why": "", **found}
    except _OutOfTimeError as error:
        early = isinstance(error, _OutOfAllTimeError) and 2 * progress["passed"] < len(suite.get("expected", ()))
        told = {"status": "timeout", "why": str(error), "final": early or error.undisturbed}
    except _SolverFailedError as error:
        told = {"status": "fail", "why": str(error)}
    except (EOFError, BrokenPipeError):
        told = {"status": "fail", "why": "the program's process ended"}
    except BaseException as error:  # noqa: BLE001  # whatever a test raises is its verdict
        told = {"status": "fail", "why": f"{type(error).__name__}: {error}"[:300]}
    # What a program says of itself may be 100 MB long, or hold half characters that no file takes.
    told["why"] = told["why"][:_WHY_CHARS].encode("utf-8", "backslashreplace").decode()
    return {**progress, **told, "cpu_s": line.cpu_s() - line.suite_began_cpu_s, "wall_s": time.monotonic() - began}


class _Line:
    """The solver as the judge sees it: requests, answers, and how long an answer has been due."""

    def __init__(self, answers: int, calls: int) -> None:
        self._answers, self._calls = answers, calls
        self._reader = wire.Reader(answers, self._wait)
        self._limits: dict[str, float] = {}
        self._due_cpu_s = 0.0
        self._clock: int | None = None
        self._since_cpu, self._since_wall = 0.0, time.monotonic()
        self.suite_began_cpu_s = 0.0

    def begin(self, suite: dict[str, Any]) -> None:
        """Have the program loaded for a suite, and wait until it is."""
        self._limits = suite["limits"]
        self._due_cpu_s = self._limits["load_cpu_s"]
        if self._clock is None:
            self._since_wall = time.monotonic()
            kind, payload = self._reader.next()
            if kind != b"p":
                raise _SolverFailedError("the program's process did not start")
            self._clock = (~int(payload) << 3) | 2  # the kernel's clock of that process's CPU time (CPUCLOCK_SCHED)
        self.suite_began_cpu_s = self.cpu_s()
        self.ask(b"l", {"names": suite["names"], "live": suite["live"]})
        kind, payload = self._reader.next()
        if kind != b"r":
            raise _SolverFailedError(": ".join(_words(payload)))

    def ask(self, kind: bytes, request: dict[str, Any], calls: str = "") -> None:
        """Send a request; the time of its answer starts to count."""
        self._write(wire.frame(kind, b"%b\n%b" % (json.dumps(request).encode(), calls.encode())))
        self._mark()

    def answer(self, due_cpu_s: float | None = None) -> tuple[bytes, bytes]:
        """Return the next answer's letter and payload."""
        self._due_cpu_s = due_cpu_s or self._limits["call_cpu_s"]
        found = self._reader.next()
        self._mark()  # a whole answer, not a byte of it
        return found

    def reply(self, *, send: bool) -> None:
        """Answer an offered digest: send the value, or go on."""
        self._write(wire.frame(b"s" if send else b"n"))

    def cpu_s(self) -> float:
        """Return the CPU time of the program's process so far; it stands still once the process is gone."""
        if self._clock is not None:
            with contextlib.suppress(OSError):
                return time.clock_gettime(self._clock)
        return self._since_cpu

    def _write(self, content: bytes) -> None:
        """Write all of it, unless the program stops reading; the pipe does not block."""
        left, until = memoryview(content), time.monotonic() + self._limits["call_cpu_s"] * self._limits["wall_factor"]
        while left:
            if not select.select([], [self._calls], [], max(0.0, until - time.monotonic()))[1]:
                raise _OutOfTimeError("it does not read its calls")
            left = left[os.write(self._calls, left) :]

    def _mark(self) -> None:
        self._since_cpu, self._since_wall = self.cpu_s(), time.monotonic()

    def _wait(self) -> None:
        """Return when there is something to read; an answer's time counts from when the one before it was there."""
        while True:
            cpu_left = self._due_cpu_s - (self.cpu_s() - self._since_cpu)
            wall_left = self._due_cpu_s * self._limits["wall_factor"] - (time.monotonic() - self._since_wall)
            ready, _, _ = select.select([self._answers], [], [], max(_LEAST_WAIT_S, min(cpu_left, wall_left)))
            if self.cpu_s() - self.suite_began_cpu_s > self._limits["total_cpu_s"]:
                raise _OutOfAllTimeError(f"not done in {self._limits['total_cpu_s']:.3g} s")
            if ready:
                return
            if cpu_left <= 0 or wall_left <= 0:
                error = _OutOfTimeError(f"no answer in {self._due_cpu_s:.3g} s")
                share = (self.cpu_s() - self._since_cpu) / max(_LEAST_WAIT_S, time.monotonic() - self._since_wall)
                error.undisturbed = cpu_left <= 0 and share > _OWN_CORE
                raise error


def _run_program(suite: dict[str, Any], line: _Line, progress: dict[str, int]) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "tests"}
    exec(compile(suite["setup"], "<setup>", "exec", dont_inherit=True), namespace)  # noqa: S102  # the data set's own code
    namespace |= {name: _stub(line, name, progress, live=suite["live"]) for name in suite["names"]}
    exec(compile(suite["test"], "<test>", "exec", dont_inherit=True), namespace)  # noqa: S102  # as above
    return {} if progress["passed"] else {"status": "fail", "why": "the tests called nothing"}


def _stub(line: _Line, name: str, progress: dict[str, int], *, live: bool) -> Callable[..., Any]:
    def request(do: str, content: tuple[Any, ...]) -> Any:  # noqa: ANN401  # any value
        line.ask(b"c", {"do": do, "name": name, "content": wire.encode(content, _number)})
        kind, payload = line.answer()
        if kind == b"v":
            value = wire.decode(payload, (lambda tag, number: _live(tag, number, request)) if live else None)
            progress["passed"] += 1
            return value
        kind_name, text = _words(payload)
        raise RAISED.get(kind_name, RuntimeError)(text)

    def call(*args: Any, **options: Any) -> Any:  # noqa: ANN401  # any value
        return request("call", (list(args), options))

    call.__name__ = name
    return call


class _Live:
    """An object that stays in the solver."""

    def __init__(self, number: int, request: Callable[[str, tuple[Any, ...]], Any]) -> None:
        self.__dict__.update(_number=number, _request=request)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # any value
        return self._request("get", (self, name))

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401  # any value
        self._request("set", (self, name, value))


def _live(tag: str, number: Any, request: Callable[[str, tuple[Any, ...]], Any]) -> _Live:  # noqa: ANN401  # what the solver sent
    if tag != "object" or type(number) is not int:
        raise ValueError(f"unknown tag {tag!r}")
    return _Live(number, request)


def _number(value: Any) -> dict[str, Any]:  # noqa: ANN401  # any value
    return {"object": value.__dict__["_number"]} if type(value) is _Live else {"opaque": type(value).__name__}


def _run_cases(suite: dict[str, Any], line: _Line, progress: dict[str, int]) -> dict[str, Any]:
    outputs, name = _Outputs(suite), suite["names"][0]
    slow = {int(place): seconds for place, seconds in suite["slow"].items()}
    line.ask(b"m", {"name": name, "slow": sorted(slow)}, suite["calls"])
    while (place := progress["passed"]) < len(suite["expected"]):
        kind, payload = line.answer(slow.get(place))
        if kind == b"h":
            same = outputs.has_digest(place, payload)
            line.reply(send=not same)
            if same:
                progress["passed"] += 1
                continue
            kind, payload = line.answer(slow.get(place))
        if kind == b"e":
            return {"status": "fail", "why": f"call {place}: " + ": ".join(_words(payload))}
        progress["passed"] += outputs.count_right(place, texts := payload.split(b"\n"))
        if progress["passed"] < place + len(texts):
            return {"status": "fail", "why": f"call {progress['passed']}: wrong output"}
    return {}


class _Outputs:
    """The expected outputs: a text, or where that is long its SHA-256 and the canonical solution to compute it again.

    Equal texts are equal values, whatever the comparison; only where texts differ are values made of them.
    """

    def __init__(self, suite: dict[str, Any]) -> None:
        self._suite, self._expected = suite, suite["expected"]
        self._texts = [self._plain(wanted) for wanted in self._expected]
        self._calls: list[Any] | None = None
        self._comparison = Comparison(suite["oracle"], suite["atol"])
        self._seen = 0
        self._canonical: Callable[..., Any] | None = None

    def has_digest(self, place: int, digest: bytes) -> bool:
        wanted = self._expected[place]
        return isinstance(wanted, dict) and digest == wanted["sha256"].encode()

    def count_right(self, place: int, texts: list[bytes]) -> int:
        """Return how many of the answers from that place on are right before the first that is not."""
        if texts == self._texts[place : place + len(texts)]:
            return len(texts)
        for count, text in enumerate(texts):
            if place + count >= len(self._texts):
                return count
            if text != self._texts[place + count] and not self._is_right(place + count, text):
                return count
        return len(texts)

    def _plain(self, wanted: Any) -> bytes | None:  # noqa: ANN401  # a text or a digest
        """Return the text that is right as it stands, where there is one."""
        plain = isinstance(wanted, str) and "NaN" not in wanted and '{"opaque":' not in wanted
        return wanted.encode() if plain and self._suite["oracle"] != "root" else None

    def _is_right(self, place: int, text: bytes) -> bool:
        for wanted in self._expected[self._seen : place]:
            if isinstance(wanted, str):
                self._comparison.see(wire.decode(wanted))
        self._seen = place
        return self._comparison.is_right(wire.decode(text), self._value(place), self._arguments(place))

    def _arguments(self, place: int) -> list[Any]:
        """Return a call's arguments, made anew each time: a canonical solution may change what it is given."""
        if self._calls is None:
            self._calls = json.loads(self._suite["calls"])
        return wire.decode(json.dumps(self._calls[place]))

    def _value(self, place: int) -> Any:  # noqa: ANN401  # any value
        if isinstance(self._expected[place], str):
            return wire.decode(self._expected[place])
        name = self._suite["names"][0]
        if self._canonical is None:
            namespace: dict[str, Any] = {"__name__": "canonical"}
            exec(compile(self._suite["canonical"], "<canonical>", "exec", dont_inherit=True), namespace)  # noqa: S102  # as above
            self._canonical = namespace[name]
        return self._canonical(*self._arguments(place))


def _record(suite: dict[str, Any], line: _Line, progress: dict[str, int]) -> dict[str, Any]:
    outputs: list[Any] = []
    times: list[float] = []
    for call in json.loads(suite["calls"]):
        began = line.cpu_s()
        line.ask(b"m", {"name": suite["names"][0], "slow": []}, json.dumps([call]))
        kind, payload = line.answer()
        times.append(round(line.cpu_s() - began, 4))
        if kind == b"e":
            return {"status": "fail", "why": f"call {len(outputs)}: " + ": ".join(_words(payload))}
        if kind == b"h":
            line.reply(send=False)
        outputs.append(payload.decode() if kind == b"v" else {"sha256": payload.decode()})
        progress["passed"] += 1
    return {"outputs": outputs, "times": times}


def _words(payload: bytes) -> tuple[str, str]:
    kind, text = json.loads(payload)
    return str(kind), str(text)


_KINDS = {"program": _run_program, "cases": _run_cases, "record": _record}
