"""One start of a worker: what it was given, what it says, and whether it was asked to stop."""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from codex_space.core import durable
from codex_space.core.errors import TrainingError
from codex_space.core.events import EventWriter
from codex_space.core.origin import Graded
from codex_space.core.paths import JobDir
from codex_space.core.recipe import Known, parse_recipe


class StopRequested(BaseException):
    """SIGTERM arrived before there was anything to save; no error, so no `except Exception` may swallow it."""


@dataclass
class StopFlag:
    """Set by SIGTERM; while nothing trains yet, the signal ends the worker where it stands."""

    is_training: bool = False
    is_set: bool = False

    def listen(self) -> None:
        """Take SIGTERM from here on."""
        signal.signal(signal.SIGTERM, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.is_set = True
        if not self.is_training:
            raise StopRequested


@dataclass(frozen=True)
class Attempt:
    """What launch.json and the recipe say, and the event file.

    Attributes:
        references: `run:ID` of the recipe to the checkpoint folder it means.
        check_only: Do the preflight, train nothing.
        graded: What the owner has graded of the run that is exported.
        cost: What that run has cost so far, in words.
        public_only: A server the recipe names is asked at a public address or not at all.
        portable: `trl` or `python` where the recipe is to be written down for plain TRL instead of trained.
        timed_steps: With `check_only` how many steps are taken to see how fast they are; nothing of them is kept.
    """

    job: JobDir
    recipe: Known
    events: EventWriter
    clock: Callable[[], float]
    stop: StopFlag
    check_only: bool = False
    number: int = 1
    num_threads: int = 1
    workspace: Path | None = None
    references: Mapping[str, str] = field(default_factory=dict)
    resume_from_step: int = 0
    offline: bool = True
    graded: tuple[Graded, ...] = ()
    cost: str = ""
    public_only: bool = True
    portable: str = ""
    timed_steps: int = 0

    def say(self, e: str, **fields: Any) -> None:  # noqa: ANN401  # any JSON value
        """Append an event with the time of now."""
        self.events.write(e, self.clock(), **fields)

    def is_stop_asked(self) -> bool:
        """Whether a stop was asked for, by file or by signal."""
        return self.stop.is_set or self.job.stop_request.exists()

    @property
    def resume_from(self) -> Path | None:
        """The checkpoint folder to go on from."""
        return self.job.checkpoint(self.resume_from_step) if self.resume_from_step else None


def read_attempt(
    job: JobDir, events: EventWriter, *, clock: Callable[[], float], stop: StopFlag, check_only: bool
) -> Attempt:
    """Read the job folder.

    Raises:
        RecipeError: The recipe is not one.
        TrainingError: There is no recipe.
    """
    if not job.recipe.is_file():
        raise TrainingError("the job folder holds no recipe.yaml", where=str(job.root), cure="Submit the run again.")
    facts = durable.read_json(job.launch) or {}
    workspace = facts.get("workspace")
    return Attempt(
        job=job,
        recipe=parse_recipe(job.recipe.read_text(encoding="utf-8")),
        events=events,
        clock=clock,
        stop=stop,
        check_only=check_only,
        number=int(facts.get("attempt", 1)),
        num_threads=int(facts.get("num_threads", 1)),
        workspace=Path(workspace) if workspace else None,
        references=facts.get("references", {}),
        resume_from_step=0 if check_only else int(facts.get("resume_from_step", 0)),
        offline=bool(facts.get("offline", True)),
        graded=tuple(Graded(**each) for each in facts.get("graded", [])),
        cost=str(facts.get("cost", "")),
        public_only=bool(facts.get("public_only", True)),
        portable=str(facts.get("portable", "")),
        timed_steps=int(facts.get("timed_steps", 0)),
    )
