"""Run candidate programs against tests in confined processes, several at a time, and hand out verdicts as they come.

Covered: the calling process, which may hold tokens, threads and a GPU, is never forked; network, files, environment and
other processes are out of a candidate's reach (`lockdown`); the test text and the verdict are too (`worker`, `judge`); it
is killed by a wall clock outside it, as it is when it starts threads by the hundred; a candidate leaves no process and,
having no writable path, no file behind; the
escape battery runs in the sandbox itself before its first job, and an escape, or a machine where it cannot be built, is a
`GradeError`. Linux on x86-64 only.
Not covered: bugs of the kernel, use of the CPU by design up to the limits, memory up to `memory_bytes` a process. Installed
packages are out of reach as every file is, so that a program which imports numpy fails; none of the 563 published samples
and canonical solutions of HumanEval+ and MBPP+ do, and its pages would slow every fork.
"""

import os
import platform
import queue
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace

from codex_space.core.errors import GradeError
from codex_space.grade.jobs import Job, Level, Limits, Outcome, Status, Suite, Verdict
from codex_space.grade.worker import CURE, Worker

__all__ = ["Job", "Level", "Limits", "Outcome", "Sandbox", "Status", "Suite", "Verdict"]
_PATIENCE = 4
_proven: set[str] = set()


class Sandbox:
    """Workers that are started on entering and are gone on leaving; safe to use from several threads."""

    def __init__(self, workers: int | None = None, level: Level = "auto", *, prove: bool = True) -> None:
        """Set up; nothing is started before `with`.

        Args:
            workers: Programs run at a time; default: one for each core this process may use.
            level: "auto" takes Landlock where the kernel has it and the stricter fallback without paths elsewhere.
            prove: Run the escape battery first, once in this process for each level.
        """
        self.workers = workers
        self.level = level
        self._prove = prove
        self._workers: list[Worker] = []
        self._free: queue.SimpleQueue[Worker] = queue.SimpleQueue()

    def __enter__(self) -> "Sandbox":
        """Start the workers and prove that they hold.

        Raises:
            GradeError: This machine cannot build the sandbox, or something escaped from it.
        """
        if sys.platform != "linux" or platform.machine() != "x86_64":
            where = f"{sys.platform} {platform.machine()}"
            raise GradeError("the sandbox needs Linux on x86-64", where=where, cure=CURE)
        try:
            self._start()
            if self._prove and self.level not in _proven:
                from codex_space.grade import battery  # noqa: PLC0415  # it imports this module

                battery.prove(self)
                _proven.add(self.level)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind."""
        self.close()

    def close(self) -> None:
        """End every process of the sandbox; running jobs fail."""
        for worker in self._workers:
            worker.hang_up()  # all end together
        for worker in self._workers:
            worker.close()
        self._workers.clear()

    def run(self, job: Job) -> Verdict:
        """Run one job on the next free worker."""
        worker = self._free.get()
        try:
            return Verdict(job.job_id, worker.run(job))
        finally:
            self._free.put(worker)

    def grade(self, jobs: Iterable[Job]) -> Iterator[Verdict]:
        """Yield verdicts in the order they are ready; `jobs` may still be growing.

        A job that ran into a limit comes last: it is run again by itself, once, and that verdict counts; save where a
        quieter machine could not have helped (`judge`: it had a core to itself, or was not half done at the very end).
        """
        source, guard = iter(jobs), threading.Lock()
        ended, results = threading.Event(), queue.SimpleQueue[Verdict | BaseException | None]()
        slow: list[Job] = []

        def work() -> None:
            try:
                while not ended.is_set():
                    with guard:
                        job = next(source, None)
                    if job is None:
                        break
                    verdict = self.run(job)
                    if _timed_out(verdict):
                        slow.append(job)
                    else:
                        results.put(verdict)
            except BaseException as error:  # noqa: BLE001  # the consumer's to see
                ended.set()
                results.put(error)
            results.put(None)

        threads = [threading.Thread(target=work, name="grade", daemon=True) for _ in self._workers]
        for thread in threads:
            thread.start()
        try:
            for _ in threads:
                yield from _until_none(results)
            for job in slow:
                yield _marked(self.run(_patient(job)))
        finally:
            ended.set()

    def _start(self) -> None:
        level = self.level
        if level == "auto":
            from codex_space.grade import lockdown  # noqa: PLC0415  # Linux only

            level = "landlock" if lockdown.landlock_abi() else "no-landlock"
        self.level = level
        self.workers = self.workers or len(os.sched_getaffinity(0))
        for _ in range(self.workers):
            self._workers.append(Worker(level))
        for worker in self._workers:
            worker.wait_started()
            self._free.put(worker)


def _until_none(results: "queue.SimpleQueue[Verdict | BaseException | None]") -> Iterator[Verdict]:
    while (result := results.get()) is not None:
        if isinstance(result, BaseException):
            raise result
        yield result


def _timed_out(verdict: Verdict) -> bool:
    return any(outcome.status == "timeout" and not outcome.final for outcome in verdict.outcomes.values())


def _patient(job: Job) -> Job:
    """Give the clock more room, for a machine on which others are busy too; the CPU time allowed stays."""
    suites = (replace(s, limits=replace(s.limits, wall_factor=_PATIENCE * s.limits.wall_factor)) for s in job.suites)
    return replace(job, suites=tuple(suites))


def _marked(verdict: Verdict) -> Verdict:
    outcomes = {name: replace(outcome, retried=True) for name, outcome in verdict.outcomes.items()}
    return Verdict(verdict.job_id, outcomes)
