"""Let the model in training answer the same few prompts every so often; the answers lie in the job folder, step by step."""

import logging
import math
from collections.abc import Mapping
from typing import Any, cast

import pyarrow.parquet as pq
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from codex_space.core import durable
from codex_space.core.errors import CodexError
from codex_space.core.sections import SamplesSection
from codex_space.core.shared_recipe import TrainingRecipe
from codex_space.data.prepare import Prepared
from codex_space.grade.protocol import Asked, Protocol
from codex_space.work import templates
from codex_space.work.attempt import Attempt
from codex_space.work.generate import Generator, Prompt, encode
from codex_space.work.loop import Loop

log = logging.getLogger(__name__)
MOST_STEPS = 100
"""A run writes at most about this many files of samples, however often it was to."""
NUM_PROMPTS, TEXT_CHARS, BATCH_SIZE = 3, 400, 8


class Sampler:
    """Asks a model in training; neither its mode nor the random state is any different afterwards, so no weight is."""

    def __init__(
        self,
        attempt: Attempt,
        trainer: Trainer | Loop,
        tokenizer: PreTrainedTokenizerBase,
        prepared: Prepared,
        *,
        as_chat: bool,
    ) -> None:
        """Take the recipe's prompts, else the beginnings of a few rows that are not trained on."""
        recipe = cast("TrainingRecipe", attempt.recipe)
        section = cast("SamplesSection", recipe.samples)
        self._attempt, self._trainer, self._tokenizer = attempt, trainer, tokenizer
        self._every_steps = self._max_steps = section.every_steps
        given = [(text, "") for text in section.prompts]
        self._asked = given or [_question(row, as_chat=as_chat) for row in _first_rows(prepared)]
        self._as_chat = as_chat
        template = templates.fingerprint(tokenizer) if as_chat else ""
        self._protocol = Protocol(
            "completion", "none", (), section.max_new_tokens, "", template_hash=template, seed=recipe.seed
        )

    def begin(self, max_steps: int) -> None:
        """Fix the pace."""
        self._max_steps = max_steps
        self._every_steps = max(self._every_steps, math.ceil(max_steps / MOST_STEPS))

    def is_due(self, step: int) -> bool:
        """Whether the model is asked after this step; before the first and after the last it is in any case."""
        return step % self._every_steps == 0 or step == self._max_steps

    def was_done(self, step: int) -> bool:
        """Whether an earlier attempt has asked at this step."""
        return self._attempt.job.samples(step).is_file()

    def run(self, step: int) -> None:
        """Write the answers of the model as it is after this step.

        Raises:
            CodexError: It cannot answer; only before anything is trained.
        """
        model = cast("PreTrainedModel", self._trainer.model)
        was_training = model.training
        model.eval()
        try:
            with torch.random.fork_rng():
                self._write(model, step)
        except CodexError as error:
            if not step:
                raise
            log.warning("no samples at step %s: %s", step, error)
            self._attempt.say("warning", text=f"no samples at step {step}: {error}")
        finally:
            model.train(was_training)

    def _write(self, model: PreTrainedModel, step: int) -> None:
        prompts = [
            Prompt((text, number), encode(self._tokenizer, Asked(text, chat=self._as_chat)))
            for number, (text, _) in enumerate(self._asked)
        ]
        generator = Generator(model, self._tokenizer, self._protocol, BATCH_SIZE)
        answers = {answer.key[1]: answer for answer in generator.answers(prompts, self._attempt.is_stop_asked)}
        if len(answers) < len(prompts):
            return  # a stop came in between: the next attempt asks again
        told = [
            {
                "prompt": text,
                "expected": expected,
                "text": answers[number].text,
                "num_tokens": answers[number].num_tokens,
            }
            for number, (text, expected) in enumerate(self._asked)
        ]
        path = self._attempt.job.samples(step)
        path.parent.mkdir(exist_ok=True)
        durable.write_json(path, {"step": step, "samples": told})


def make(
    attempt: Attempt, trainer: Trainer | Loop, tokenizer: PreTrainedTokenizerBase, prepared: Prepared, *, as_chat: bool
) -> Sampler | None:
    """Return what asks the model in training, None where the recipe does not want it."""
    wanted = isinstance(attempt.recipe, TrainingRecipe) and attempt.recipe.samples is not None
    return Sampler(attempt, trainer, tokenizer, prepared, as_chat=as_chat) if wanted else None


def _first_rows(prepared: Prepared) -> list[Mapping[str, Any]]:
    path = prepared.validation if prepared.num_validation else prepared.train
    batch = next(pq.ParquetFile(path).iter_batches(batch_size=NUM_PROMPTS), None)
    return batch.to_pylist() if batch else []


def _question(row: Mapping[str, Any], *, as_chat: bool) -> tuple[str, str]:
    """Return what is asked and what the row answers: of a conversation its first turn, of a text what follows its beginning."""
    if "messages" in row:
        turns = [turn for turn in row["messages"] if turn["role"] != "system"]
        return turns[0]["content"], turns[1]["content"] if as_chat and len(turns) > 1 else ""
    prompt = row.get("prompt")
    if prompt:
        answer = row.get("completion") or row.get("chosen") or ""
        return _text(prompt, "user"), _text(answer, "assistant") if row.get("label", True) else ""
    text = _text(row.get("text") or row.get("chosen") or "", "user")
    middle = min(len(text) // 2, TEXT_CHARS)
    return text[:middle], text[middle : middle + 2 * TEXT_CHARS]


def _text(value: Any, role: str) -> str:  # noqa: ANN401  # a text or messages
    """Return a text as it is, of messages the last of that role."""
    if isinstance(value, str):
        return value
    said = [turn["content"] for turn in value if turn["role"] == role]
    return said[-1] if said else ""
