"""The worker process: `python -m codex_space.work JOB_DIR [--check]` trains what the job folder's recipe says."""

import contextlib
import importlib
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from codex_space.core import durable
from codex_space.core.errors import TrainingError
from codex_space.core.events import EventWriter
from codex_space.core.paths import JobDir
from codex_space.core.recipe import EvaluateRecipe
from codex_space.work import checkpoint, environment, processes, track
from codex_space.work.attempt import Attempt, StopFlag, StopRequested, read_attempt
from codex_space.work.failures import explain, is_disk_full

log = logging.getLogger("codex_space.work")


def main(arguments: list[str]) -> int:
    """Run one attempt; 0 when it ended well or was asked to stop, 1 after a `failed` event."""
    _quiet()
    job, check_only = JobDir(Path(arguments[0])), "--check" in arguments[1:]
    clock = time.time  # noqa: TID251  # the worker's composition root
    stop = StopFlag()
    with EventWriter(job.events if processes.is_main() else Path(os.devnull)) as events:
        try:
            stop.listen()
            facts = durable.read_json(job.launch) or {}
            events.write(
                "attempt", clock(), attempt=facts.get("attempt", 1), resumed_from_step=facts.get("resume_from_step", 0)
            )
            run(read_attempt(job, events, clock=clock, stop=stop, check_only=check_only))
        except StopRequested:
            events.write("done", clock(), step=facts.get("resume_from_step", 0), summary={}, stopped=True)
        except Exception as error:  # noqa: BLE001  # whatever it is, the person gets one sentence and the log the rest
            return _fail(error, job, clock)
    return 0


def run(attempt: Attempt) -> None:
    """Dispatch on the recipe's kind.

    Raises:
        CodexError: Why the run cannot start or go on.
    """
    if processes.is_main():
        for name in checkpoint.remove_incomplete(attempt.job):
            log.info("removed %s: it was not complete", name)
    track.require(attempt.recipe)
    does = _module_of(attempt)
    if does not in {"tokenizer", "served"}:
        attempt.say("phase", phase="loading", detail="loading the training libraries")
        _prepare_libraries(attempt)
        processes.require(attempt.recipe)
    run_kind = importlib.import_module(f"codex_space.work.{does}").run
    environment.write(attempt)
    run_kind(attempt)


def _module_of(attempt: Attempt) -> str:
    """Return the module that does it: one for each kind, and one for a model on a server, which needs no training library."""
    if attempt.portable:
        return "portable"
    is_served = isinstance(attempt.recipe, EvaluateRecipe) and attempt.recipe.endpoint
    return "served" if is_served else attempt.recipe.kind


def _fail(error: Exception, job: JobDir, clock: Callable[[], float]) -> int:
    log.error("the run failed", exc_info=error)
    if is_disk_full(error):
        checkpoint.remove_incomplete(job)  # makes room for the sentence below
    told = explain(error, where="training")
    if processes.is_first_to_fail(job):
        with contextlib.suppress(OSError), EventWriter(job.events) as events:
            events.write("failed", clock(), what=told.what, where=told.where, cure=told.cure)
    return 1


def _prepare_libraries(attempt: Attempt) -> None:
    import datasets
    import torch
    from transformers.utils import logging as transformers_logging

    torch.set_num_threads(attempt.num_threads)
    torch.use_deterministic_algorithms(getattr(attempt.recipe, "deterministic", False))
    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()


def _quiet() -> None:
    """Keep the log readable: our lines and real warnings, no deprecation notes about how libraries call each other."""
    level = logging.INFO if processes.is_main() else logging.ERROR
    logging.basicConfig(stream=sys.stderr, level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for name in ("httpx", "httpcore", "httpx2", "httpcore2", "filelock", "datasets", "accelerate", "torchao"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(str(TrainingError("no job folder is given", cure="python -m codex_space.work JOB_DIR [--check]")))
    code = main(sys.argv[1:])
    logging.shutdown()
    sys.stdout.flush()
    # All is written and closed; taking torch apart would hold cores and GPU memory for another second and a half.
    os._exit(code)
