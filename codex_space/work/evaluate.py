"""Ask a model the problems of a benchmark, or measure it on rows: base models, full checkpoints, adapters on their base, in 4 bits too."""

from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from codex_space.core.errors import ModelError
from codex_space.core.recipe import EvaluateRecipe
from codex_space.core.sections import ModelSection
from codex_space.work import bases, measure, models, templates
from codex_space.work.attempt import Attempt
from codex_space.work.benchmark import Examination
from codex_space.work.gguf_model import TOKENIZER, GgufModel

Asked = Examination | measure.Texts | measure.Answers


def run(attempt: Attempt) -> None:
    """Write the answers the recipe asks for.

    Raises:
        CodexError: Why it cannot start or go on.
    """
    recipe = attempt.recipe
    assert isinstance(recipe, EvaluateRecipe)  # noqa: S101  # narrows the type
    asked = _read(attempt, recipe)
    ref = recipe.model.model_name_or_path
    attempt.say("phase", phase="model", detail=f"loading {ref}")
    file = attempt.references.get(ref, ref)
    if file.endswith(".gguf"):
        count = _ask_file(attempt, asked, file)
    else:
        count = _ask(attempt, asked, *_load(attempt, recipe.model))
    if count is not None:
        stopped = {"stopped": True} if count < asked.num_answers else {}
        attempt.say("done", step=count, summary={}, **stopped)


def _ask_file(attempt: Attempt, asked: Asked, file: str) -> int | None:
    """Ask a GGUF file, through llama.cpp and with the tokenizer of the model it was made of: they were proven equal.

    Raises:
        ModelError: It is not asked a benchmark, or its tokenizer is gone.
    """
    if not isinstance(asked, Examination):
        raise ModelError(
            "a GGUF file is asked benchmarks only", where="benchmark", cure="Measure the model it was made of."
        )
    tokenizer = models.load_tokenizer(str(Path(file).parent / TOKENIZER))
    return _ask(attempt, asked, GgufModel(file, attempt.num_threads), tokenizer)


def _ask(attempt: Attempt, asked: Asked, model: Any, tokenizer: PreTrainedTokenizerBase) -> int | None:  # noqa: ANN401  # of either library
    """Return how many answers were written, None where only the preflight was asked for."""
    attempt.say("ready", max_steps=asked.num_answers)
    if attempt.check_only:
        return None
    attempt.stop.is_training = True

    def say_progress(count: int) -> None:
        attempt.say("log", step=count, metrics={})

    return asked.run(model, tokenizer, 0, say_progress)


def _read(attempt: Attempt, recipe: EvaluateRecipe) -> Asked:
    if recipe.benchmark == "perplexity":
        return measure.Texts(attempt)
    if recipe.benchmark == "answers":
        return measure.Answers(attempt)
    drawn = {"num_samples": recipe.num_samples, "temperature": recipe.temperature, "top_p": recipe.top_p}
    return Examination(attempt, recipe.benchmark, recipe, drawn)


def _load(attempt: Attempt, section: ModelSection) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load what is asked; an adapter stays one, as the playground hears it."""
    ref = section.model_name_or_path
    source = (
        models.Source(attempt.references[ref], ref)
        if ref in attempt.references
        else bases.locate(attempt, section, merge=False)
    )
    path = source.path
    dtype = models.choose_dtype(section, adapters=True)
    kwargs: dict[str, Any] = {
        "dtype": dtype,
        "attn_implementation": section.attn_implementation,
        "quantization_config": models.quantization(section),
        "device_map": models.device_map() if section.load_in_4bit else None,
    }
    tokenizer = models.load_tokenizer(path, source.revision)
    if models.is_adapter(path):
        model = cast("PreTrainedModel", models.load_adapter(path, **kwargs))
    else:
        model = models.load_model(path, revision=source.revision, **kwargs)
    if not section.load_in_4bit and torch.cuda.is_available():
        model = model.to("cuda")
    if tokenizer.chat_template:
        models.add_stop_token(model, templates.stop_id(tokenizer))
    return model.eval(), tokenizer
