"""The program's own log: plain lines or JSON, without secrets."""

import json
import logging

from codex_space.core import scrub
from codex_space.core.actor import acting


def set_up(log_format: str) -> None:
    """Write the log to standard error, as "text" or "json"."""
    logging.basicConfig(level=logging.INFO)
    formatter = _Json() if log_format == "json" else _Text("%(asctime)s %(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.setFormatter(formatter)
    logging.getLogger("httpx").setLevel(logging.WARNING)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return scrub.clean(super().format(record))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = {"t": round(record.created, 3), "level": record.levelname.lower(), "logger": record.name}
        said |= {"who": acting.get().name, "message": record.getMessage()}
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return scrub.clean(json.dumps(said, ensure_ascii=False))
