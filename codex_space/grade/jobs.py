"""What the sandbox is asked to run, and what it answers."""

from dataclasses import dataclass, field
from typing import Any, Literal

Level = Literal["auto", "landlock", "no-landlock"]
Status = Literal["pass", "fail", "timeout"]


@dataclass(frozen=True)
class Limits:
    """How long a program may take.

    Attributes:
        call_cpu_s: CPU seconds for one answer.
        total_cpu_s: CPU seconds for all of a suite.
        load_cpu_s: CPU seconds until the program has loaded.
        wall_factor: Wall-clock seconds for each CPU second allowed, for what sleeps.
        memory_bytes: Address space of each of the two processes.
    """

    call_cpu_s: float = 3.0
    total_cpu_s: float = 30.0
    load_cpu_s: float = 5.0
    wall_factor: float = 3.0
    memory_bytes: int = 4 << 30

    @property
    def wall_s(self) -> float:
        """When the suite ends, whatever its processes do."""
        return 2.0 + self.wall_factor * self.total_cpu_s


@dataclass(frozen=True)
class Suite:
    """One set of tests.

    Attributes:
        name: What its verdict is filed under.
        judge: What only the judge sees: `kind` and the fields `judge` reads for it.
        names: Functions (and classes) of the program the tests use.
        limits: Of time and memory.
        live: The tests hold objects of the program's own classes, by number.
    """

    name: str
    judge: dict[str, Any]
    names: tuple[str, ...]
    limits: Limits = field(default_factory=Limits)
    live: bool = False


@dataclass(frozen=True)
class Job:
    """A candidate and its suites; they run in order and the first that fails is the last.

    `programs` are readings of one answer (after the prompt, or by itself); the first that compiles counts.
    """

    job_id: str
    programs: tuple[str, ...]
    suites: tuple[Suite, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of one suite.

    Attributes:
        status: pass, fail or timeout.
        why: For a person; empty when it passed.
        passed: Calls answered (rightly, where outputs are compared).
        cpu_s: CPU seconds of the program's process.
        wall_s: Seconds it all took.
        max_rss_kib: Largest resident memory of the program's process.
        final: It ran out of time in a way that another try would not change.
        retried: It ran into a limit once before, among others.
        found: What the suite kind `record` brings back.
    """

    status: Status
    why: str = ""
    passed: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    max_rss_kib: int = 0
    final: bool = False
    retried: bool = False
    found: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Verdict:
    """Outcomes by suite name; a suite after one that failed has none."""

    job_id: str
    outcomes: dict[str, Outcome]

    def passed(self, suite: str) -> bool:
        """Say whether the suite was reached and passed."""
        return suite in self.outcomes and self.outcomes[suite].status == "pass"
