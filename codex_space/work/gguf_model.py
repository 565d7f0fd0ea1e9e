"""A GGUF file that answers, in the playground and to benchmarks, as a model of transformers does; llama.cpp is imported with the first.

llama.cpp may take its whole process down on a bad file: only a warm worker or a run's own worker may load one.
"""

import importlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from codex_space.core.errors import ModelError
from codex_space.grade.protocol import Protocol
from codex_space.work.generate import Answer, Prompt

N_CTX = 4096
TOKENIZER = "tokenizer"
"""Folder beside an export's files that holds the model's own tokenizer."""
_PLAIN = {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0}
"""llama-cpp-python's defaults would bend what greedy and top-p mean."""


class GgufModel:
    """One loaded file."""

    def __init__(self, path: str, threads: int) -> None:
        """Load the file.

        Raises:
            ModelError: It is damaged or gone, or llama.cpp is not set up.
        """
        name = path.rpartition("/")[2]
        try:
            self._gguf = importlib.import_module("codex_space.work.gguf")
            self.llama: Any = self._gguf.open_model(path, n_ctx=N_CTX, threads=threads)
        except ModuleNotFoundError as error:
            raise ModelError("llama.cpp is not set up on this machine", where=name, cure="make export-tools") from error
        except ValueError as error:
            raise ModelError(f"the file cannot be loaded ({error})", where=name, cure="Export it again.") from error
        trained = [int(value) for key, value in self.llama.metadata.items() if key.endswith(".context_length")]
        self.num_positions = min([N_CTX, *trained])

    def ends_with(self, token: int) -> bool:
        """Whether a token ends an answer."""
        return self._gguf.is_end(self.llama, token)

    def answer(self, request: dict[str, Any], stop: threading.Event) -> Iterator[dict[str, Any]]:
        """Yield pieces of text, then the counts, as `chat.Talker` does.

        Raises:
            ModelError: The conversation is too long, or there is none.
        """
        prompt = self.llama.tokenize(self._asked(request).encode(), add_bos=False, special=True)
        room = self.num_positions - len(prompt)
        if room < 1:
            raise ModelError(
                f"the conversation holds {len(prompt):,} tokens, too many for this model", cure="Start over."
            )
        started_s, count = time.monotonic(), 0
        pieces = self.llama.create_completion(
            prompt,
            max_tokens=max(1, min(int(request.get("max_new_tokens", 256)), room)),
            temperature=float(request.get("temperature", 0.7)),
            top_p=float(request.get("top_p", 0.95)),
            stream=True,
            **_PLAIN,
        )
        for piece in pieces:
            count += 1
            if text := piece["choices"][0]["text"]:
                yield {"text": text}
            if stop.is_set():
                break
        seconds = max(time.monotonic() - started_s, 1e-9)
        yield {"done": True, "tokens": count, "tokens_per_s": count / seconds}

    def _asked(self, request: dict[str, Any]) -> str:
        messages, template = request.get("messages"), self.llama.metadata.get("tokenizer.chat_template")
        if messages and template:
            bos, eos = (self._gguf.special(self.llama, name) for name in ("bos", "eos"))
            return self._gguf.render(template, messages, bos, eos)
        text = str(request.get("prompt") or "\n\n".join(str(each["content"]) for each in messages or []))
        if not text:
            raise ModelError("there is nothing to answer", cure="Write something first.")
        return text


class GgufGenerator:
    """A file and how it is to answer; one prompt after the other, as llama.cpp is fastest on a CPU."""

    def __init__(self, model: GgufModel, tokenizer: PreTrainedTokenizerBase, protocol: Protocol) -> None:
        """Take a loaded file, and the tokenizer of the model it was made of."""
        self._model, self._tokenizer, self._protocol = model, tokenizer, protocol

    def answers(self, prompts: Sequence[Prompt], is_stopped: Callable[[], bool] = lambda: False) -> Iterator[Answer]:
        """Yield an answer to each prompt; of one that is too long for the model the end is asked."""
        wanted, positions = self._protocol.max_new_tokens, self._model.num_positions
        for number, prompt in enumerate(prompts):
            ids = prompt.ids[-(positions - min(wanted, positions // 2)) :]
            self._model.llama.set_seed(self._protocol.seed + number)
            found = self._write(ids, min(wanted, positions - len(ids)), is_stopped)
            if is_stopped():
                return  # the answer was cut short
            yield Answer(prompt.key, self._decode(found), len(found))

    def _write(self, ids: list[int], limit: int, is_stopped: Callable[[], bool]) -> list[int]:
        protocol, found = self._protocol, list[int]()
        heat = 0.0 if protocol.is_greedy else protocol.temperature
        for token in self._model.llama.generate(ids, temp=heat, top_p=protocol.top_p, **_PLAIN):
            if self._model.ends_with(token):
                break
            found.append(token)
            if len(found) >= limit or is_stopped() or self._has_stopped(found):
                break
        return found

    def _has_stopped(self, found: list[int]) -> bool:
        stops = self._protocol.stops
        return bool(stops) and any(stop in self._decode(found) for stop in stops)

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))
