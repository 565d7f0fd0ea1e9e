"""What the Evaluate tab says before and after the press: benchmarks to choose from, and what became of the press."""

from collections.abc import Iterable, Mapping
from typing import Any

from codex_space.core.errors import ModelError, RecipeError
from codex_space.core.recipe import EvaluateRecipe
from codex_space.grade import text_metrics
from codex_space.store.runs import Run
from codex_space.ui.views.markup import escape, render_notice

MODES = [("Auto", "auto"), ("Chat", "chat"), ("Completion", "completion")]
PLACES = [("Here, or on the Hub", "here"), ("On a server", "server")]
FORMS = [
    ("Auto: as the benchmark's published scores are made", "auto"),
    ("Completion: the prompt as it stands", "completion"),
    ("Completion: white space at its ends taken away", "completion-stripped"),
    ("Chat: the answer begun with a code block", "chat"),
    ("Chat: the request alone", "chat-no-prefill"),
    ("Chat: the problem's own sentence", "request"),
    ("Chat: its own sentence, the answer begun with the prompt", "request-begun"),
]
ALL = "all"
METRICS = list(text_metrics.METRICS)
USUAL_METRICS = EvaluateRecipe.model_fields["metrics"].default


def choices_of(benchmarks: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return (label, name) of the benchmarks for a menu."""
    return [(f"{each['title']}{_size(each['num_problems'])}", each["name"]) for each in benchmarks]


def render_about(benchmarks: Iterable[Mapping[str, Any]], name: str | None) -> str:
    """Return the sentence about one benchmark, nothing for one that is not known."""
    about = next((each["about"] for each in benchmarks if each["name"] == name), "")
    return f"<p class=cs-note>{escape(about)}</p>" if about else ""


def what_is_asked(*, on_space: bool) -> str:
    """Return the sentence that says which addresses may be given."""
    if on_space:
        return (
            "What comes before /chat/completions. This Space asks servers over https at public addresses only: its own machine "
            "and the networks behind it are refused. Prompt: chat asks by messages, all else by completions."
        )
    return (
        "What comes before /chat/completions: http://127.0.0.1:8080/v1 for one on this machine; any address that this machine "
        "reaches may be asked. Prompt: chat asks by messages, all else by completions."
    )


def read_served(url: str | None, model: str | None) -> str:
    """Return the name of the model on a server.

    Raises:
        ModelError: It or the address is missing.
    """
    if not (url or "").strip():
        raise ModelError("no server is named", where="Address", cure="Write what its documentation calls base URL.")
    if not (model or "").strip():
        raise ModelError("no model is named", where="Model", cure="Write what the server calls it.")
    return str(model).strip()


def read_limit(text: str) -> int | None:
    """Return how many problems a person wants, None for all of them.

    Raises:
        RecipeError: It is neither a whole number above zero nor `all`.
    """
    asked = text.strip().lower()
    if asked in {"", ALL}:
        return None
    if asked.isascii() and asked.isdigit() and len(asked) < 7 and int(asked):
        return int(asked)
    raise RecipeError(f"{text.strip()[:40]!r} is no number of problems", where="Problems", cure="Write all, or 20.")


def render_started(run: Run) -> str:
    """Return the message after the press."""
    link = f"<a class=cs-link href='#evaluate/{escape(run.id)}'>Show it</a>"
    state = "is in the queue" if run.state == "queued" else "has been started already"
    return render_notice("good", f"{run.name} {state}", f"It can be left and found again in the list. {link}")


def _size(num_problems: int | None) -> str:
    return f" · {num_problems:,} problems" if num_problems else ""
