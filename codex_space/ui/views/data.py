"""What the Data tab says: the list, one dataset's rows and facts, and what is wrong with a refused file."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from codex_space.core.errors import CodexError
from codex_space.core.units import render_bytes
from codex_space.data.formats import WORDS
from codex_space.services.datasets import DatasetInfo, Inspection
from codex_space.ui.views.markup import (
    escape,
    render_empty,
    render_facts,
    render_notice,
    render_table,
    render_time,
)

SHORT_CHARS, LONG_CHARS = 280, 20_000


def render_list(found: Sequence[DatasetInfo]) -> str:
    """Return the datasets as buttons; the page marks the chosen one."""
    if not found:
        return render_empty("No dataset yet", "Drop a file above, or name a dataset on the Hub. Both stay here.")
    return "".join(
        f'<button type=button class="cs-item" data-pick="{escape(info.name)}" aria-pressed=false><b>{escape(info.name)}</b>'
        f"<span>{info.num_rows:,} rows · {WORDS[info.format]} · {render_bytes(info.size_bytes)}</span></button>"
        for info in found
    )


def render_title(name: str) -> str:
    """Return the name of the shown dataset, which the page compares with the one it chose."""
    return f'<h2 data-shown="{escape(name)}">{escape(name)}</h2>'


def render_about(info: DatasetInfo) -> str:
    """Return where a dataset came from and how its columns are read."""
    mapping = ", ".join(f"{ours} = {theirs}" for ours, theirs in info.mapping.items()) or "as they are"
    return render_facts(
        [
            ("Rows", f"{info.num_rows:,}"),
            ("Format", WORDS[info.format]),
            ("Columns", " ".join(f"<code>{escape(name)}</code>" for name in info.columns)),
            ("Read as", escape(mapping)),
            ("Size", render_bytes(info.size_bytes)),
            ("Source", escape(info.source)),
            ("Added", render_time(info.created_at)),
            ("SHA-256", f"<code>{escape(info.sha256)}</code>"),
            ("In a recipe", f"<code>dataset:{escape(info.name)}</code>"),
        ]
    )


def render_rows(rows: Iterable[Mapping[str, Any]], offset: int, total: int) -> str:
    """Return rows as cards, long text folded."""
    cards = "".join(_card(number, row) for number, row in enumerate(rows, offset + 1))
    return cards or render_empty("No rows here", f"The dataset has {total:,} rows.")


def page_label(offset: int, count: int, total: int) -> str:
    """Return which rows are shown of how many."""
    return f"Rows {offset + 1:,} to {offset + count:,} of {total:,}" if count else f"{total:,} rows"


def render_kept(info: DatasetInfo) -> str:
    """Return the message after an import."""
    link = f"<a class=cs-link href='#train/dataset/{quote(info.name)}'>Train on it</a>"
    text = f"{info.num_rows:,} rows, {WORDS[info.format]}, {render_bytes(info.size_bytes)}. {link}"
    return render_notice("good", f"{info.name} is ready", text)


def render_refused(error: CodexError) -> str:
    """Return why a file or Hub dataset was not taken."""
    where = f"<b>{escape(error.where)}</b>: " if error.where else ""
    return render_notice("bad", "Not added", f"{where}{escape(error.what)}. {escape(error.cure)}")


def render_problems(name: str, found: Inspection) -> str:
    """Return all that is wrong with a file, with the list as a file to take away."""
    rows = [
        (f"{problem.unit} {problem.line:,}", escape(problem.what), escape(problem.cure)) for problem in found.problems
    ]
    table = render_table(("Where", "What is wrong", "What to do"), rows, "Problems in the file")
    more = found.num_problems - len(found.problems)
    rest = f"<p>{more:,} more problems are not shown.</p>" if more > 0 else ""
    take = (
        f"<a class=cs-link download='{escape(name)}-problems.csv' href='{_as_csv(found)}'>Download this list (CSV)</a>"
    )
    count = f"{found.num_problems:,} problem{'s' if found.num_problems != 1 else ''} in {found.num_rows:,} rows"
    return render_notice("bad", f"{name} was not added: {count}", f"{table}{rest}{take}")


def _as_csv(found: Inspection) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("where", "what", "cure"))
    writer.writerows((f"{problem.unit} {problem.line}", problem.what, problem.cure) for problem in found.problems)
    return f"data:text/csv;charset=utf-8,{quote(text.getvalue())}"


def _card(number: int, row: Mapping[str, Any]) -> str:
    parts = []
    for key, value in row.items():
        if isinstance(value, list):  # messages; an answer's are told from the prompt's by their column
            parts += [_part(_role(key, item), str(item.get("content", ""))) for item in value]
        elif isinstance(value, bool):
            parts.append(_part(key, "good (true)" if value else "bad (false)"))
        elif isinstance(value, str) and value:
            parts.append(_part(key, value))
    return f'<article class="cs-row"><header>{number:,}</header><div>{"".join(parts)}</div></article>'


def _role(key: str, message: Mapping[str, Any]) -> str:
    role = str(message.get("role", "?"))
    return key if key in {"chosen", "rejected"} and role == "assistant" else role


def _part(label: str, text: str) -> str:
    if len(text) <= SHORT_CHARS:
        return f"<div class=cs-part><span>{escape(label)}</span><pre>{escape(text)}</pre></div>"
    shown = escape(text[:LONG_CHARS]) + ("\n[cut]" if len(text) > LONG_CHARS else "")
    head = escape(text[:SHORT_CHARS].rsplit("\n", 1)[0])
    summary = f"<pre>{head}</pre><i>show all {len(text):,} characters</i>"
    return f"<div class=cs-part><span>{escape(label)}</span><details><summary>{summary}</summary><pre>{shown}</pre></details></div>"
