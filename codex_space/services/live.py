"""The bytes an open page polls: one snapshot a run, made at most twice a second however many people look."""

import itertools
import json
import math
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from codex_space.jobs.tail import tail
from codex_space.services import after, evaluations, jobs, money
from codex_space.services.context import Context
from codex_space.services.models import machine
from codex_space.services.summary import health
from codex_space.store import checkpoints as checkpoint_rows
from codex_space.store import costs, metrics
from codex_space.store import runs as run_rows
from codex_space.store.runs import ACTIVE, FINAL, Run

REFRESH_S = 0.5
WATCHED_S = 15.0  # a run nobody asked for in this long is not refreshed
HEALTH_S = 5.0  # alerts read the curves anew at most so often
HISTORY = 60  # snapshots a slow viewer may lag behind and still get only what is new
MAX_POINTS = 1000
POLL_FAST_MS, POLL_SLOW_MS, OVERVIEW_MS = 1000, 4000, 2000
"""Slower than this and the server closes a viewer's idle connection between two polls (uvicorn: 5 s)."""
MOST_POLLS_PER_S, RATE_OVER_S = 50.0, 4.0
"""All viewers together: they look less often where they are many, since the training runs on the same cores."""
TICK_MS = 350
"""Many viewers come together, at ticks of the server's clock: each wake-up of the page interrupts a training on these cores."""
LOG_LINES = 60

Curves = dict[str, dict[str, list[float]]]


@dataclass
class _Watched:
    """What is remembered of one run between refreshes."""

    seq: int = 0
    asked_at: float = 0.0
    num_scores: int = 0
    head: dict[str, Any] = field(default_factory=dict)
    last_steps: dict[str, int] = field(default_factory=dict)
    added: deque[tuple[int, Curves]] = field(default_factory=lambda: deque(maxlen=HISTORY))  # (snapshot before, new)
    pace: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=60))
    cached: dict[tuple[int, bool], bytes] = field(default_factory=dict)  # by snapshot and whether with money
    health: dict[str, Any] = field(default_factory=dict)
    health_at: float = -math.inf
    health_of: dict[str, int] | None = None  # the last steps it was read from

    def known(self, after: int) -> int:
        """Return the snapshot that an answer can begin after: 0 is everything, for all who lag too far behind."""
        added = tuple(self.added)  # in one go: another thread may add to it meanwhile
        return after if after == self.seq or any(before == after for before, _ in added) else 0


