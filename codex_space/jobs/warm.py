"""A child process that keeps a model loaded and answers over its standard input and output, one JSON object a line.

Several may ask at once: every reply names its question. It may crash (out of memory, a broken file): the next question starts
a new one, and nobody else is hurt. It ends by itself when its standard input closes, so a killed page leaves none behind.
"""

import contextlib
import itertools
import json
import queue
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codex_space.core.errors import CodexError, ModelError
from codex_space.jobs.process import give_way

Reply = dict[str, Any]


@dataclass
class _Question:
    """One that is being answered; None among its replies says that the process has ended."""

    asker: str
    replies: queue.SimpleQueue[Reply | None] = field(default_factory=queue.SimpleQueue)


@dataclass
class _Child:
    """One process and who waits for it; it is over once all it said has been handed out."""

    process: "subprocess.Popen[bytes]"
    questions: dict[int, _Question] = field(default_factory=dict)
    is_over: bool = False
    is_closed: bool = False  # ended by us


class WarmWorker:
    """One process for any number of threads."""

    def __init__(self, command: list[str], environ: Mapping[str, str], log: Path) -> None:
        """Remember how to start it; nothing runs until then or the first question."""
        self._command, self._environ, self._log = command, dict(environ), log
        self._child: _Child | None = None
        self._lock = threading.Lock()
        self._ids = itertools.count(1)

    @property
    def pid(self) -> int | None:
        """The live process, None where there is none."""
        child = self._child
        return child.process.pid if child and child.process.poll() is None else None

    def start(self) -> None:
        """Start the process, so that the first question need not wait for what it imports.

        Raises:
            ModelError: It cannot be started.
        """
        with self._lock:
            self._started()

    def ask(self, op: str, asker: str = "", **fields: Any) -> Iterator[Reply]:  # noqa: ANN401  # any JSON value
        """Send one request and yield its replies up to the one that says `done`; leaving the loop stops it.

        Raises:
            CodexError: What the worker says is wrong.
            ModelError: The worker died; the next request starts a new one.
        """
        number, question = next(self._ids), _Question(asker)
        with self._lock:
            child = self._started()
            child.questions[number] = question
            is_sent = self._send(child, {"id": number, "op": op, **fields})
        is_over = False
        try:
            if not is_sent:
                raise self._died(child)
            while not is_over:
                reply = question.replies.get()
                is_over = reply is None or "error" in reply or bool(reply.get("done"))
                if reply is None:
                    raise self._died(child)
                if "error" in reply:
                    told = reply["error"]
                    raise CodexError(told["what"], where=told["where"], cure=told["cure"])
                yield reply
        finally:
            with self._lock:
                del child.questions[number]
                if not is_over:  # the reader went away
                    self._send(child, {"op": "stop", "id": number})

    def stop(self, asker: str = "") -> None:
        """Ask the worker to end what it is writing for this asker."""
        with self._lock:
            child = self._child
            if child is not None:
                for number in [number for number, one in child.questions.items() if one.asker == asker]:
                    self._send(child, {"op": "stop", "id": number})

    def close(self) -> None:
        """End the process and give back its memory; who waits for it is told that it ended."""
        with self._lock:
            if self._child is not None:
                self._child.is_closed = True
            self._end()

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.process.kill()
            child.process.wait()
            if child.process.stdin:
                with contextlib.suppress(OSError):  # what it was no longer there to read
                    child.process.stdin.close()

    def _started(self) -> _Child:
        if self._child is None or self._child.is_over or self._child.process.poll() is not None:
            self._end()
            try:
                with self._log.open("ab") as log:
                    process = subprocess.Popen(
                        self._command,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=log,
                        env=self._environ,
                        start_new_session=True,
                    )
            except OSError as error:
                raise ModelError(f"the model's process could not be started ({error})") from error
            give_way(process.pid)
            self._child = _Child(process)
            threading.Thread(target=self._hand_out, args=(self._child,), name="replies", daemon=True).start()
        return self._child

    def _send(self, child: _Child, request: dict[str, Any]) -> bool:
        """Return whether the process is there to read it."""
        try:
            assert child.process.stdin is not None  # noqa: S101  # opened with a pipe above
            child.process.stdin.write(json.dumps(request).encode() + b"\n")
            child.process.stdin.flush()
        except (OSError, ValueError):
            return False
        return True

    def _hand_out(self, child: _Child) -> None:
        """Give every reply to whoever asked; what nobody waits for any more is passed over."""
        assert child.process.stdout is not None  # noqa: S101  # opened with a pipe above
        with child.process.stdout as lines:
            for line in lines:
                try:
                    reply = json.loads(line)
                except ValueError:  # a last line that was cut off
                    continue
                with self._lock:
                    question = child.questions.get(reply.get("id"))
                if question is not None:
                    question.replies.put(reply)
        with self._lock:
            child.is_over = True
            for question in child.questions.values():
                question.replies.put(None)

    def _died(self, child: _Child) -> ModelError:
        code = child.process.wait()
        if child.is_closed:
            return ModelError("the model was unloaded meanwhile", cure="Ask again: it is loaded anew.")
        why = f"by signal {-code} (often: out of memory)" if code < 0 else f"with code {code}"
        return ModelError(f"the model's process ended {why}", cure="Ask again: a new one is started.")
