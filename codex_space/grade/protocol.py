"""How a model was asked and its answer read: printed with every score, since the same model gets 18 or 66 depending on it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from codex_space.core.errors import EvaluationError

COMPLETION_STOPS = (
    "\ndef ", "\nclass ", "\nimport ", "\nfrom ", "\nassert ", "\nif __name__", "\ndef main(", "\nprint(",
)  # fmt: skip
"""Where a function's completion ends: EvalPlus 0.3.1, provider/utility.py, for base models."""
DOCSTRING_STOPS = ('\n"""', "\nassert")
"""Where the completion of a task given as a docstring ends (InCoder's form of MBPP, as in EvalPlus)."""
CHAT_STOPS = ("\n```\n",)
"""Ends an answer whose block the prefill opened."""

_CHAT_REQUEST = (
    "Please provide a self-contained Python script that solves the following problem in a markdown code block:\n"
    "```\n{prompt}\n```\n"
)
_CHAT_PREFILL = (
    "Below is a Python script with a self-contained function that solves the problem and passes corresponding tests:\n"
    "```python\n"
)


@dataclass(frozen=True)
class Asked:
    """What a model gets: text to continue, or (`chat`) a request and the beginning of its answer."""

    text: str
    prefill: str = ""
    chat: bool = False


def completion(problem: Mapping[str, str]) -> Asked:
    """Return the prompt as it stands, white space at its end included."""
    return Asked(problem["prompt"])


def stripped_completion(problem: Mapping[str, str]) -> Asked:
    """Return the prompt with its outer white space taken away and one line end put back, as EvalPlus and Qwen do."""
    return Asked(problem["prompt"].strip() + "\n")


def chat(problem: Mapping[str, str]) -> Asked:
    """Return EvalPlus's request and prefill (0.3.1, codegen.py); build the prefill with `continue_final_message`."""
    return Asked(_CHAT_REQUEST.format(prompt=problem["prompt"].strip()), _CHAT_PREFILL, chat=True)


def chat_without_prefill(problem: Mapping[str, str]) -> Asked:
    """Return EvalPlus's request alone, for endpoints that take no beginning of an answer."""
    return Asked(_CHAT_REQUEST.format(prompt=problem["prompt"].strip()), chat=True)


def plain_request(problem: Mapping[str, str]) -> Asked:
    """Return the problem's own sentence (`request`), for small models that were taught such sentences."""
    return Asked(problem["request"], chat=True)


def begun_request(problem: Mapping[str, str]) -> Asked:
    """Return the problem's own sentence, the answer begun with the prompt: what is left is to complete it.

    The prompt's last line end stays: a tokenizer that splits as ours and Qwen's do joins it with the docstring's quotes,
    and after any other beginning a model that learnt such tokens goes on with the docstring.
    """
    return Asked(problem["request"], problem["prompt"], chat=True)


PROMPT_FORMS: dict[str, Callable[[Mapping[str, str]], Asked]] = {
    "completion": completion,
    "completion-stripped": stripped_completion,
    "chat": chat,
    "chat-no-prefill": chat_without_prefill,
    "request": plain_request,
    "request-begun": begun_request,
}
"""By the name that a protocol carries."""


def ask(form: str, problem: Mapping[str, str]) -> Asked:
    """Put a problem to a model in the named form.

    Raises:
        EvaluationError: There is no such form, or the problem lacks a field it needs.
    """
    if form not in PROMPT_FORMS:
        raise EvaluationError(f"no prompt form is named {form!r}", cure=f"Known: {', '.join(PROMPT_FORMS)}.")
    try:
        return PROMPT_FORMS[form](problem)
    except KeyError as error:
        where = str(problem.get("task_id", "problem"))
        raise EvaluationError(f"the prompt form {form!r} needs the field {error}", where=where) from error


@dataclass(frozen=True)
class Protocol:
    """All that a pass rate depends on beside the model.

    `template_hash` is "" in completion forms; `dataset_version` names the file the problems came from.
    """

    prompt_form: str
    extraction: str
    stops: tuple[str, ...]
    max_new_tokens: int
    dataset_version: str
    template_hash: str = ""
    num_samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what could not be run as written.

        Raises:
            EvaluationError: A value is out of range, or a greedy run asks for several equal samples.
        """
        if self.prompt_form not in PROMPT_FORMS:
            raise EvaluationError(
                f"no prompt form is named {self.prompt_form!r}", cure=f"Known: {', '.join(PROMPT_FORMS)}."
            )
        if "" in self.stops:
            raise EvaluationError("an empty stop string ends every answer before it begins", cure="Leave it out.")
        if self.max_new_tokens < 1 or self.num_samples < 1:
            raise EvaluationError("there must be at least one new token and one sample")
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise EvaluationError(f"temperature {self.temperature:g} with top-p {self.top_p:g} cannot be sampled from")
        if self.temperature == 0 and self.num_samples > 1:
            raise EvaluationError(
                f"{self.num_samples} greedy samples are all the same", cure="Set a temperature above 0, or one sample."
            )

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken each time."""
        return self.temperature == 0

    def line(self) -> str:
        """Say it all in one line for a person."""
        drawn = "greedy" if self.is_greedy else f"temperature {self.temperature:g}, top-p {self.top_p:g}"
        samples = "" if self.num_samples == 1 else f", {self.num_samples} samples a problem"
        seed = "" if self.is_greedy else f", seed {self.seed}"
        stops = (
            f"{len(self.stops)} stop strings ({' '.join(map(repr, self.stops))})" if self.stops else "no stop string"
        )
        return (
            f"{self.dataset_version}; prompt: {self.prompt_form}; template: {self.template_hash or 'none'}; "
            f"{drawn}{samples}{seed}; at most {self.max_new_tokens:,} new tokens; {stops}; extraction: {self.extraction}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self) | {"stops": list(self.stops)}
