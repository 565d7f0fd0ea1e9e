"""Inside a Hugging Face Job: fetch the run from the Hub, train it under an owner of its own, and tell all of it in the log.

It ends only once every upload is over. SIGTERM and a tag beside the run's rows ask it to save and stop, another tag to
save and go on.
"""

import codecs
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from codex_space.core import durable
from codex_space.core.errors import CodexError, HubBusyError, HubError, HubNotFoundError, RunError
from codex_space.core.events import read_events
from codex_space.core.job_lines import BAR, TOLD, render_line
from codex_space.hub import fetch, parents
from codex_space.hub.jobs import SAVE, STOP, asking_tag
from codex_space.services import evaluations, from_hub, runs
from codex_space.services.context import Context, renting
from codex_space.store import checkpoints as checkpoint_rows
from codex_space.store import evaluations as evaluation_rows
from codex_space.store.runs import FINAL, Run

LOOK_EVERY_S = 0.2
ASKED_EVERY_S = 10.0
"""Each Job asks the Hub 30 times in five minutes, in which an account has a thousand calls."""
LOG_BYTES = 1 << 20
CLAIM_TRIES, CLAIM_WAIT_S = 6, 5.0

_log = logging.getLogger(__name__)


class Told:
    """Says each thing once, numbered, to the log that the control room reads."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Begin with number 1."""
        self._say, self._number = say, 0
        self._uploads: dict[int, tuple[str, str]] = {}
        self._evaluations: set[tuple[int, str, float]] = set()
        self._events_offset = self._log_offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def event(self, event: Mapping[str, Any]) -> None:
        """Say one event."""
        self._number += 1
        self._say(render_line(self._number, event))

    def new_of(self, ctx: Context, run: Run) -> None:
        """Say what is new: the worker's log and events, then what became of its checkpoints and answers."""
        job = ctx.workspace.job(run.id)
        self._log(job.log)
        while True:
            events, offset = read_events(job.events, self._events_offset)
            for event in events:
                if event["e"] in TOLD:
                    self.event(event)
            if offset == self._events_offset:
                break
            self._events_offset = offset
        for row in checkpoint_rows.list_checkpoints(ctx.db, run.id):
            told = (row.upload, row.upload_error)
            if row.upload in {"uploaded", "failed"} and self._uploads.get(row.step) != told:
                self._uploads[row.step] = told
                fields = {"step": row.step, "upload": row.upload, "error": row.upload_error, "commit_id": row.commit_id}
                self.event({"t": ctx.clock(), "e": "upload", **fields})
        for score in evaluation_rows.of_writer(ctx.db, run.id):
            key = (score.step, score.benchmark, score.started_at)
            if score.state != "waiting" and key not in self._evaluations:
                self._evaluations.add(key)
                names = ("step", "benchmark", "state", "reason", "protocol", "num_samples", "scores")
                self.event({"t": score.started_at, "e": "evaluation", **{name: getattr(score, name) for name in names}})

    def _log(self, path: Path) -> None:
        try:
            with durable.open_plain(path) as file:
                file.seek(self._log_offset)
                while data := file.read(LOG_BYTES):
                    self._log_offset += len(data)
                    *lines, rest = (self._rest + self._decoder.decode(data)).split("\n")
                    for line in lines:
                        self._say(BAR + line.rpartition("\r")[2])
                    self._rest = rest.rpartition("\r")[2][-LOG_BYTES:]  # a bar that is drawn anew is one line for hours
        except FileNotFoundError:
            return


def run_job(
    ctx: Context, repo_id: str, run_id: str, *, attempt: int, say: Callable[[str], None], asked: threading.Event
) -> int:
    """Train a run of the Hub to its end; 0 where it succeeded or stopped as asked and all of it is on the Hub.

    `asked` is set by SIGTERM.
    """
    told = Told(say)
    try:
        told.event({"t": ctx.clock(), "e": "phase", "phase": "fetching", "detail": "rows and checkpoint from the Hub"})
        run = take_up(ctx, repo_id, run_id)
    except (CodexError, OSError) as error:
        told.event({"t": ctx.clock(), "e": "end", "state": "failed", "reason": str(error)})
        return 1
    run = _stand_by(ctx, run, told, asked, Requests(ctx, repo_id, run_id, attempt))
    failed = [row for row in runs.checkpoints(ctx, run.id) if row.upload == "failed"]
    state, reason = run.state, run.reason
    if failed and state in {"succeeded", "stopped"}:
        state = "failed"
        reason = f"{len(failed)} of its checkpoints did not reach the Hub: {failed[-1].upload_error}"
    told.event({"t": ctx.clock(), "e": "end", "state": state, "reason": reason})
    return 0 if state in {"succeeded", "stopped"} else 1


