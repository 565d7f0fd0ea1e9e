"""Measure a model on rows of one's own: what a byte of their text costs it in bits, or its answers beside the ones wanted."""

import hashlib
import json
import logging
import lzma
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import pyarrow.parquet as pq
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from codex_space.core.errors import DataError, ModelError
from codex_space.core.recipe import EvaluateRecipe
from codex_space.grade import text_metrics
from codex_space.grade.library import SAMPLES, choose
from codex_space.grade.protocol import Asked, Protocol
from codex_space.work import rows, templates
from codex_space.work.answers import begin_answers, end_answers
from codex_space.work.attempt import Attempt
from codex_space.work.generate import Generator, Prompt, encode

MAX_BYTES = 512 << 20
"""Of text that is measured at once; it is held in memory."""
MAX_WINDOW, BATCH_TOKENS = 2048, 4096
MAX_XZ_BYTES = 20 << 20
"""What is compressed for comparison: xz -9 takes a second for two megabytes."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Window:
    """Tokens that go through the model at once; of the last `num_new` the surprise is counted."""

    text: int
    ids: list[int]
    num_new: int


def windows(text: int, ids: list[int], size: int) -> Iterator[Window]:
    """Cut tokens, the first of which is only context, so that each other one is counted once.

    All but a text's first `size` are seen after at least half a window (strided windows: Baevski and Auli 2018, section 4.3).
    """
    begin, counted = 0, 0
    while counted < len(ids) - 1:
        end = min(begin + size, len(ids))
        yield Window(text, ids[begin:end], end - 1 - counted)
        counted = end - 1
        begin = end - size // 2


class Texts:
    """The texts of a recipe's rows, to be predicted token by token."""

    def __init__(self, attempt: Attempt) -> None:
        """Read them.

        Raises:
            DataError: There is none, or too much.
        """
        self._attempt = attempt
        self._recipe = _recipe(attempt)
        self._texts = [str(row["text"]) for row in _chosen(attempt)]
        self._num_bytes = [len(text.encode()) for text in self._texts]
        if not sum(self._num_bytes):
            raise DataError("the texts are empty", where="datasets", cure="Give rows with text.")
        self.num_answers = len(self._texts)

    def run(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, step: int, said: Callable[[int], None]
    ) -> int:
        """Write the surprise of each text to the evaluation's folder and return how many are done.

        Raises:
            ModelError: Memory does not suffice for a single window.
        """
        positions = getattr(model.config, "max_position_embeddings", None)
        size = min(MAX_WINDOW, positions) if isinstance(positions, int) else MAX_WINDOW
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        ids = [list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) for text in self._texts]
        self._warn_of_unknown(tokenizer, ids)
        line = (
            f"{len(ids):,} texts, {sum(self._num_bytes):,} bytes, {sum(map(len, ids)):,} tokens; windows of {size:,} tokens with half "
            f"of them new; each text begins after {tokenizer.convert_ids_to_tokens(start)}; {self._compressed()}"
        )
        folder = begin_answers(self._attempt, self._recipe.benchmark, step, self.num_answers, {"line": line}, line)
        nats, left = [0.0] * len(ids), [0] * len(ids)
        waiting = [part for text, each in enumerate(ids) for part in windows(text, [int(start), *each], size)]
        for part in waiting:
            left[part.text] += 1
        count = 0
        with (folder / SAMPLES).open("w", encoding="utf-8") as file:
            for text in (text for text, parts in enumerate(left) if not parts):
                count += self._write(file, text, 0.0, 0)
            for part, surprise in _surprises(model, waiting, self._attempt.is_stop_asked):
                nats[part.text] += surprise
                left[part.text] -= 1
                if not left[part.text]:
                    count += self._write(file, part.text, nats[part.text], len(ids[part.text]))
                    said(count)
        end_answers(folder, count, self.num_answers)
        return count

    def _write(self, file: TextIO, text: int, nats: float, num_tokens: int) -> int:
        row = {"task_id": f"text-{text + 1}", "sample": 0, "nats": nats, "num_tokens": num_tokens}
        file.write(json.dumps({**row, "num_bytes": self._num_bytes[text]}) + "\n")
        file.flush()
        return 1

    def _warn_of_unknown(self, tokenizer: PreTrainedTokenizerBase, ids: list[list[int]]) -> None:
        unknown = tokenizer.unk_token_id
        special = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
        if unknown is None or unknown in special:  # a stand-in that byte-level tokenizers never need
            return
        if num := sum(each.count(unknown) for each in ids):
            told = f"the tokenizer does not know {num:,} pieces of these texts: bits per byte are lower than they should be"
            self._attempt.say("warning", text=told)

    def _compressed(self) -> str:
        text = "\n".join(self._texts).encode()[:MAX_XZ_BYTES]
        return f"xz -9 of {'the same' if len(text) < MAX_XZ_BYTES else 'the first 20 MiB'}: {8 * len(lzma.compress(text, preset=9)) / len(text):.3f} bits per byte"


