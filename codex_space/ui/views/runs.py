"""What the Runs tab says of a run: its line in the list, which buttons work and why not, and differences."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from codex_space.store.runs import ACTIVE, FINAL, Run
from codex_space.ui.views.markup import escape, render_empty, render_table

ENDED_WORDS = {"succeeded": "finished", "failed": "failed", "stopped": "been stopped", "lost": "been lost"}


@dataclass(frozen=True)
class Action:
    """One button: `why` says what it would do, or why it cannot."""

    enabled: bool
    why: str


@dataclass(frozen=True)
class Actions:
    """The buttons of one run."""

    save: Action
    stop: Action
    cancel: Action
    resume: Action
    delete: Action


NO_RUN = Actions(*[Action(False, "no run is chosen")] * 5)


def list_entry(run: Run) -> dict[str, Any]:
    """Return what the list draws of a run, in the same shape as the live overview."""
    names = (
        "id",
        "name",
        "kind",
        "state",
        "reason",
        "step",
        "max_steps",
        "created_at",
        "started_at",
        "ended_at",
        "place",
    )
    return {name: getattr(run, name) for name in names}


def actions_of(run: Run, *, resume_blocked: str, resume_step: int) -> Actions:
    """Return which buttons work in the run's state, each with its reason."""
    over = f"the run has {ENDED_WORDS.get(run.state, run.state)}"
    stopping = "the run is stopping already"
    return Actions(
        save=_save(run),
        stop=_stop(run, over, stopping),
        cancel=Action(False, over)
        if run.state in FINAL
        else Action(True, "Ends at once; what was learnt since the last checkpoint is lost"),
        resume=Action(False, resume_blocked)
        if resume_blocked
        else Action(True, f"Goes on from step {resume_step:,}" if resume_step else "Starts from the beginning"),
        delete=Action(True, "Removes the run, its curves and its checkpoints on this machine")
        if run.state in FINAL
        else Action(False, "only a run that has ended can be deleted; stop it first"),
    )


def render_why(actions: Actions) -> str:
    """Return a line under each of the four buttons: what it does, or why it is not available."""
    four = (actions.save, actions.stop, actions.cancel, actions.resume)
    lines = (f'<li class="{"" if action.enabled else "cs-off"}">{escape(_sentence(action))}</li>' for action in four)
    return f'<ul class="cs-why">{"".join(lines)}</ul>'


def render_differences(rows: Iterable[tuple[str, Any, Any]], here: str, there: str) -> str:
    """Return the table of recipe keys in which two runs differ."""
    cells = [(f"<code>{escape(key)}</code>", _value(mine), _value(theirs)) for key, mine, theirs in rows]
    if not cells:
        return render_empty("No difference", "Both runs have the same recipe.")
    return render_table(("Key", here, there), cells, "Differences between two recipes")


def choices_of(found: Iterable[Run], leave_out: str = "") -> list[tuple[str, str]]:
    """Return (label, id) of runs for a menu."""
    return [(f"{run.name} · {run.id}", run.id) for run in found if run.id != leave_out]


def _save(run: Run) -> Action:
    if run.state != "running":
        return Action(False, "only a run that is training can save")
    heard = "" if run.place == "local" else "; a Job hears of it within 20 seconds"
    return Action(True, f"Writes a checkpoint and trains on{heard}")


def _stop(run: Run, over: str, stopping: str) -> Action:
    if run.state in FINAL:
        return Action(False, over)
    if run.state == "stopping":
        return Action(False, stopping)
    if run.state in ACTIVE:
        return Action(True, "Saves a checkpoint, then ends; it can be resumed from there")
    return Action(True, "Takes the run out of the queue")


def _sentence(action: Action) -> str:
    return action.why if action.enabled else f"Not now: {action.why}"


def _value(value: Any) -> str:  # noqa: ANN401  # YAML value
    return '<span class="cs-faint">not set</span>' if value is None else f"<code>{escape(value)}</code>"
