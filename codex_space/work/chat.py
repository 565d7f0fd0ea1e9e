"""A warm worker that keeps one model loaded and answers over its pipes, one JSON object a line, several questions at once.

Asked     {"id", "op": "load", "ref": FOLDER_OR_HUB_ID}
          {"id", "op": "generate", "messages": [...] or "prompt": TEXT, "max_new_tokens", "temperature", "top_p"}
          {"id", "op": "stop"}                     ends the answer to that question
Answered  {"id", "text"} pieces, then {"id", "done": true, "tokens", "tokens_per_s"}; or {"id", "error": {what, where, cure}}

It ends when its standard input closes, which a killed parent's does. (PR_SET_PDEATHSIG would not do: it fires when the
thread that started this process ends, and a page starts it from a thread of a pool.)
"""

import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, TextIO

import torch
from transformers import (
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
    TextIteratorStreamer,
)
from transformers.utils import logging as transformers_logging

from codex_space.core.errors import CodexError, ModelError
from codex_space.work import models
from codex_space.work.failures import explain
from codex_space.work.gguf_model import GgufModel

log = logging.getLogger("codex_space.work.chat")
_PIECE_TIMEOUT_S = 600.0
Request = dict[str, Any]


class _Stopped(StoppingCriteria):
    """Ends generation at the next token once the event is set."""

    def __init__(self, asked: threading.Event) -> None:
        self._asked = asked

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self._asked.is_set(), dtype=torch.bool, device=input_ids.device)


class Talker:
    """One loaded model."""

    def __init__(self, ref: str) -> None:
        """Load a checkpoint, an adapter on its base, or a base model.

        Raises:
            ModelError: It cannot be loaded.
        """
        dtype = models.half_precision() if torch.cuda.is_available() else torch.float32
        self._tokenizer: PreTrainedTokenizerBase = models.load_tokenizer(ref)
        model: Any = (models.load_adapter if models.is_adapter(ref) else models.load_model)(ref, dtype=dtype)
        self._model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self._num_positions = int(getattr(model.config, "max_position_embeddings", 1 << 20))

    def answer(self, request: Request, stop: threading.Event) -> Iterator[Request]:
        """Yield pieces of text, then the counts.

        Raises:
            ModelError: The conversation is too long, or the template refuses it.
        """
        inputs = self._encode(request)
        num_asked = inputs["input_ids"].shape[1]
        room = self._num_positions - num_asked
        if room < 1:
            raise ModelError(
                f"the conversation holds {num_asked:,} tokens and the model takes {self._num_positions:,}",
                cure="Start a new conversation, or ask something shorter.",
            )
        wanted = max(1, min(int(request.get("max_new_tokens", 256)), room))
        streamer = TextIteratorStreamer(
            self._tokenizer, skip_prompt=True, timeout=_PIECE_TIMEOUT_S, skip_special_tokens=True
        )
        counted: list[int] = []
        failed: list[BaseException] = []
        started_s = time.monotonic()

        def generate() -> None:
            try:
                with torch.inference_mode():
                    output = self._model.generate(
                        **inputs,
                        **_sampling(request),
                        max_new_tokens=wanted,
                        streamer=streamer,
                        stopping_criteria=StoppingCriteriaList([_Stopped(stop)]),
                        pad_token_id=self._tokenizer.pad_token_id or self._tokenizer.eos_token_id,
                    )
                counted.append(output.shape[1] - num_asked)
            except Exception as error:  # noqa: BLE001  # raised again below, in the thread that answers
                failed.append(error)
            finally:
                streamer.end()  # otherwise the reader would wait for ever

        thread = threading.Thread(target=generate, name="generate")
        thread.start()
        for piece in streamer:
            if piece:
                yield {"text": piece}
        thread.join()
        if failed:
            raise failed[0]
        seconds = max(time.monotonic() - started_s, 1e-9)
        yield {"done": True, "tokens": counted[0], "tokens_per_s": counted[0] / seconds}

    def _encode(self, request: Request) -> dict[str, torch.Tensor]:
        messages = request.get("messages")
        if messages and self._tokenizer.chat_template:
            try:
                encoded: Any = self._tokenizer.apply_chat_template(
                    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
                )
            except Exception as error:  # a template is a program of its author: it raises what it likes
                raise ModelError(f"the model's template refuses this conversation ({error})") from error
        else:
            # A base model knows no turns: it goes on writing where the text ends.
            text = str(request.get("prompt") or "\n\n".join(str(each["content"]) for each in messages or []))
            if not text:
                raise ModelError("there is nothing to answer", cure="Write something first.")
            encoded = self._tokenizer(text, return_tensors="pt", add_special_tokens=False)
        device = self._model.device
        return {name: encoded[name].to(device) for name in ("input_ids", "attention_mask")}


