"""Ask a model the problems of a benchmark, or measure it on rows: base models, full checkpoints, adapters on their base, in 4 bits too."""

from typing import Any, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from codex_space.core.recipe import EvaluateRecipe, ModelSection
from codex_space.work import measure, models, templates
from codex_space.work.attempt import Attempt
from codex_space.work.benchmark import Examination


def run(attempt: Attempt) -> None:
    """Write the answers the recipe asks for.

    Raises:
        CodexError: Why it cannot start or go on.
    """
    recipe = attempt.recipe
    assert isinstance(recipe, EvaluateRecipe)  # noqa: S101  # narrows the type
    asked = _read(attempt, recipe)
    attempt.say("phase", phase="model", detail=f"loading {recipe.model.model_name_or_path}")
    model, tokenizer = _load(attempt, recipe.model)
    attempt.say("ready", max_steps=asked.num_answers)
    if attempt.check_only:
        return
    attempt.stop.is_training = True

    def say_progress(count: int) -> None:
        attempt.say("log", step=count, metrics={})

    count = asked.run(model, tokenizer, 0, say_progress)
    stopped = {"stopped": True} if count < asked.num_answers else {}
    attempt.say("done", step=count, summary={}, **stopped)


def _read(attempt: Attempt, recipe: EvaluateRecipe) -> Examination | measure.Texts | measure.Answers:
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
        else models.locate(attempt, section, merge=False)
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