class Live:
    """Snapshots of watched runs and of the whole workspace, as JSON bytes ready to send."""

    def __init__(self, ctx: Context) -> None:
        """Start empty; the first question about a run fills it."""
        self._ctx = ctx
        self._lock = threading.Lock()
        self._runs: dict[str, _Watched] = {}
        # Numbers never come twice, not even after a restart: a page that slept must not take one snapshot for another.
        self._seq = itertools.count(int(ctx.clock() * 1000))
        self._overview_seq, self._overview_at = 0, -1.0
        self._overview: dict[str, Any] = {}
        self._overview_cached: dict[bool, bytes] = {}
        self._machine = machine(ctx).label
        self._ended: deque[dict[str, Any]] = deque(maxlen=20)
        self._active_before: set[str] = set()
        # (when, how long it was told to wait then), of runs and of the overview
        self._polls, self._looks = (deque[tuple[float, float]](maxlen=1000) for _ in range(2))
        self._poll_after_ms = POLL_FAST_MS
        self._overview_asked_at = 0.0
        self._sparks: dict[str, tuple[int, list[float]]] = {}

    def refresh(self, now: float) -> None:
        """Read the store once for each run somebody looks at, and for the overview."""
        with self._lock:
            self._poll_after_ms = self._pace_of_viewers(now)
            for run_id, watched in list(self._runs.items()):
                if now - watched.asked_at > WATCHED_S or not self._refresh_run(run_id, watched, now):
                    del self._runs[run_id]
            if now - self._overview_asked_at <= WATCHED_S:
                self._refresh_overview(now)

    def ready_bytes(self, run_id: str, after: int, *, with_money: bool = True) -> bytes | None:
        """Return a snapshot that can be had without waiting for the disk or for another thread; else None."""
        watched = self._runs.get(run_id)
        if watched is None:
            return None
        after = watched.known(after)
        body = watched.cached.get((after, with_money))
        if body is None and after and self._lock.acquire(blocking=False):
            try:
                body = self._cached(run_id, watched, after, with_money=with_money)
            finally:
                self._lock.release()
        return self._answer(watched, body, self._ctx.clock()) if body is not None else None

    def run_bytes(self, run_id: str, after: int = 0, *, with_money: bool = True) -> bytes:
        """Return the snapshot of a run: all of it, or what is new since snapshot `after`.

        Raises:
            RunError: There is no such run.
        """
        now = self._ctx.clock()
        with self._lock:
            watched = self._runs.get(run_id)
            if watched is None:
                run_rows.read_run(self._ctx.db, run_id)
                watched = self._runs[run_id] = _Watched()
                self._refresh_run(run_id, watched, now)
            return self._answer(watched, self._cached(run_id, watched, after, with_money=with_money), now)

    def _cached(self, run_id: str, watched: _Watched, after: int, *, with_money: bool) -> bytes:
        after = watched.known(after)
        if (after, with_money) not in watched.cached:
            watched.cached[after, with_money] = self._render(run_id, watched, after, with_money=with_money)
        return watched.cached[after, with_money]

    def _answer(self, watched: _Watched, body: bytes, now: float) -> bytes:
        """Return a snapshot with how long this viewer is to wait, and count them."""
        watched.asked_at, wait_ms = now, self._wait_ms(now, POLL_FAST_MS)
        self._polls.append((now, wait_ms / 1000))
        return b'%s,"poll_after_ms":%d}' % (body[:-1], wait_ms)

    def _wait_ms(self, now: float, least_ms: int) -> int:
        wait_ms = max(least_ms, self._poll_after_ms)
        return wait_ms if self._poll_after_ms == POLL_FAST_MS else wait_ms + -(round(1000 * now) + wait_ms) % TICK_MS

    def ready_overview(self, after: int, *, with_money: bool = True) -> bytes | None:
        """Return the overview where it can be had without waiting for the disk or for another thread; else None."""
        now = self._ctx.clock()
        if now - self._overview_at > 2 * REFRESH_S or not self._lock.acquire(blocking=False):
            return None
        try:
            return self._overview_answer(after, now, with_money=with_money)
        finally:
            self._lock.release()

    def overview_bytes(self, after: int = 0, *, with_money: bool = True) -> bytes:
        """Return the overview; a viewer who has it already gets only its number."""
        now = self._ctx.clock()
        with self._lock:
            if now - self._overview_at > 2 * REFRESH_S:
                self._refresh_overview(now)
            return self._overview_answer(after, now, with_money=with_money)

    def _overview_answer(self, after: int, now: float, *, with_money: bool) -> bytes:
        """Return the overview with how long this viewer is to wait, and count them."""
        self._overview_asked_at = now
        wait_ms = self._wait_ms(now, OVERVIEW_MS)
        self._looks.append((now, wait_ms / 1000))
        rest = b"}" if after == self._overview_seq else self._overview_rest(with_money=with_money)
        return b'{"seq":%d,"poll_after_ms":%d%s' % (self._overview_seq, wait_ms, rest)

    def _overview_rest(self, *, with_money: bool) -> bytes:
        if with_money not in self._overview_cached:
            shown = self._overview if with_money else money.hide(self._overview)
            self._overview_cached[with_money] = b"," + json.dumps(shown, separators=(",", ":"))[1:].encode()
        return self._overview_cached[with_money]

    def _pace_of_viewers(self, now: float) -> int:
        """Return how long a viewer is to wait: their number is what their waits of the last seconds add up to."""
        # who looks at a run asks for the overview too, and who does not for the overview alone
        asked = (self._polls.copy(), self._looks.copy())
        num_viewers = (
            max(sum(wait_s for at, wait_s in polls if at > now - RATE_OVER_S) for polls in asked) / RATE_OVER_S
        )
        return round(min(POLL_SLOW_MS, max(POLL_FAST_MS, 1000 * num_viewers / MOST_POLLS_PER_S)))

    def _refresh_run(self, run_id: str, watched: _Watched, now: float) -> bool:
        """Take what is new into `watched`; False where the run was deleted."""
        found = run_rows.list_runs(self._ctx.db, ids=(run_id,))
        if not found:
            return False
        run = found[0]
        known = metrics.list_metrics(self._ctx.db, run_id)
        newest = {name: metrics.last_step(self._ctx.db, run_id, name) for name in known}
        done = sum(one["state"] == "done" for one in evaluations.list_of_run(self._ctx, run_id))
        # a score may belong to a step before the newest one: then everything is drawn anew
        cut = done != watched.num_scores or any(
            newest.get(name, -1) < step for name, step in watched.last_steps.items()
        )
        watched.num_scores = done
        new: Curves = {}
        if watched.seq and not cut:
            for name in known:
                after = watched.last_steps.get(name, -1)
                if newest[name] > after:
                    new[name] = _curve(self._ctx, run_id, name, after)
        _pace(watched, run, now)
        if now - watched.health_at >= HEALTH_S and watched.health_of != newest:
            watched.health, watched.health_at, watched.health_of = health(self._ctx, run), now, newest
        head = self._head(run, watched)
        if watched.seq and not cut and not new and head == watched.head:
            return True
        if cut:
            watched.added.clear()
        elif watched.seq:
            watched.added.append((watched.seq, new))
        watched.seq = next(self._seq)
        watched.head, watched.last_steps, watched.cached = head, newest, {}
        return True

    def _head(self, run: Run, watched: _Watched) -> dict[str, Any]:
        rows = checkpoint_rows.list_checkpoints(self._ctx.db, run.id)
        return {
            "run": {**_brief(run), "phase": run.phase, "eta_s": _eta_s(watched, run), "attempt": run.attempt},
            "usd": self._usd(run).get(run.id),
            "job": jobs.brief(self._ctx, run),
            "checkpoints": [
                {
                    "step": row.step,
                    "upload": row.upload,
                    "error": row.upload_error,
                    "size_bytes": row.size_bytes,
                    "metrics": row.metrics,
                    "on_disk": row.on_disk,
                }
                for row in rows
            ],
            "evaluations": evaluations.list_of_run(self._ctx, run.id),
            "samples": self._ctx.workspace.job(run.id).sample_steps(),
            "after": after.read(self._ctx, run),
            **watched.health,
            "log": tail(self._ctx.workspace.job(run.id).log, lines=LOG_LINES).splitlines(),
        }

    def _render(self, run_id: str, watched: _Watched, after: int, *, with_money: bool) -> bytes:
        curves: Curves = {}
        if after:
            for before, added in watched.added:
                if before >= after:
                    _extend(curves, added)
        else:
            for name in watched.last_steps:
                curves[name] = _curve(self._ctx, run_id, name, -1)
        body: dict[str, Any] = {"seq": watched.seq, "full": not after, "curves": curves}
        if after != watched.seq:
            body.update(watched.head if with_money else money.hide(watched.head))
        return json.dumps(body, separators=(",", ":")).encode()

    def _refresh_overview(self, now: float) -> None:
        self._overview_at = now
        seq = next(self._seq)
        newest = run_rows.list_runs(self._ctx.db, limit=50)
        active = run_rows.list_runs(self._ctx.db, limit=10, states=tuple(sorted(ACTIVE)), place="local")
        unfinished = {
            run.id for run in run_rows.list_runs(self._ctx.db, limit=1000, states=("queued", *sorted(ACTIVE)))
        }
        for run_id in sorted(self._active_before - unfinished):
            for run in run_rows.list_runs(self._ctx.db, ids=(run_id,)):
                self._ended.append({**_brief(run), "seq": seq})
        self._active_before = unfinished
        holder = active[0] if active else None
        eta_s = _eta_s(self._runs[holder.id], holder) if holder and holder.id in self._runs else None
        usd = self._usd(*newest)
        body = {
            "runs": [{**_brief(run), "spark": self._spark(run), "usd": usd.get(run.id)} for run in newest],
            "holder": {**_brief(holder), "eta_s": eta_s} if holder else None,
            "jobs": run_rows.count_runs(self._ctx.db, states=tuple(sorted(ACTIVE)), place="hf-jobs"),
            "machine": self._machine,
            "money": self._money(),
            "ended": list(self._ended),
        }
        if body != self._overview:
            self._overview_seq, self._overview, self._overview_cached = seq, body, {}

    def _usd(self, *runs: Run) -> dict[str, float]:
        """What these have cost, in whole cents: a run in progress is not news at every look."""
        found = costs.by_run(self._ctx.db, tuple(run.id for run in runs))
        return {run_id: round(usd, 2) for run_id, usd in found.items()}

    def _money(self) -> dict[str, Any]:
        found = money.read(self._ctx)
        return {
            "hardware": self._ctx.settings.accelerator,
            "usd_per_hour": found.usd_per_hour,
            "month_usd": round(found.month_usd, 2),
            "cap_usd": found.cap_usd,
        }

    def _spark(self, run: Run) -> list[float]:
        """A few loss values for the list of runs, read again only when the run has moved."""
        step, values = self._sparks.get(run.id, (-1, []))
        if step != run.step:
            curve = metrics.read_curve(self._ctx.db, run.id, "loss", max_points=24)
            values = [round(value, 4) for value in curve.values]
            self._sparks[run.id] = (run.step, values)
        return values