class Answers:
    """The prompts of a recipe's rows, to be answered and compared with the rows' completions."""

    def __init__(self, attempt: Attempt) -> None:
        """Read them.

        Raises:
            DataError: A row is no prompt with its completion.
            EvaluationError: A metric is not known.
        """
        self._attempt = attempt
        self._recipe = _recipe(attempt)
        text_metrics.require(self._recipe.metrics)
        self._rows = _chosen(attempt)
        self.num_answers = len(self._rows)

    def run(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, step: int, said: Callable[[int], None]
    ) -> int:
        """Write every answer to the evaluation's folder and return how many there are.

        Raises:
            ModelError: The model cannot answer.
        """
        recipe, template = self._recipe, tokenizer.chat_template
        chat = recipe.mode == "chat" or (recipe.mode == "auto" and bool(template))
        wanted = json.dumps(self._rows, sort_keys=True).encode()
        protocol = Protocol(
            prompt_form="request" if chat else "completion",
            extraction="the whole answer",
            stops=(),
            max_new_tokens=recipe.max_new_tokens,
            dataset_version=f"{len(self._rows):,} rows {hashlib.sha256(wanted).hexdigest()[:12]}",
            template_hash=templates.fingerprint(tokenizer) if chat else "",
            temperature=recipe.temperature,
            top_p=recipe.top_p,
            seed=recipe.seed,
        )
        folder = begin_answers(
            self._attempt, recipe.benchmark, step, self.num_answers, protocol.as_dict(), protocol.line()
        )
        asked = [Asked(str(row["prompt"]), chat=chat) for row in self._rows]
        prompts = [Prompt((f"row-{n + 1}", n), encode(tokenizer, one)) for n, one in enumerate(asked)]
        count = 0
        with (folder / SAMPLES).open("w", encoding="utf-8") as file:
            generator = Generator(model, tokenizer, protocol, recipe.batch_size)
            for answer in generator.answers(prompts, self._attempt.is_stop_asked):
                name, number = answer.key
                told = {"task_id": name, "sample": 0, "asked": asked[number].text, "text": answer.text}
                told |= {"reference": self._rows[number]["completion"], "num_tokens": answer.num_tokens}
                file.write(json.dumps(told) + "\n")
                file.flush()
                count += 1
                said(count)
        end_answers(folder, count, self.num_answers)
        return count


def _recipe(attempt: Attempt) -> EvaluateRecipe:
    assert isinstance(attempt.recipe, EvaluateRecipe)  # noqa: S101  # narrows the type
    return attempt.recipe


def _chosen(attempt: Attempt) -> list[dict[str, Any]]:
    path = rows.prepare(attempt).train
    facts = pq.read_metadata(path)
    if (size := sum(facts.row_group(number).total_byte_size for number in range(facts.num_row_groups))) > MAX_BYTES:
        what = f"these rows hold {size >> 20:,} MiB of text and {MAX_BYTES >> 20} can be measured at once"
        raise DataError(what, where="datasets", cure="Give a smaller file; a few megabytes tell the same.")
    return choose(pq.read_table(path).to_pylist(), _recipe(attempt).limit)


def _surprises(
    model: PreTrainedModel, parts: Sequence[Window], is_stopped: Callable[[], bool]
) -> Iterator[tuple[Window, float]]:
    """Yield the nats of each window's new tokens, longest windows first."""
    waiting = sorted(parts, key=lambda part: -len(part.ids))
    room = BATCH_TOKENS
    while waiting and not is_stopped():
        batch = waiting[: max(1, room // len(waiting[0].ids))]
        try:
            found = _forward(model, batch)
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            if len(batch) == 1:
                what = f"a window of {len(batch[0].ids):,} tokens does not fit into the GPU's memory"
                raise ModelError(what, cure="Load the model in 4 bits.") from error
            room //= 2
            log.info("out of memory: going on with %s tokens at once", room)
            continue
        waiting = waiting[len(batch) :]
        yield from zip(batch, found, strict=True)


def _forward(model: PreTrainedModel, batch: Sequence[Window]) -> list[float]:
    width = max(len(part.ids) for part in batch)
    padded = torch.tensor([part.ids + [0] * (width - len(part.ids)) for part in batch], device=model.device)
    mask = torch.tensor([[1] * len(part.ids) + [0] * (width - len(part.ids)) for part in batch], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=padded, attention_mask=mask, use_cache=False).logits
        found = []
        for row, part in enumerate(batch):
            last = len(part.ids) - 1
            chosen = logits[row, last - part.num_new : last].float()
            targets = padded[row, last - part.num_new + 1 : last + 1]
            found.append(float(torch.nn.functional.cross_entropy(chosen, targets, reduction="sum")))
    return found