class Server:
    """Reads requests in a thread of its own, so that a stop is seen while an answer is written.

    Answers of one model are written beside each other, so that nobody waits for another's last word before the own first one;
    a GGUF file, of which llama.cpp keeps one state, answers one after the other.
    """

    def __init__(self, source: TextIO, sink: TextIO) -> None:
        """Take the two pipes."""
        self._source, self._sink = source, sink
        self._requests: queue.Queue[Request | None] = queue.Queue()
        self._stops: dict[Any, threading.Event] = {}
        self._writing = threading.Lock()
        self._talker: Talker | GgufModel | None = None

    def serve(self) -> None:
        """Answer until the input closes."""
        threading.Thread(target=self._read, name="read", daemon=True).start()
        while (request := self._requests.get()) is not None:
            if request.get("op") == "generate" and isinstance(self._talker, Talker):
                threading.Thread(target=self._answer, args=(request,), name="answer").start()
            else:
                self._answer(request)

    def _read(self) -> None:
        for line in self._source:
            try:
                request = json.loads(line)
            except json.JSONDecodeError:
                log.warning("a line that is not JSON was passed over")
                continue
            if not isinstance(request, dict):
                continue
            number = request.get("id")
            if request.get("op") != "stop":
                self._stops[number] = (
                    threading.Event()
                )  # made here: a stop that comes before the first word is not lost
                self._requests.put(request)
            elif number in self._stops:
                self._stops[number].set()
        for stop in list(self._stops.values()):
            stop.set()
        self._requests.put(None)

    def _answer(self, request: Request) -> None:
        number = request.get("id")
        try:
            for reply in self._replies(request, self._stops[number]):
                self._send({"id": number, **reply})
        except Exception as error:  # the person gets one sentence, the log the rest
            if not isinstance(error, CodexError):
                log.exception("request %s failed", number)
            told = explain(error, where="chat")
            self._send({"id": number, "error": {"what": told.what, "where": told.where, "cure": told.cure}})
        finally:
            self._stops.pop(number, None)

    def _replies(self, request: Request, stop: threading.Event) -> Iterator[Request]:
        match request.get("op"):
            case "load":
                self._talker = None  # its memory is needed for the next one
                self._talker = _open(str(request.get("ref")))
                yield {"done": True}
            case "generate":
                if self._talker is None:
                    raise ModelError("no model is loaded", cure="Choose one first.")
                yield from self._talker.answer(request, stop)
            case op:
                raise ModelError(f"{op!r} is not something the chat worker does")

    def _send(self, reply: Request) -> None:
        with self._writing:
            self._sink.write(json.dumps(reply) + "\n")
            self._sink.flush()


def _open(ref: str) -> Talker | GgufModel:
    return GgufModel(ref, torch.get_num_threads()) if ref.endswith(".gguf") else Talker(ref)


def _sampling(request: Request) -> dict[str, Any]:
    temperature = float(request.get("temperature", 0.7))
    if temperature <= 0:
        return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    return {"do_sample": True, "temperature": temperature, "top_p": float(request.get("top_p", 0.95)), "top_k": 0}


def main() -> None:
    """Serve on standard input and output; everything else that is written goes to standard error."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    transformers_logging.disable_progress_bar()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    Server(sys.stdin, answers).serve()


if __name__ == "__main__":
    main()
