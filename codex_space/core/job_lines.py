"""How a Hugging Face Job tells its control room what happens: marked lines in its log, numbered from 1.

The log is the only way home that needs no further service. It can lose, cut and repeat lines, so each says its number;
what is no whole marked line is log text. Lines of the worker's log go behind a bar, so that none can pass for marked.
"""

import json
from collections.abc import Mapping
from typing import Any

MARK = "::codex-space:: "
BAR = "| "
MAX_CHARS = 1 << 16
TOLD = frozenset({"attempt", "phase", "ready", "probe", "log", "checkpoint", "warning", "failed", "done"})
"""Events of a worker that are passed on; its samples stay with the Job, which grades them itself."""
OWN = frozenset({"upload", "evaluation", "end"})
"""Said by the owner in the Job alone:

    upload      {step, upload, error, commit_id}      a checkpoint's way to the Hub
    evaluation  {step, benchmark, state, reason, protocol, num_samples, num_graded, num_passed, scores}
    end         {state, reason}                       the run is over and its uploads too
"""


def render_line(number: int, event: Mapping[str, Any]) -> str:
    """Return one event as a line, ASCII only."""
    return MARK + json.dumps({"n": number, "event": event})


def read_line(line: str) -> tuple[int, dict[str, Any]] | None:
    """Return number and event of a marked line, None where it is log text, cut off, or not ours."""
    if not line.startswith(MARK) or len(line) > MAX_CHARS:
        return None
    try:
        value = json.loads(line[len(MARK) :])
    except (ValueError, RecursionError):
        return None
    number, event = (value.get("n"), value.get("event")) if isinstance(value, dict) else (None, None)
    if isinstance(number, bool) or not isinstance(number, int) or number < 1 or not isinstance(event, dict):
        return None
    kind = event.get("e")
    return (number, event) if isinstance(kind, str) and kind in TOLD | OWN else None
