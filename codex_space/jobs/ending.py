"""What became of a worker that has ended, in one word and one sentence for a person."""

import signal
from collections.abc import Mapping, Sequence
from typing import Any

from codex_space.store.runs import Run


def judge(  # noqa: PLR0911  # one line a case
    run: Run, record: Mapping[str, Any] | None, steps: Sequence[int]
) -> tuple[str, str]:
    """Return (state, reason) from what the shim recorded (None: nothing) and what the worker said of itself.

    Args:
        run: Its `verdict` is the worker's own word, its `intent` what the owner was doing to it.
        record: exit.json.
        steps: Complete checkpoints on disk, oldest first.
    """
    kept = f" It can go on from step {steps[-1]:,}." if steps and steps[-1] else ""
    code = record.get("code") if record else None
    match (run.intent, run.verdict, code):
        case (_, "done", 0):
            return "succeeded", run.reason
        case ("cancel", _, _):
            return "stopped", f"{run.intent_reason or 'Cancelled.'}{kept}"
        case ("yield", _, _):
            return "stopped", f"Another machine has taken it up and trains it now.{kept}"
        case ("interrupt", _, _):
            return "lost", f"It was interrupted: the page was asked to end.{kept}"
        case _ if record is None:
            return "lost", f"Its process vanished: the machine was restarted, or something killed all of it.{kept}"
        case (_, "failed", _):
            return "failed", run.reason
        case (intent, "stopped", 0 | 1):  # torchrun ends with 1 after a signal, though its workers have saved
            asked = run.intent_reason or "Stopped as asked."
            return "stopped", f"{asked if intent else 'Stopped by a signal from outside.'}{kept}"
        case ("stop", _, _):
            return "stopped", f"It did not stop by itself and was ended.{kept}"
    return "failed", f"{_describe(record)}{kept}"


def _describe(record: Mapping[str, Any]) -> str:
    number = record.get("signal")
    if number == signal.SIGKILL:
        return "The worker was killed by signal 9 (often: out of memory)."
    if isinstance(number, int) and 0 < number < signal.NSIG:
        return f"The worker was killed by signal {number} ({signal.strsignal(number) or 'unknown'})."
    return f"The worker ended with code {record.get('code')!r:.40} and did not say why; read the end of its log."
