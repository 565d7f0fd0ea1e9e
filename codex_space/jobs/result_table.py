"""Results as a table that a spreadsheet opens: CSV whose cells are text or numbers, whatever a model wrote into them."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def render_table(fields: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return those fields of the rows; other fields are left out."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, fields, extrasaction="ignore")
    writer.writeheader()
    writer.writerows({name: _plain(row.get(name)) for name in fields} for row in rows)
    return file.getvalue()


def _plain(value: Any) -> Any:  # noqa: ANN401  # any JSON value
    """Return a cell that a spreadsheet takes for text, and that any file takes."""
    if not isinstance(value, str):
        return value if isinstance(value, int | float | None) else str(value)
    value = value.encode("utf-8", "backslashreplace").decode()
    return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
