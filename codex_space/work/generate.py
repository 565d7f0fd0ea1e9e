"""Answers to many prompts at once: left-padded batches of like length, halved where memory is short."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from codex_space.core.errors import ModelError
from codex_space.grade.protocol import Asked, Protocol

log = logging.getLogger(__name__)
_PLAIN = {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "num_beams": 1}
"""A model's own generation config may hold these; greedy would then not be what the protocol says it is."""


@dataclass(frozen=True)
class Prompt:
    """One thing to be answered; `key` comes back with the answer."""

    key: tuple[str, int]
    ids: list[int]


@dataclass(frozen=True)
class Answer:
    """What a model wrote, special tokens left out; `num_tokens` counts what was generated."""

    key: tuple[str, int]
    text: str
    num_tokens: int


class _Stopped(StoppingCriteria):
    """Ends a batch at the next token once a stop is asked for."""

    def __init__(self, is_stopped: Callable[[], bool]) -> None:
        self._is_stopped = is_stopped

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self._is_stopped(), dtype=torch.bool, device=input_ids.device)


def encode(tokenizer: PreTrainedTokenizerBase, asked: Asked) -> list[int]:
    """Return the tokens a model sees: the text as it is, or the conversation in its template.

    Raises:
        ModelError: The template refuses the conversation.
    """
    if not asked.chat:
        return cast("list[int]", tokenizer(asked.text)["input_ids"])
    messages = [{"role": "user", "content": asked.text}]
    if asked.prefill:
        messages.append({"role": "assistant", "content": asked.prefill})
    try:
        rendered: Any = tokenizer.apply_chat_template(
            messages,
            add_generation_prompt=not asked.prefill,
            continue_final_message=bool(asked.prefill),
            return_dict=True,
        )
    except Exception as error:  # a template is a program of its author: it raises what it likes
        raise ModelError(f"the model's template refuses a problem ({error})", where="chat_template") from error
    return cast("list[int]", rendered["input_ids"])


class Generator:
    """One model and how it is to answer."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, protocol: Protocol, batch_size: int
    ) -> None:
        """Take a model that is in place and in evaluation mode."""
        self._model, self._tokenizer, self._protocol = model, tokenizer, protocol
        self._batch_size = batch_size
        positions = getattr(model.config, "max_position_embeddings", None)
        self._num_positions = int(positions) if isinstance(positions, int) else 1 << 20

    def answers(self, prompts: Sequence[Prompt], is_stopped: Callable[[], bool] = lambda: False) -> Iterator[Answer]:
        """Yield an answer to each prompt, longest prompts first, so that a batch too large shows at once.

        Raises:
            ModelError: Memory does not suffice for a single prompt.
        """
        waiting = sorted(prompts, key=lambda prompt: -len(prompt.ids))
        torch.manual_seed(self._protocol.seed)
        while waiting and not is_stopped():
            batch = waiting[: self._batch_size]
            try:
                texts = self._generate(batch, is_stopped)
            except torch.OutOfMemoryError as error:
                torch.cuda.empty_cache()
                if len(batch) == 1:
                    what = f"a prompt of {len(batch[0].ids):,} tokens does not fit into the GPU's memory"
                    raise ModelError(what, cure="Lower max_new_tokens, or load the model in 4 bits.") from error
                self._batch_size = len(batch) // 2
                log.info("out of memory: going on with batches of %s", self._batch_size)
                continue
            if is_stopped():
                return  # the batch was cut short
            waiting = waiting[len(batch) :]
            for prompt, (text, num_tokens) in zip(batch, texts, strict=True):
                yield Answer(prompt.key, text, num_tokens)

    def _generate(self, batch: Sequence[Prompt], is_stopped: Callable[[], bool]) -> list[tuple[str, int]]:
        """Return (text, generated tokens) of each prompt; of one that is too long for the model the end is kept."""
        room = self._num_positions - min(self._protocol.max_new_tokens, self._num_positions // 2)
        if num_cut := sum(len(prompt.ids) > room for prompt in batch):
            log.warning(
                "%s of %s prompts are longer than %s tokens: only their end is asked", num_cut, len(batch), room
            )
        ids = [prompt.ids[-room:] for prompt in batch]
        width = max(map(len, ids))
        pad = self._pad_id()
        input_ids = torch.tensor([[pad] * (width - len(row)) + row for row in ids], device=self._model.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids], device=self._model.device)
        with torch.inference_mode():
            output = cast("Any", self._model).generate(
                input_ids=input_ids,
                attention_mask=mask,
                max_new_tokens=max(1, min(self._protocol.max_new_tokens, self._num_positions - width)),
                pad_token_id=pad,
                eos_token_id=sorted(self._end_ids()),
                use_cache=True,
                stopping_criteria=StoppingCriteriaList([_Stopped(is_stopped)]),
                **self._sampling(),
            )
        new = cast("torch.Tensor", output)[:, width:].tolist()
        ends = self._end_ids() | {pad}
        return [self._decode(row, ends) for row in new]

    def _decode(self, row: list[int], ends: set[int]) -> tuple[str, int]:
        """Cut at the first end or padding token: what follows is the rest of the batch's longest answer."""
        end = next((place for place, token in enumerate(row) if token in ends), len(row))
        return str(self._tokenizer.decode(row[:end], skip_special_tokens=True)), end

    def _sampling(self) -> dict[str, Any]:
        stops: dict[str, Any] = {}
        if self._protocol.stops:
            stops = {"stop_strings": list(self._protocol.stops), "tokenizer": self._tokenizer}
        if self._protocol.is_greedy:
            return {**_PLAIN, "do_sample": False, "temperature": None, "top_p": None, "top_k": None, **stops}
        drawn = {"temperature": self._protocol.temperature, "top_p": self._protocol.top_p, "top_k": 0}
        return {**_PLAIN, "do_sample": True, **drawn, **stops}

    def _pad_id(self) -> int:
        pad = self._tokenizer.pad_token_id
        return int(pad if pad is not None else self._tokenizer.eos_token_id)

    def _end_ids(self) -> set[int]:
        config = self._model.generation_config
        known = config.eos_token_id if config else None
        ids = [known] if isinstance(known, int) else list(known or [])
        return {*ids, int(self._tokenizer.eos_token_id)}
