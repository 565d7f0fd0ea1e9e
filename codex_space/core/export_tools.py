"""Whether what exports need is set up: llama-cpp-python with llama.cpp's converter beside it (scripts/export_tools.py)."""

import importlib.util
from pathlib import Path

from codex_space.core.errors import ModelError

CURE = "Run `make export-tools` (some minutes, once); on a Space the image holds it."


def find_converter() -> Path | None:
    """Return the folder of llama.cpp's converter, None where it is not set up; nothing is imported."""
    found = importlib.util.find_spec("llama_cpp")
    folder = Path(found.origin).parent / "converter" if found and found.origin else None
    return folder if folder and (folder / "built.json").is_file() else None


def require_converter() -> Path:
    """Return the converter's folder.

    Raises:
        ModelError: It is not set up.
    """
    if found := find_converter():
        return found
    raise ModelError("llama.cpp is not set up on this machine", where="export", cure=CURE)
