"""Runs that train as Hugging Face Jobs: started, watched, stopped and concluded, many at once, one `step(now)` at a time.

They go through the same states as runs of this machine and hold none of its slots. All it needs after a crash is in the
store: the Job of an attempt is found again by its id, or by its labels where the crash came before the id was noted.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from codex_space.core.errors import CodexError, HubBusyError, HubNotFoundError
from codex_space.core.paths import Workspace
from codex_space.core.recipe import parse_recipe
from codex_space.hub.fetch import read_checkpoint, rows_repo
from codex_space.hub.jobs import SAVE, STOP, JobsHub, asking_tag
from codex_space.jobs import hf_ending
from codex_space.jobs.hf_start import Renting, log_size, send_rows, start_job
from codex_space.jobs.ingest import read_new_events
from codex_space.jobs.mirror import Mirror
from codex_space.store import checkpoints, hub_jobs, runs
from codex_space.store.db import Database
from codex_space.store.hub_jobs import TERMINAL, HubJob
from codex_space.store.runs import ACTIVE, Run

PLACE = "hf-jobs"
INSPECT_EVERY_S, INSPECTED_AT_THAT = 3.0, 2
"""Of more Jobs than that each is asked of less often: the Hub answers a thousand calls in five minutes."""
STOP_S = 900.0
"""A Job that was asked to stop has this long to save and upload before it is cancelled."""
DRAIN_S = 30.0
"""After the end of a Job its log has this long to arrive to its last line."""
AGAIN_S = 10.0
"""Between two tries of what a busy Hub refused."""
READ_AGAIN_S = 2.0
WHOLE_READS = 5
"""A log without a last word is read so often before it is believed to have none."""

_log = logging.getLogger(__name__)


class HubJobs:
    """The only one that changes the state of a run on Jobs that has been started."""

    def __init__(self, db: Database, workspace: Workspace, renting: Renting) -> None:
        """Ask nobody yet."""
        self._db, self._workspace, self._renting = db, workspace, renting
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="jobs-start")
        self._starting: dict[str, Future[bool]] = {}
        self._is_closing = False
        self._followers: dict[str, _Follower] = {}
        self._ended_at: dict[str, float] = {}
        self._next: dict[tuple[str, str], float] = {}
        self._inspect_every_s = INSPECT_EVERY_S

    def step(self, now: float) -> None:
        """Do whatever is due."""
        active = runs.list_runs(self._db, limit=1000, states=tuple(ACTIVE), place=PLACE)
        self._inspect_every_s = INSPECT_EVERY_S * max(1.0, len(active) / INSPECTED_AT_THAT)
        for run in active:
            try:
                self._watch(run, now)
            except (CodexError, OSError) as error:  # one run's folder or recipe must not end the watch over the others
                _log.warning("%s could not be looked after: %s", run.id, error)
        free = self._renting.most_at_once - len(active)
        for run in runs.list_queue(self._db, PLACE)[: max(0, free)]:
            self._start(run, now)

    def close(self) -> None:
        """Let go of the Jobs; they run on. A start that is under way comes to a halt first: the next owner makes it."""
        self._is_closing = True
        for follower in self._followers.values():
            follower.close()
        self._followers.clear()
        self._starter.shutdown(wait=True, cancel_futures=True)

    def _start(self, run: Run, now: float) -> None:
        started = runs.change_state(self._db, run.id, "preflight", now=now)
        try:
            self._begin(started, now)
        except (CodexError, OSError) as error:
            self._fail_to_start(run, error, now)

    def _fail_to_start(self, run: Run, error: BaseException, now: float) -> None:
        what = str(error) if isinstance(error, CodexError | OSError) else f"{type(error).__name__}; the log says more"
        runs.change_state(self._db, run.id, "failed", now=now, reason=f"The Job could not be started: {what}")

    def _begin(self, run: Run, now: float) -> None:
        """Preparing and pushing rows takes minutes at times; the watch over the others goes on."""
        launch = parse_recipe(run.recipe).launch
        hub_jobs.add_job(  # one that is there stays
            self._db, run.id, run.attempt, flavor=launch.flavor, timeout_s=launch.timeout_s, now=now,
            log_offset=log_size(self._workspace.job(run.id)),
        )  # fmt: skip
        self._starting[run.id] = self._starter.submit(self._submit, run)

    def _submit(self, run: Run) -> bool:
        """Return False where there is no Job yet: the run was cancelled, or this owner is closing."""
        hub = self._renting.hub()
        self._say(run, "preparing the rows and pushing them to the Hub")
        send_rows(hub, self._db, self._workspace, run)
        if self._is_closing or runs.read_run(self._db, run.id).intent:
            return False
        self._say(run, "asking the Hub for a machine")
        job = start_job(hub, self._renting, run)
        hub_jobs.update_job(
            self._db, run.id, run.attempt,
            job_id=job.job_id, namespace=job.namespace, url=job.url, stage=job.stage,
        )  # fmt: skip
        self._say(run, "waiting for a machine")
        try:
            price = hub.job_prices().get(hub_jobs.list_jobs(self._db, run.id)[-1].flavor)
        except CodexError as error:
            _log.info("the price of the Job of %s is not known: %s", run.id, error)
        else:
            hub_jobs.update_job(self._db, run.id, run.attempt, usd_per_hour=price)
        return True

    def _say(self, run: Run, phase: str) -> None:
        runs.update_progress(self._db, run.id, phase=phase)

    def _watch(self, run: Run, now: float) -> None:
        job = hub_jobs.newest_job(self._db, run.id)
        if run.id in self._starting or job is None or not job.job_id:
            self._await_start(run, now)
            return
        follower = self._follow(run, job)
        folder = self._workspace.job(run.id)
        run = read_new_events(self._db, folder, run, now=now, to_end=False)
        if run.intent:
            self._press(run, job, now)
        elif folder.save_request.exists():
            self._pass_on(run, job, folder.save_request, now)
        if self._is_due(run, "inspect", now, self._inspect_every_s):
            job = self._inspect(run, job, now)
        ended_at = self._ended_at.get(run.id)
        if ended_at is not None and (follower.is_done or now - ended_at > DRAIN_S):
            follower.close()
            run = read_new_events(self._db, folder, run, now=now, to_end=True)
            self._conclude(run, job, now)

    def _await_start(self, run: Run, now: float) -> None:
        future = self._starting.get(run.id)
        if future is None:
            if self._is_due(run, "start", now, AGAIN_S):  # an owner before this one was at it, or the Hub was busy
                self._begin(run, now)
            elif run.intent:
                self._conclude(run, None, now)
            return
        if not future.done():
            return
        del self._starting[run.id]
        error = future.exception()
        if isinstance(error, HubBusyError):
            self._say(run, f"the Hub is busy, so it is tried again: {error.what}")
            self._next[run.id, "start"] = now + AGAIN_S
        elif error is not None:
            _log.warning("the Job of %s could not be started", run.id, exc_info=error)
            self._fail_to_start(run, error, now)
        elif not future.result():
            self._conclude(run, None, now)

    def _follow(self, run: Run, job: HubJob) -> "_Follower":
        follower = self._followers.get(run.id)
        if follower is None or follower.attempt != job.attempt:
            mirror = Mirror(self._workspace.job(run.id), attempt=job.attempt, log_offset=job.log_offset)
            follower = self._followers[run.id] = _Follower(mirror, job, self._renting.hub)
        return follower

    def _inspect(self, run: Run, job: HubJob, now: float) -> HubJob:
        try:
            seen = self._renting.hub().inspect_job(job.job_id, job.namespace)
        except HubNotFoundError:
            self._note(run, job, stage="DELETED", message="")
            self._ended_at.setdefault(run.id, now - DRAIN_S)
        except CodexError as error:
            _log.info("the Job of %s cannot be seen now: %s", run.id, error)
        else:
            running_s = job.running_s if seen.running_s is None else max(job.running_s, seen.running_s)
            self._note(run, job, stage=seen.stage, message=seen.message, running_s=running_s)
            if seen.stage in TERMINAL:
                self._ended_at.setdefault(run.id, now)
        return hub_jobs.newest_job(self._db, run.id) or job

    def _note(self, run: Run, job: HubJob, **changes: str | float) -> None:
        hub_jobs.update_job(self._db, run.id, job.attempt, **changes)

    def _press(self, run: Run, job: HubJob, now: float) -> None:
        """Ask it to save and stop by a tag beside its rows, which it looks for; cancel what does not, or is not to save."""
        if run.id in self._ended_at or not self._is_due(run, "press", now, AGAIN_S):
            return
        waited_s = now - (run.intent_at or now)
        try:
            hub = self._renting.hub()
            if run.intent == "cancel" or waited_s > STOP_S or job.stage == "SCHEDULING":
                hub.cancel_job(job.job_id, job.namespace)
                self._next[run.id, "inspect"] = now
            else:
                _ask(hub, run, job.attempt, STOP)
        except CodexError as error:
            _log.info("%s of %s is tried again: %s", run.intent, run.id, error)

    def _pass_on(self, run: Run, job: HubJob, request: Path, now: float) -> None:
        """Ask it for a checkpoint in the same way; the wish stays a file here until the Hub has taken it."""
        if not self._is_due(run, SAVE, now, AGAIN_S):
            return
        try:
            _ask(self._renting.hub(), run, job.attempt, SAVE)
        except CodexError as error:
            _log.info("the wish to save %s is tried again: %s", run.id, error)
        else:
            request.unlink(missing_ok=True)
            # at once, not after AGAIN_S: a second press before the Job has taken the first wish is the same wish
            del self._next[run.id, SAVE]

    def _conclude(self, run: Run, job: HubJob | None, now: float) -> None:
        if job is not None:
            self._find_uploaded(run)
        self._workspace.job(run.id).save_request.unlink(missing_ok=True)
        there = [row.step for row in checkpoints.list_checkpoints(self._db, run.id) if row.upload == "uploaded"]
        state, reason = hf_ending.judge(run, job, max(there, default=0))
        with self._db.transaction():
            if run.state == "preflight" and state == "succeeded":
                runs.change_state(self._db, run.id, "running", now=now)
            runs.change_state(self._db, run.id, state, now=now, reason=reason)
        if follower := self._followers.pop(run.id, None):
            follower.close()
        self._ended_at.pop(run.id, None)
        for key in [key for key in self._next if key[0] == run.id]:
            del self._next[key]
        _log.info("run %s on Jobs %s %s", run.id, state, reason)

    def _find_uploaded(self, run: Run) -> None:
        """Take the Hub's word for what arrived there, whatever the log had lost; and clear away the asking."""
        try:
            hub, repo_id = self._renting.hub(), str(run.repo_id)
            tags = hub.tags(repo_id)
            for row in checkpoints.list_checkpoints(self._db, run.id):
                commit = tags.get(f"step-{row.step}")
                if row.upload == "uploaded" or not commit:
                    continue
                found = read_checkpoint(hub, repo_id, commit)
                if found is not None and found.manifest.run_id == run.id:
                    checkpoints.set_upload(self._db, run.id, row.step, "uploaded", commit_id=commit)
            rows = rows_repo(repo_id)
            for tag in {asking_tag(run.id, run.attempt, what) for what in (STOP, SAVE)} & set(
                hub.tags(rows, "dataset")
            ):
                hub.delete_tag(rows, tag)
        except CodexError as error:
            _log.info("what of %s is on the Hub was not checked: %s", run.id, error)

    def _is_due(self, run: Run, what: str, now: float, every_s: float) -> bool:
        if now < self._next.get((run.id, what), 0.0):
            return False
        self._next[run.id, what] = now + every_s
        return True


