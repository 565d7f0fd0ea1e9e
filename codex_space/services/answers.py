"""What the Hub said a moment ago: one question a minute however many ask it, and no longer a wait than one wants."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from codex_space.core.errors import CodexError, HubBusyError

KEPT_S = 60.0
ERROR_KEPT_S = 5.0
"""A refusal may be mended at any moment; asked again at every look it would use up the Hub's rate limit."""

_T = TypeVar("_T")


class Answers:
    """Answers by question, kept in memory."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._asked: dict[str, _Asked] = {}
        self._lock = threading.Lock()

    def get(self, key: str, ask: Callable[[], _T], clock: Callable[[], float], *, wait_s: float | None = None) -> _T:
        """Return what `ask` returned or raised lately; whoever comes while it is being asked waits for the same answer.

        Raises:
            CodexError: As `ask` raised it.
            HubBusyError: `wait_s` after it was asked there was no answer; it is there for a later question.
        """
        with self._lock:
            known = self._asked.get(key)
            if known is None or not known.is_fresh(clock()):
                known = self._asked[key] = _Asked(ask, clock)
        return known.wait(wait_s)

    def forget(self, key: str) -> None:
        """Ask anew at the next question: something was changed."""
        with self._lock:
            self._asked.pop(key, None)


class _Asked:
    """One question on its way, or its answer."""

    def __init__(self, ask: Callable[[], Any], clock: Callable[[], float]) -> None:
        self._answer: Future[Any] = Future()
        self._at, self._kept_s, self._began = 0.0, 0.0, time.monotonic()
        threading.Thread(target=self._run, args=(ask, clock), name="hub question", daemon=True).start()

    def _run(self, ask: Callable[[], Any], clock: Callable[[], float]) -> None:
        try:
            found, error, self._kept_s = ask(), None, KEPT_S
        except CodexError as caught:
            found, error, self._kept_s = None, caught, ERROR_KEPT_S
        except BaseException as caught:  # noqa: BLE001  # a bug, which whoever asked raises
            found, error = None, caught
        self._at = clock()
        if error is None:
            self._answer.set_result(found)
        else:
            self._answer.set_exception(error)

    def is_fresh(self, now: float) -> bool:
        return not self._answer.done() or 0 <= now - self._at < self._kept_s

    def wait(self, wait_s: float | None) -> Any:  # noqa: ANN401  # as asked
        left_s = None if wait_s is None else max(0.0, wait_s - (time.monotonic() - self._began))
        try:
            return self._answer.result(left_s)
        except TimeoutError:
            if self._answer.done():
                raise
            cure = "It is still being asked; look again in a moment."
            raise HubBusyError("the Hub takes long to answer", where="Hub", cure=cure) from None