def _brief(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": run.name,
        "kind": run.kind,
        "state": run.state,
        "reason": run.reason,
        "step": run.step,
        "max_steps": run.max_steps,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "repo_id": run.repo_id,
        "place": run.place,
    }


def _curve(ctx: Context, run_id: str, name: str, after_step: int) -> dict[str, list[float]]:
    curve = metrics.read_curve(ctx.db, run_id, name, max_points=MAX_POINTS, after_step=after_step)
    return {
        "steps": list(curve.steps),
        "values": list(curve.values),
        "lows": list(curve.lows),
        "highs": list(curve.highs),
    }


def _extend(curves: Curves, added: Curves) -> None:
    for name, parts in added.items():
        mine = curves.setdefault(name, {key: [] for key in parts})
        for key, values in parts.items():
            mine[key].extend(values)


def _pace(watched: _Watched, run: Run, now: float) -> None:
    if run.state != "running":
        watched.pace.clear()
    elif not watched.pace or watched.pace[-1][1] < run.step:
        watched.pace.append((now, run.step))


def _eta_s(watched: _Watched, run: Run) -> float | None:
    """Seconds left at the pace of the last steps seen; None until two were seen."""
    if run.state in FINAL or not run.max_steps or len(watched.pace) < 2:
        return None
    (t0, step0), (t1, step1) = watched.pace[0], watched.pace[-1]
    return round((run.max_steps - step1) * (t1 - t0) / (step1 - step0)) if step1 > step0 else None
