"""A child process that keeps a model loaded and answers over its standard input and output, one JSON object a line.

It may crash (out of memory, a broken file): the next question starts a new one, and nobody else is hurt. It ends by
itself when its standard input closes, so a killed page leaves none behind.
"""

import itertools
import json
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from codex_space.core.errors import CodexError, ModelError


class WarmWorker:
    """One process, one question at a time; `stop` may come from another thread."""

    def __init__(self, command: list[str], environ: Mapping[str, str], log: Path) -> None:
        """Remember how to start it; nothing runs until the first question."""
        self._command, self._environ, self._log = command, dict(environ), log
        self._process: subprocess.Popen[bytes] | None = None
        self._asking = threading.Lock()
        self._ids = itertools.count(1)
        self._current = 0

    @property
    def pid(self) -> int | None:
        """The live process, None where there is none."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def ask(self, op: str, **fields: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401  # any JSON value
        """Send one request and yield its replies up to the one that says `done`.

        Raises:
            CodexError: What the worker says is wrong.
            ModelError: The worker died; the next request starts a new one.
        """
        with self._asking:
            process = self._started()
            self._current = number = next(self._ids)
            self._send(process, {"id": number, "op": op, **fields})
            is_over = False
            try:
                for reply in self._replies(process, number):
                    is_over = bool(reply.get("done"))
                    yield reply
            except GeneratorExit:  # the reader went away
                if not is_over:
                    self._drain(process, number)
                raise

    def stop(self) -> None:
        """Ask the worker to end the answer it is writing."""
        process = self._process
        if process is not None and process.poll() is None:
            self._send(process, {"op": "stop", "id": self._current})

    def close(self) -> None:
        """End the process and give back its memory."""
        process, self._process = self._process, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()
            process.kill()
            process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            try:
                with self._log.open("ab") as log:
                    self._process = subprocess.Popen(
                        self._command,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=log,
                        env=self._environ,
                        start_new_session=True,
                    )
            except OSError as error:
                raise ModelError(f"the model's process could not be started ({error})") from error
        return self._process

    def _send(self, process: subprocess.Popen[bytes], request: dict[str, Any]) -> None:
        try:
            assert process.stdin is not None  # noqa: S101  # opened with a pipe above
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        except (BrokenPipeError, ValueError) as error:
            raise self._died(process) from error

    def _replies(self, process: subprocess.Popen[bytes], number: int) -> Iterator[dict[str, Any]]:
        assert process.stdout is not None  # noqa: S101  # opened with a pipe above
        for line in process.stdout:
            reply = json.loads(line)
            if reply.get("id") != number:
                continue  # the rest of an answer nobody waits for
            if "error" in reply:
                raise CodexError(reply["error"]["what"], where=reply["error"]["where"], cure=reply["error"]["cure"])
            yield reply
            if reply.get("done"):
                return
        raise self._died(process)

    def _drain(self, process: subprocess.Popen[bytes], number: int) -> None:
        """Stop the answer and read it to its end, so that the next question finds a clear line."""
        try:
            self._send(process, {"op": "stop", "id": number})
            for _ in self._replies(process, number):
                pass
        except CodexError:
            return

    def _died(self, process: subprocess.Popen[bytes]) -> ModelError:
        code = process.wait()
        self._process = None
        why = f"by signal {-code} (often: out of memory)" if code < 0 else f"with code {code}"
        return ModelError(f"the model's process ended {why}", cure="Ask again: a new one is started.")