class _Follower:
    """Reads one Job's log in a thread of its own until the Job is over."""

    def __init__(self, mirror: Mirror, job: HubJob, hub: Callable[[], JobsHub]) -> None:
        self.attempt, self.is_done = job.attempt, False
        self._mirror, self._job, self._hub = mirror, job, hub
        self._closing = threading.Event()
        threading.Thread(target=self._read, name=f"log of {job.job_id}", daemon=True).start()

    def close(self) -> None:
        """Write nothing more; the thread ends with the next line it reads."""
        self._closing.set()
        self._mirror.close()

    def _read(self) -> None:
        num_whole = 0
        while not self._closing.is_set():
            try:
                lines = self._hub().follow_job(self._job.job_id, self._job.namespace)
                num_whole += self._mirror.take(self._until_closed(lines))
                # huggingface_hub 2.4 takes a stream that breaks off for its end where the Job is over
                if self._mirror.has_end or num_whole >= WHOLE_READS:
                    self.is_done = True
                    return
                self._closing.wait(READ_AGAIN_S)
            except CodexError as error:
                _log.info("the log of %s is read again: %s", self._job.run_id, error)
                self._closing.wait(READ_AGAIN_S)
            except OSError:
                _log.exception("the log of %s cannot be kept", self._job.run_id)
                self._closing.wait(AGAIN_S)

    def _until_closed(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            if self._closing.is_set():
                return
            yield line


def _ask(hub: JobsHub, run: Run, attempt: int, what: str) -> None:
    source = rows_repo(str(run.repo_id))
    tag = asking_tag(run.id, attempt, what)
    if tag not in hub.tags(source, "dataset"):
        hub.set_tag(source, tag, hub.head(source, "dataset"), "dataset")
