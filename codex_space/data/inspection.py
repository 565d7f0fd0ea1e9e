"""Read a whole file once and say what it is and everything that is wrong with it."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from codex_space.core.errors import DataError
from codex_space.data.formats import PEEK_ROWS, Format, Row, Shape, check_row, normalize, shape_of
from codex_space.data.read import Flaw, scan_rows, unit

PREVIEW_ROWS = 5


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong; `unit` says what `line` counts, "line" or "row"."""

    line: int
    what: str
    cure: str
    unit: str = "line"


@dataclass(frozen=True)
class Inspection:
    """What a file holds.

    Attributes:
        format: None where no format fits.
        mapping: Our column name to the file's.
        num_rows: Rows read, bad ones included.
        problems: The first ones; `num_problems` counts all.
        preview: The first good rows under our own column names.
    """

    path: Path
    format: Format | None
    mapping: dict[str, str]
    columns: list[str]
    num_rows: int
    size_bytes: int
    num_problems: int
    problems: list[Problem] = field(default_factory=list)
    preview: list[Row] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether every row can be trained on."""
        return self.num_rows > 0 and not self.num_problems


def inspect_file(path: Path, columns: Mapping[str, str] | None = None, max_problems: int = 100) -> Inspection:
    """Read every row in bounded memory and collect what is wrong.

    Raises:
        DataError: There is no such file, its type is not known, or `columns` names one that is not there.
    """
    rows = scan_rows(path)
    first = list(itertools.islice(rows, PEEK_ROWS))
    good = [row for _, row in first if not isinstance(row, Flaw)]
    shape, misfit = _recognise(good, columns)
    problems: list[Problem] = []
    preview: list[Row] = []
    num_rows = num_problems = 0
    for number, row in itertools.chain(first, rows):
        num_rows += not (isinstance(row, Flaw) and row.fatal)
        problem = _problem(path, number, row, shape)
        if problem is None and shape is not None and not isinstance(row, Flaw) and len(preview) < PREVIEW_ROWS:
            preview.append(normalize(row, shape))
        if problem is not None:
            num_problems += 1
            if len(problems) < max_problems:
                problems.append(problem)
    if not num_rows and not num_problems:
        misfit = Problem(1, "the file holds no row", "Choose a file with rows in it.")
    if misfit:
        problems, num_problems = [misfit, *problems][:max_problems], num_problems + 1
    return Inspection(
        path=path,
        format=shape.format if shape else None,
        mapping=dict(shape.columns) if shape else {},
        columns=list(dict.fromkeys(name for row in good for name in row)),
        num_rows=num_rows,
        size_bytes=path.stat().st_size,
        num_problems=num_problems,
        problems=problems,
        preview=preview,
    )


def _recognise(good: list[Row], columns: Mapping[str, str] | None) -> tuple[Shape | None, Problem | None]:
    if not good:
        return None, None
    try:
        return shape_of(good, columns), None
    except DataError as error:
        if columns:
            raise
        return None, Problem(1, error.what, error.cure)


def _problem(path: Path, number: int, row: Row | Flaw, shape: Shape | None) -> Problem | None:
    if isinstance(row, Flaw):
        return Problem(number, row.what, row.cure, row.unit or unit(path))
    wrong = check_row(row, shape) if shape else None
    return Problem(number, wrong, "Mend or remove this row.", unit(path)) if wrong else None