def take_up(ctx: Context, repo_id: str, run_id: str) -> Run:
    """Fetch recipe, rows, what it builds on and, where there is one, its newest checkpoint; queue it to begin or to go on.

    Raises:
        HubError: It is not there, or cannot be read.
        RunError: The run id is not one.
    """
    hub, job = ctx.hub(), ctx.workspace.job(run_id)
    recipe_text = fetch.fetch_recipe(hub, repo_id, run_id)
    job.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not fetch.fetch_rows(hub, repo_id, run_id, job.rows):
        raise HubNotFoundError("the rows of this run are not on the Hub", where=fetch.rows_repo(repo_id))
    durable.write_text(job.recipe, recipe_text)
    parents.fetch_parents(hub, ctx.workspace, parents.read_parents(hub, repo_id, run_id))
    parents.fetch_tokenizers(hub, ctx.workspace, repo_id, run_id)
    _claim(ctx, repo_id, run_id)
    try:
        found = fetch.fetch_run(hub, repo_id, ctx.workspace, run_id=run_id)
    except HubNotFoundError:
        return from_hub.insert(ctx, run_id, recipe_text, repo_id)
    return from_hub.register(ctx, found, repo_id)


def _claim(ctx: Context, repo_id: str, run_id: str) -> None:
    """Take the run over from the Job of an earlier attempt, which may have ended without a word."""
    for _ in range(CLAIM_TRIES):
        try:
            from_hub.claim(ctx, repo_id.split("/")[0], run_id, force=True)
        except HubBusyError as error:
            _log.info("the note of %s is read again: %s", run_id, error)
            threading.Event().wait(CLAIM_WAIT_S)
        except HubError as error:  # a token that may write the repository and not the notes: then none are kept
            _log.warning("the note of %s is left as it is: %s", run_id, error)
            return
        else:
            return


class Requests:
    """What the control room asks this attempt for, by tags beside the run's rows."""

    def __init__(self, ctx: Context, repo_id: str, run_id: str, attempt: int) -> None:
        """Ask the Hub nothing yet."""
        self._ctx, self._rows = ctx, fetch.rows_repo(repo_id)
        self._tags = {what: asking_tag(run_id, attempt, what) for what in (STOP, SAVE)}
        self._has_saved = False

    def look(self, run: Run) -> bool:
        """Pass a wish to save on, and return whether the run is to end; no answer means that it is looked for again."""
        try:
            there = self._ctx.hub().tags(self._rows, "dataset")
            if self._tags[STOP] in there:
                return True
            if self._tags[SAVE] in there and run.state == "running":
                self._save(run)
        except CodexError as error:
            _log.info("what %s is asked for is read again: %s", run.id, error)
        return False

    def _save(self, run: Run) -> None:
        """Take the wish, then its tag away, so that the next one can be made; one that stays is not granted twice."""
        if not self._has_saved:
            runs.save_now(self._ctx, run.id)
            self._has_saved = True
        renting(self._ctx.settings).hub().delete_tag(self._rows, self._tags[SAVE])
        self._has_saved = False


def _stand_by(ctx: Context, run: Run, told: Told, asked: threading.Event, requests: Requests) -> Run:
    is_stopping, look_at = False, 0.0
    while True:
        run = runs.show(ctx, run.id)
        is_over = run.state in FINAL and not _left(ctx, run)
        told.new_of(ctx, run)
        if is_over:
            return run
        if not is_stopping and ctx.clock() >= look_at:
            look_at = ctx.clock() + ASKED_EVERY_S
            if asked.is_set() or requests.look(run):
                is_stopping = True
                with contextlib.suppress(RunError):  # it has ended while the Hub was asked
                    runs.stop(ctx, run.id)
        if not is_stopping:
            asked.wait(LOOK_EVERY_S)
            look_at = 0.0 if asked.is_set() else look_at
        else:
            threading.Event().wait(LOOK_EVERY_S)


def _left(ctx: Context, run: Run) -> int:
    rows = runs.checkpoints(ctx, run.id)
    waiting = sum(row.upload in {"queued", "uploading"} for row in rows) + evaluations.count_waiting(ctx, run.id)
    return waiting + runs.card_waits(ctx, run)
