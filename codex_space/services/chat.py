"""Chat with any checkpoint or base model through the playground's warm worker."""

import contextlib
import os
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from codex_space.core import durable
from codex_space.core.errors import ModelError
from codex_space.core.quants import ADAPTER
from codex_space.core.shared_recipe import WRITING_KINDS
from codex_space.jobs import references
from codex_space.jobs.launch import worker_environ
from codex_space.jobs.process import identify
from codex_space.jobs.warm import WarmWorker
from codex_space.services import exports
from codex_space.services.context import Context
from codex_space.services.models import list_gpus
from codex_space.store import runs as run_rows

MAX_NEW_TOKENS = 2048
AT_ONCE = 16
"""Answers that are written beside each other: each keeps what the model has read of its conversation in memory."""


@dataclass(frozen=True)
class ChatSource:
    """One model to talk to."""

    label: str
    ref: str


@dataclass(frozen=True)
class ChatDelta:
    """A piece of an answer; the last one has `done` and the speed."""

    text: str
    done: bool = False
    num_tokens: int = 0
    tokens_per_s: float = 0.0


class Chat:
    """One warm worker for all visitors, who are answered beside each other as long as they ask the same model."""

    def __init__(self, ctx: Context) -> None:
        """Start nothing yet."""
        self._ctx = ctx
        environ = worker_environ(ctx.settings.environ, num_threads=len(os.sched_getaffinity(0)), offline=False)
        command = [sys.executable, "-m", "codex_space.work.chat"]
        self._worker = WarmWorker(command, environ, ctx.workspace.root / "chat.log")
        self._loaded: tuple[str, int | None] = "", None  # what, and in which process
        self._turn = threading.Condition()
        self._line: deque[object] = deque()  # who has not begun, first come first
        self._num_answers = 0
        self._waiting: dict[str, threading.Event] = {}  # by asker; set where that one's answer is to end
        self._has_gpu = bool(list_gpus())

    def sources(self, *, files: bool = False) -> list[ChatSource]:
        """Return every run's checkpoints, newest run and step first; with `files` the GGUF files made of them too."""
        found: list[ChatSource] = []
        for run in run_rows.list_runs(self._ctx.db, limit=200):
            made = exports.read(self._ctx, run.id)["files"] if files and run.kind == "export" else []
            found += [
                ChatSource(f"{run.name} · {row['type']} (GGUF)", f"{references.GGUF}{run.id}/{row['path']}")
                for row in made
                if row["passed"] and row["type"] != ADAPTER
            ]
            if run.kind not in WRITING_KINDS:
                continue
            steps = self._ctx.workspace.job(run.id).checkpoint_steps()
            found += [
                ChatSource(f"{run.name} · step {step:,}", f"run:{run.id}@step-{step}") for step in reversed(steps)
            ]
        return found

    def stream(
        self,
        ref: str,
        messages: list[dict[str, str]],
        *,
        asker: str = "",
        max_new_tokens: int = 256,
        temperature: float = 0.7,
        top_p: float = 0.95,
    ) -> Iterator[ChatDelta]:
        """Yield an answer piece by piece; leaving the loop stops the model.

        Args:
            ref: What to talk to, as `sources` names it.
            messages: The conversation, its question last.
            asker: Whoever may `stop` it: the page's session.
            max_new_tokens: Longest answer.
            temperature: 0 always takes the likeliest token.
            top_p: Share of the likeliest tokens that are drawn from.

        Raises:
            ModelError: The model cannot be loaded, or its process died.
            RunError: There is no such run.
        """
        self._require_free_gpu()
        path = references.resolve_model(self._ctx.workspace, ref)
        stopped = self._waiting[asker] = threading.Event()
        asked = {
            "messages": messages,
            "max_new_tokens": max(1, min(int(max_new_tokens), MAX_NEW_TOKENS)),
            "temperature": float(temperature),
            "top_p": float(top_p),
        }
        try:
            with self._loaded_meanwhile(path):
                if stopped.is_set():  # asked while others had their turn or the model was loading
                    yield ChatDelta("", done=True)
                    return
                for reply in self._worker.ask("generate", asker, **asked):
                    if reply.get("done"):
                        yield ChatDelta("", True, int(reply.get("tokens", 0)), float(reply.get("tokens_per_s", 0.0)))
                        continue
                    if stopped.is_set():  # perhaps just before the question was sent
                        self._worker.stop(asker)
                    yield ChatDelta(str(reply.get("text", "")))
        finally:
            if self._waiting.get(asker) is stopped:
                del self._waiting[asker]

    @contextlib.contextmanager
    def _loaded_meanwhile(self, path: str) -> Generator[None]:
        """Keep that model loaded meanwhile; who wants another one waits until no answer is being written, and all later ones too."""
        ticket = object()
        with self._turn:
            self._line.append(ticket)
            try:
                self._turn.wait_for(
                    lambda: self._line[0] is ticket and (not self._num_answers or self._is_loaded(path))
                )
                if not self._is_loaded(path):
                    self._loaded = "", None
                    self._hold(path)
                    for _ in self._worker.ask("load", ref=path):
                        pass
                    self._loaded = path, self._worker.pid
                self._num_answers += 1
            finally:
                self._line.remove(ticket)
                self._turn.notify_all()
        try:
            yield
        finally:
            with self._turn:
                self._num_answers -= 1
                self._turn.notify_all()

    def _is_loaded(self, path: str) -> bool:
        return self._loaded == (path, self._worker.pid)

    def prepare(self) -> None:
        """Start the worker because somebody may ask soon; no model is loaded."""
        with contextlib.suppress(ModelError):  # whoever asks is told
            self._worker.start()

    def stop(self, asker: str = "") -> None:
        """End the answer that is being written for this asker, and nobody else's."""
        if stopped := self._waiting.get(asker):
            stopped.set()
        self._worker.stop(asker)

    def release(self) -> None:
        """Unload the model, so that a run has the GPU to itself."""
        self._worker.close()
        self._loaded = "", None
        self._ctx.workspace.chatting(os.getpid()).unlink(missing_ok=True)

    close = release

    def make_way(self) -> None:
        """Unload the model where a run is about to take, or has taken, the GPU."""
        if (
            self._loaded[0]
            and self._has_gpu
            and run_rows.count_runs(self._ctx.db, states=tuple(run_rows.ACTIVE), place="local")
        ):
            self.release()

    def _hold(self, path: str) -> None:
        """Note what is about to be loaded, so that clean-up leaves it alone while this process lives."""
        if me := identify(os.getpid()):
            durable.write_json(self._ctx.workspace.chatting(me.pid), {**vars(me), "path": path})

    def _require_free_gpu(self) -> None:
        if not self._has_gpu:
            return
        for run in run_rows.list_runs(self._ctx.db, limit=1, states=tuple(sorted(run_rows.ACTIVE)), place="local"):
            raise ModelError(f"the GPU is training {run.name!r}", cure="Chat is back when that run has ended.")
