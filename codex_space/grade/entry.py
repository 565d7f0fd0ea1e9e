"""What is offered under a benchmark's name: a sentence for a person, where its problems come from, how a model is asked them."""

from dataclasses import dataclass
from pathlib import Path

from codex_space.grade.protocol import COMPLETION_STOPS


@dataclass(frozen=True)
class Entry:
    """One benchmark.

    Attributes:
        about: One sentence for a person.
        shipped: Its problems file where it comes with the program.
        repo_id: Hub dataset it comes from otherwise, with configuration and split.
        release: Name of EvalPlus's own file, which is read where a person has put it into the workspace's benchmarks folder.
        base: Benchmark whose test programs are the first suite, where the Hub's rows hold only the second.
        stops: Where a completion ends.
        forms: Prompt form for completion and for chat (see `protocol.PROMPT_FORMS`).
    """

    name: str
    title: str
    about: str
    num_problems: int
    shipped: Path | None = None
    repo_id: str = ""
    config: str | None = None
    split: str = "test"
    release: str = ""
    base: str = ""
    stops: tuple[str, ...] = COMPLETION_STOPS
    forms: tuple[str, str] = ("completion-stripped", "chat")

    def file(self, cache: Path) -> Path:
        """Return where the problems lie, or will once fetched."""
        if self.shipped:
            return self.shipped
        release = cache / self.release
        return release if self.release and release.is_file() else cache / f"{self.name}.jsonl"


ENTRIES: dict[str, Entry] = {}
"""By name."""


def offer(*entries: Entry) -> None:
    """Make them known; called by each module of `benchmarks`."""
    ENTRIES.update({entry.name: entry for entry in entries})
