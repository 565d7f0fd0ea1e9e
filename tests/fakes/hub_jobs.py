"""The Jobs of the test Hub: each runs its command as a real process in an empty folder, with the environment and the
secrets of the request, and its output as the log. What the image of a Space holds is this checkout.

    jobs.cut_logs      numbers: the next streams of a log break off after that many lines
    jobs.hostile       lines that every log begins with
    jobs.instead       a command that Jobs run instead of their own
    jobs.stubborn      a cancelled Job gets no time to end by itself
"""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

REPO = Path(__file__).parent.parent.parent
TERM_GRACE_S = 3.0
TERMINAL = {"COMPLETED", "CANCELED", "ERROR", "DELETED"}


@dataclass
class Job:
    """One Job and its process."""

    spec: dict[str, Any]
    owner: str
    folder: Path
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: float = field(default_factory=time.time)
    started: float | None = None
    finished: float | None = None
    stage: str = "SCHEDULING"
    message: str | None = None
    lines: list[tuple[str, str]] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None
    is_cancelled: bool = False

    def say(self, line: str) -> None:
        self.lines.append((line, _stamp(time.time())))

    def answer(self) -> dict[str, Any]:
        running = (self.finished or time.time()) - self.started if self.started else None
        image = {key: self.spec[key] for key in ("spaceId", "dockerImage") if key in self.spec}
        kept = {key: self.spec.get(key) for key in ("command", "arguments", "environment", "flavor", "labels")}
        return {
            "id": self.id, "createdAt": _stamp(self.created), **image, **kept,
            "startedAt": _stamp(self.started) if self.started else None,
            "finishedAt": _stamp(self.finished) if self.finished else None,
            "secrets": list(self.spec.get("secrets", {})),
            "status": {"stage": self.stage, "message": self.message},
            "owner": {"id": "0" * 24, "name": self.owner, "type": "user"},
            "durations": {
                "schedulingSecs": 0,
                "runningSecs": None if running is None else int(running),
                "totalSecs": int((self.finished or time.time()) - self.created),
            },
        }  # fmt: skip


class JobsHost:
    """The machines."""

    def __init__(self, root: Path) -> None:
        self.root = root / "jobs"
        self.jobs: dict[str, Job] = {}
        self.cut_logs: list[int] = []
        self.hostile: list[str] = []
        self.instead: list[str] = []
        self.stubborn = False

    def run(self, spec: dict[str, Any], owner: str) -> Job:
        job = Job(spec, owner, Path())
        job.folder = self.root / job.id
        job.folder.mkdir(parents=True)
        job.say(f"===== Job started at {_stamp(time.time())} =====")
        for line in self.hostile:
            job.say(line)
        self.jobs[job.id] = job
        threading.Thread(target=self._execute, args=(job,), daemon=True).start()
        return job

    def cancel(self, job: Job) -> None:
        if job.stage in TERMINAL:
            return
        job.is_cancelled = True
        if job.process is not None:
            job.process.send_signal(signal.SIGTERM)
        threading.Thread(target=self._end, args=(job, 0.0 if self.stubborn else TERM_GRACE_S), daemon=True).start()

    def kill(self, job: Job) -> None:
        """The machine is gone: every process of it, at once."""
        for process in psutil.process_iter(["pid"]):
            try:
                inside = str(job.folder) in "\0".join([*process.environ().values(), *process.cmdline()])
            except psutil.Error:
                continue
            if inside and process.pid != os.getpid():
                try:
                    process.kill()
                except psutil.Error:
                    continue

    def close(self) -> None:
        for job in self.jobs.values():
            if job.stage not in TERMINAL:
                job.is_cancelled = True
                self.kill(job)
        self.jobs.clear()
        self.cut_logs.clear()
        self.hostile.clear()
        self.instead = []
        self.stubborn = False

    def _end(self, job: Job, grace_s: float) -> None:
        deadline = time.monotonic() + grace_s
        while job.process is not None and job.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        self.kill(job)

    def _execute(self, job: Job) -> None:
        environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(job.folder), "CODEX_SPACE_HOME": str(job.folder / "workspace"), "PYTHONPATH": str(REPO),
            "SYSTEM": "spaces", "JOB_ID": job.id, "ACCELERATOR": str(job.spec["flavor"]), "CPU_CORES": "2",
            "MEMORY": "16Gi", **job.spec.get("environment", {}), **job.spec.get("secrets", {}),
        }  # fmt: skip
        job.started = time.time()
        job.process = subprocess.Popen(
            self.instead or [*job.spec["command"], *job.spec.get("arguments", [])],
            cwd=job.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", start_new_session=True,
        )  # fmt: skip
        job.stage = "RUNNING"
        timeout = threading.Timer(job.spec.get("timeoutSeconds", 1800), self._time_out, (job,))
        timeout.start()
        assert job.process.stdout is not None
        for line in job.process.stdout:
            job.say(line.rstrip("\n"))
        code = job.process.wait()
        timeout.cancel()
        self.kill(job)  # what it left behind goes with its machine
        job.finished = time.time()
        if job.message is None and code and not job.is_cancelled:
            job.message = f"Job failed with exit code: {code}"
        job.stage = "CANCELED" if job.is_cancelled else "ERROR" if code or job.message else "COMPLETED"

    def _time_out(self, job: Job) -> None:
        job.message = "Job timeout"
        self.kill(job)


