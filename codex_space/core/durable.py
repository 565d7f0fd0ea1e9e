"""Files that are either the old or the new text after a crash, never half of one."""

import json
import os
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Write to a temporary file, flush to disk, rename over `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401  # any JSON value
    """Write one JSON document durably."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True))


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in `path`, or None where there is no readable one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    return value if isinstance(value, dict) else None
