"""Answer in the playground from a GGUF file, as `chat.Talker` does from a model of transformers."""

import threading
import time
from collections.abc import Iterator
from typing import Any

from codex_space.core.errors import ModelError
from codex_space.work import gguf

N_CTX = 4096


class GgufTalker:
    """One loaded file; llama.cpp may take the whole process down, which the page then says."""

    def __init__(self, path: str, threads: int) -> None:
        """Load the file.

        Raises:
            ModelError: It is damaged or gone.
        """
        try:
            self._model = gguf.open_model(path, n_ctx=N_CTX, threads=threads)
        except ValueError as error:
            raise ModelError(
                f"the file cannot be loaded ({error})", where=path.rpartition("/")[2], cure="Export it again."
            ) from error

    def answer(self, request: dict[str, Any], stop: threading.Event) -> Iterator[dict[str, Any]]:
        """Yield pieces of text, then the counts.

        Raises:
            ModelError: The conversation is too long, or there is none.
        """
        prompt = self._model.tokenize(self._asked(request).encode(), add_bos=False, special=True)
        trained = [int(value) for name, value in self._model.metadata.items() if name.endswith(".context_length")]
        room = min([N_CTX, *trained]) - len(prompt)
        if room < 1:
            raise ModelError(
                f"the conversation holds {len(prompt):,} tokens, too many for this model", cure="Start over."
            )
        started_s, count = time.monotonic(), 0
        pieces = self._model.create_completion(
            prompt,
            max_tokens=max(1, min(int(request.get("max_new_tokens", 256)), room)),
            temperature=float(request.get("temperature", 0.7)),
            top_p=float(request.get("top_p", 0.95)),
            top_k=0,
            min_p=0.0,
            repeat_penalty=1.0,
            stream=True,
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
        messages, template = request.get("messages"), self._model.metadata.get("tokenizer.chat_template")
        if messages and template:
            return gguf.render(template, messages, gguf.special(self._model, "bos"), gguf.special(self._model, "eos"))
        text = str(request.get("prompt") or "\n\n".join(str(each["content"]) for each in messages or []))
        if not text:
            raise ModelError("there is nothing to answer", cure="Write something first.")
        return text