class JobRoutes:
    """The endpoints, as huggingface_hub 2.4 asks them."""

    def __init__(self, hub: Any, refusal: type[Exception]) -> None:
        self._hub, self._host, self._refusal = hub, hub.state.jobs, refusal

    def routes(self) -> list[Route]:
        one = "/api/jobs/{ns}/{job_id}"
        return [
            Route("/api/jobs/{ns}", self.create, methods=["POST"]),
            Route("/api/jobs/{ns}", self.list, methods=["GET"]),
            Route(one, self.inspect, methods=["GET"]),
            Route(one + "/cancel", self.cancel, methods=["POST"]),
            Route(one + "/logs", self.logs, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        namespace, spec = self._namespace(request, write=True), await request.json()
        if not isinstance(spec.get("command"), list) or not ("spaceId" in spec or "dockerImage" in spec):
            return JSONResponse({"error": "invalid job"}, 400)
        return JSONResponse(self._host.run(spec, namespace).answer())

    async def list(self, request: Request) -> Response:
        namespace = self._namespace(request)
        stages = request.query_params.getlist("stage")
        labels = dict(text.partition("=")[::2] for text in request.query_params.getlist("label"))
        found = [job for job in reversed(self._host.jobs.values()) if job.owner == namespace]
        found = [job for job in found if not stages or job.stage in stages]
        found = [job for job in found if labels.items() <= (job.spec.get("labels") or {}).items()]
        return JSONResponse([job.answer() for job in found])

    async def inspect(self, request: Request) -> Response:
        return JSONResponse(self._job(request).answer())

    async def cancel(self, request: Request) -> Response:
        self._host.cancel(self._job(request, write=True))
        return JSONResponse({})

    async def logs(self, request: Request) -> Response:
        job, cut = self._job(request), self._host.cut_logs.pop(0) if self._host.cut_logs else None
        return StreamingResponse(self._stream(job, cut), media_type="text/event-stream")

    async def _stream(self, job: Job, cut: int | None) -> AsyncIterator[bytes]:
        sent = 0
        while True:
            is_over = job.stage in TERMINAL
            for line, at in job.lines[sent:]:
                if cut is not None and sent >= cut:
                    raise ConnectionError("the stream is cut, as a test asked for")
                yield f"data: {json.dumps({'data': line, 'timestamp': at})}\n\n".encode()
                sent += 1
            if is_over and sent >= len(job.lines):
                return
            await asyncio.sleep(0.03)

    def _namespace(self, request: Request, *, write: bool = False) -> str:
        user, namespace = self._hub.user(request), request.path_params["ns"]
        if user is None:
            raise self._refusal(401, "Invalid credentials in Authorization header")
        if namespace not in [user["name"], *user["orgs"]] or (write and user["role"] != "write"):
            raise self._refusal(403, f"You don't have the rights to run jobs under {namespace}")
        return namespace

    def _job(self, request: Request, *, write: bool = False) -> Job:
        namespace = self._namespace(request, write=write)
        job = self._host.jobs.get(request.path_params["job_id"])
        if job is None or job.owner != namespace:
            raise self._refusal(404, "Job not found")
        return job


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
