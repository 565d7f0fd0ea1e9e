"""What can be exported, and whether what that needs is set up: llama-cpp-python with llama.cpp's converter beside it (scripts/export_tools.py)."""

import importlib.util
from pathlib import Path

from codex_space.core.errors import ModelError

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "starcoder2", "smollm3", "gpt2", "gpt_neox")
"""Model types whose files were proven equal to the model (tests/work/test_export.py)."""
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
