"""Ask a model the problems of a benchmark, and leave its answers in the job folder for the owner to grade."""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from codex_space.core.errors import CodexError
from codex_space.core.sections import Asking
from codex_space.core.shared_recipe import TrainingRecipe
from codex_space.grade import extract, library
from codex_space.grade.library import SAMPLES
from codex_space.grade.protocol import CHAT_STOPS, Protocol, ask
from codex_space.work import templates
from codex_space.work.answers import begin_answers, end_answers, load_problems
from codex_space.work.attempt import Attempt
from codex_space.work.generate import Generator, Prompt, encode
from codex_space.work.gguf_model import GgufGenerator, GgufModel
from codex_space.work.loop import Loop

log = logging.getLogger(__name__)


class Examination:
    """One benchmark, read once, that any state of a model can be asked."""

    def __init__(
        self,
        attempt: Attempt,
        name: str,
        asking: Asking,
        drawn: Mapping[str, Any] | None = None,
    ) -> None:
        """Read the problems, from the Hub where they do not come with the program; `drawn` holds how answers are sampled.

        Raises:
            GradeError: They cannot be read.
            HubError: The Hub refuses them.
        """
        self._attempt, self._name, self._asking, self._drawn = attempt, name, asking, drawn or {}
        self._entry, self.loaded = library.find(name), load_problems(attempt, name)
        self.num_answers = len(self.loaded.problems) * self._drawn.get("num_samples", 1)

    def run(
        self,
        model: PreTrainedModel | GgufModel,
        tokenizer: PreTrainedTokenizerBase,
        step: int,
        said: Callable[[int], None],
    ) -> int:
        """Write every answer to the evaluation's folder and return their number; `said` hears how many there are.

        Raises:
            ModelError: The model cannot answer.
        """
        protocol = self._protocol(tokenizer)
        questions = self.loaded.questions
        asked = {task_id: ask(protocol.prompt_form, question) for task_id, question in questions.items()}
        prompts = [
            Prompt((task_id, number), encode(tokenizer, one))
            for task_id, one in asked.items()
            for number in range(protocol.num_samples)
        ]
        folder = begin_answers(self._attempt, self._name, step, len(prompts), protocol.as_dict(), protocol.line())
        if isinstance(model, GgufModel):
            generator: Generator | GgufGenerator = GgufGenerator(model, tokenizer, protocol)
        else:
            generator = Generator(model, tokenizer, protocol, self._asking.batch_size)
        count = 0
        with (folder / SAMPLES).open("w", encoding="utf-8") as file:
            for answer in generator.answers(prompts, self._attempt.is_stop_asked):
                task_id, number = answer.key
                found = extract.from_answer(answer.text, questions[task_id], protocol, asked[task_id].prefill)
                row = {
                    "task_id": task_id,
                    "sample": number,
                    "asked": asked[task_id].text,
                    "text": answer.text,
                    "num_tokens": answer.num_tokens,
                }
                file.write(json.dumps({**row, "program": found.program, "rule": found.rule, "flaw": found.flaw}) + "\n")
                file.flush()  # the owner grades while the rest is written
                count += 1
                said(count)
        end_answers(folder, count, len(prompts))
        log.info("%s: %s answers at step %s", self._name, count, step)
        return count

    def _protocol(self, tokenizer: PreTrainedTokenizerBase) -> Protocol:
        template = tokenizer.chat_template
        form: str = self._asking.prompt_form
        if form == "auto":
            form = self._entry.forms[self._asking.mode == "chat" or (self._asking.mode == "auto" and bool(template))]
        chat = not form.startswith("completion")
        prefilled = form == "chat"
        return Protocol(
            prompt_form=form,
            extraction="code blocks" if chat else "up to the first stop string",
            stops=(CHAT_STOPS if prefilled else ()) if chat else self._entry.stops,
            max_new_tokens=self._asking.max_new_tokens,
            dataset_version=self.loaded.version,
            template_hash=templates.fingerprint(tokenizer) if chat else "",
            seed=self._attempt.recipe.seed,
            **self._drawn,
        )


def examiner(
    attempt: Attempt, trainer: Trainer | Loop, tokenizer: PreTrainedTokenizerBase
) -> Callable[[int], None] | None:
    """Return what asks the model in training its recipe's benchmarks at a step; None where it has none.

    Neither the model's mode nor the random state is any different afterwards, so no weight is.

    Raises:
        GradeError: The problems cannot be read.
    """
    recipe = attempt.recipe
    section = recipe.evaluate if isinstance(recipe, TrainingRecipe) else None
    if section is None:
        return None
    examinations = [Examination(attempt, name, section) for name in section.benchmarks]

    def examine(step: int) -> None:
        model = cast("PreTrainedModel", trainer.model)
        was_training = model.training
        model.eval()
        try:
            with torch.random.fork_rng():
                for each in examinations:
                    each.run(model, tokenizer, step, lambda _: None)
        except CodexError as error:
            if not step:
                raise  # before anything is trained a person wants to know
            log.warning("no evaluation at step %s: %s", step, error)
            attempt.say("warning", text=f"no evaluation at step {step}: {error}")
        finally:
            model.train(was_training)

    return examine
