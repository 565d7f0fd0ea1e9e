"""One module a benchmark; each registers what it reads and what it is offered as, and being in this folder is enough to be known."""

import importlib
import pkgutil

from codex_space.core.errors import GradeError
from codex_space.grade.problems import BENCHMARKS, Benchmark


def load_all() -> None:
    """Import every module here, so that what it registers is known."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


def find(name: str) -> Benchmark:
    """Return the benchmark of that name.

    Raises:
        GradeError: There is none; the known names are told.
    """
    load_all()
    if name not in BENCHMARKS:
        raise GradeError(f"there is no benchmark {name!r}", cure=f"Known: {', '.join(sorted(BENCHMARKS))}.")
    return BENCHMARKS[name]
