"""Ask a model on an OpenAI-compatible server the problems of a benchmark, and leave its answers for the owner to grade."""

from codex_space.core.errors import EvaluationError
from codex_space.core.recipe import EvaluateRecipe
from codex_space.core.settings import ENDPOINT_KEY, read_key
from codex_space.grade import library
from codex_space.grade.endpoint import Endpoint, answers, protocol_of
from codex_space.grade.library import SAMPLES
from codex_space.work.answers import begin_answers, end_answers, load_problems
from codex_space.work.attempt import Attempt


def run(attempt: Attempt) -> None:
    """Write the answers the recipe asks for.

    Raises:
        CodexError: Why it cannot start or go on.
    """
    recipe = attempt.recipe
    assert isinstance(recipe, EvaluateRecipe)  # noqa: S101  # narrows the type
    assert recipe.endpoint is not None  # noqa: S101  # as above
    loaded = load_problems(attempt, recipe.benchmark)
    wanted = len(loaded.problems) * recipe.num_samples
    attempt.say("ready", max_steps=wanted)
    if attempt.check_only:
        return
    key = read_key(ENDPOINT_KEY)
    if recipe.endpoint.has_key and key is None:
        what = "its key is gone: a key is held in memory until the run starts, and never written down"
        raise EvaluationError(what, where=recipe.endpoint.url, cure="Evaluate again and give the key.")
    attempt.stop.is_training = True
    endpoint = Endpoint(
        recipe.endpoint.url,
        recipe.model.model_name_or_path,
        key,
        chat=recipe.mode == "chat",
        timeout_s=recipe.endpoint.timeout_s,
        concurrency=recipe.endpoint.concurrency,
        public_only=attempt.public_only,
    )
    drawn = {"num_samples": recipe.num_samples, "temperature": recipe.temperature, "top_p": recipe.top_p}
    drawn["seed"] = recipe.seed
    protocol = protocol_of(endpoint, library.find(recipe.benchmark), loaded, recipe.max_new_tokens, drawn)
    folder = begin_answers(attempt, recipe.benchmark, 0, wanted, protocol.as_dict(), protocol.line())
    count = 0
    for _ in answers(endpoint, protocol, loaded, folder / SAMPLES, is_stop_asked=attempt.is_stop_asked):
        count += 1
        attempt.say("log", step=count, metrics={})
    end_answers(folder, count, wanted)
    attempt.say("done", step=count, summary={}, **({"stopped": True} if count < wanted else {}))
