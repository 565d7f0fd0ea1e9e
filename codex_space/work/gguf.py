"""A child process around llama.cpp, which may crash on a bad file: it quantises one, or measures it against its model.

python -m codex_space.work.gguf quantize SOURCE TARGET FTYPE THREADS [IMATRIX.npz CONVERTER FAMILY LAYERS]
python -m codex_space.work.gguf measure FILE REFERENCE_FOLDER THREADS [ADAPTER]     prints one JSON object on the last line
"""

import ctypes
import importlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from codex_space.work.corpus import LOGITS, REFERENCE

BATCH = 512
ARCHITECTURES = {"gpt_neox": "gptneox", "mistral": "llama"}
"""llama.cpp's name of a family where it is not transformers'."""
llama_cpp: Any = importlib.import_module("llama_cpp")  # not there until `make export-tools` has built it
c: Any = llama_cpp.llama_cpp
Llama = Any
"""llama_cpp.Llama"""


def quantize(source: str, target: str, ftype: int, threads: int, imatrix: Sequence[str] = ()) -> int:
    """Write another type of a 16-bit file; llama.cpp's return code, 0 for success."""
    params = c.llama_model_quantize_default_params()
    params.ftype, params.nthread = ftype, threads
    kept = _imatrix(*imatrix) if imatrix else None
    if kept is not None:
        params.imatrix = ctypes.cast(kept, ctypes.POINTER(c.llama_model_imatrix_data))
    return c.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params))


def _imatrix(path: str, converter: str, family: str, layers: str) -> Any:  # noqa: ANN401  # a ctypes array
    """Return llama.cpp's form of an importance matrix: name, values, count, ended by a row without a name."""
    sys.path.insert(0, f"{converter}/gguf-py")
    names = importlib.import_module("gguf")
    arch = {name: arch for arch, name in names.MODEL_ARCH_NAMES.items()}[ARCHITECTURES.get(family, family)]
    table = names.get_tensor_name_map(arch, int(layers))
    with np.load(path) as found:
        named = [(table.get_name(name, (".weight",)), found[name]) for name in found.files]
    rows = [(name.encode(), np.ascontiguousarray(values)) for name, values in named if name]
    array = (c.llama_model_imatrix_data * (len(rows) + 1))()
    for at, (name, values) in enumerate(rows):
        array[at].name, array[at].size = name, values.size
        array[at].data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    array[len(rows)].name = None
    array.kept = rows  # the numbers have to live as long as the pointers to them
    return array


def open_model(path: str, *, n_ctx: int, threads: int, logits_all: bool = False, adapter: str | None = None) -> Llama:
    """Load a file on the CPU, without the buffers of AMX on which quantised models crash."""
    defaults = c.llama_model_default_params

    def plain() -> Any:  # noqa: ANN401  # a ctypes structure
        params = defaults()
        params.use_extra_bufts = False
        return params

    c.llama_model_default_params = plain
    try:
        return llama_cpp.Llama(
            path,
            n_ctx=n_ctx,
            n_batch=BATCH,
            n_threads=threads,
            n_threads_batch=threads,
            logits_all=logits_all,
            lora_path=adapter,
            verbose=True,  # what llama.cpp says stands in the log, the reason why it refuses a file too
        )
    finally:
        c.llama_model_default_params = defaults


def measure(path: str, folder: Path, threads: int, adapter: str | None = None) -> dict[str, Any]:
    """Return how far a file, with an adapter's where one is named, is from what the model it was made of gave (see `reference.write`)."""
    reference: dict[str, Any] = json.loads((folder / REFERENCE).read_text(encoding="utf-8"))
    model = open_model(path, n_ctx=reference["n_ctx"], threads=threads, logits_all=True, adapter=adapter)
    return {
        **_compare_tokens(model, reference["strings"]),
        **_compare_logits(model, reference["texts"], np.load(folder / LOGITS, mmap_mode="r")),
        **_compare_answers(model, reference["answers"]),
        **_compare_template(model, reference["chat"]),
    }


def _compare_tokens(model: Llama, strings: list[dict[str, Any]]) -> dict[str, Any]:
    """Count strings that are cut another way, with and without the tokens that a text begins or ends with."""
    wrong = [
        row
        for row in strings
        if model.tokenize(row["text"].encode(), add_bos=False, special=True) != row["plain"]
        or model.tokenize(row["text"].encode(), add_bos=True, special=True) != row["whole"]
    ]
    example = ""
    if wrong:
        row = wrong[0]
        got = model.tokenize(row["text"].encode(), add_bos=True, special=True)
        example = f"{row['text'][:40]!r} becomes {got[:8]}, and {row['whole'][:8]} in the model"
    return {"num_strings": len(strings), "num_wrong": len(wrong), "wrong": example}


def _compare_logits(model: Llama, texts: list[dict[str, Any]], expected: np.ndarray) -> dict[str, Any]:
    """Return mean KL(model || file) in nats and the share of equal top tokens, each text cut as the file cuts it."""
    kl, agreed, start = [], [], 0
    for row in texts:
        want = expected[start : start + row["count"]]
        start += row["count"]
        ids = model.tokenize(row["text"].encode(), add_bos=True, special=True)[: row["limit"]]
        got = _logits(model, ids)
        num = min(len(want), len(got))  # they differ in number only where tokens are wrong: the ends are compared then
        size = min(want.shape[1], got.shape[1])
        p, q = (_log_softmax(np.asarray(each[len(each) - num :, :size], dtype=np.float32)) for each in (want, got))
        kl += list((np.exp(p) * (p - q)).sum(axis=1))
        agreed += list(p.argmax(axis=1) == q.argmax(axis=1))
    return {"kl": float(np.mean(kl)), "top1": float(np.mean(agreed)), "num_compared": len(kl)}


def _logits(model: Llama, ids: list[int]) -> np.ndarray:
    model.reset()
    model.eval(ids)
    return model.scores[: len(ids)].copy()


def _log_softmax(values: np.ndarray) -> np.ndarray:
    shifted = values - values.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _compare_answers(model: Llama, answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Go on greedily from each prompt. `margin` is the model's own doubt where a file first took another token."""
    vocab = c.llama_model_get_vocab(model.model)
    same, margin, stops, took_s, written = 0, 0.0, [], 0.0, 0
    for row in answers:
        started_s = time.monotonic()
        found = _go_on(model, row["prompt"], row["limit"], vocab)
        took_s, written = took_s + time.monotonic() - started_s, written + len(found)
        parted = next((at for at, pair in enumerate(zip(found, row["ids"], strict=False)) if pair[0] != pair[1]), None)
        if parted is None and len(found) == len(row["ids"]):
            same += 1
        elif parted is not None:
            margin = max(margin, row["margins"][parted])
        else:
            margin = float("inf")  # one of them ended and the other did not, at the same tokens
        if row["stops"] and parted is None:
            stops.append(bool(found) and c.llama_vocab_is_eog(vocab, found[-1]))
        elif row[
            "stops"
        ]:  # after a token as likely as the model's own it wrote another answer: the model's is what must end
            if _ends(model, row, vocab):
                stops.append(True)
            else:
                margin = max(margin, row["margins"][-1])
    return {
        "num_answers": len(answers),
        "num_same": same,
        "margin": margin if np.isfinite(margin) else 1e9,
        "stops": all(stops) if stops else None,
        "tokens_per_s": written / max(took_s, 1e-9),
    }


def _ends(model: Llama, row: dict[str, Any], vocab: Any) -> bool:  # noqa: ANN401  # a pointer
    model.reset()
    model.eval([*row["prompt"], *row["ids"][:-1]])
    return bool(c.llama_vocab_is_eog(vocab, int(model.scores[model.n_tokens - 1].argmax())))


def _go_on(model: Llama, prompt: list[int], limit: int, vocab: Any) -> list[int]:  # noqa: ANN401  # a pointer
    model.reset()
    model.eval(prompt)
    found: list[int] = []
    while len(found) < limit:
        token = int(model.scores[model.n_tokens - 1].argmax())
        found.append(token)
        if c.llama_vocab_is_eog(vocab, token):
            break
        model.eval([token])
    return found


def _compare_template(model: Llama, chat: dict[str, Any] | None) -> dict[str, Any]:
    """Render the file's own chat template as programs around llama.cpp do, and see whether the stop token ends answers."""
    if chat is None:
        return {"template": None, "stop_known": None}
    vocab = c.llama_model_get_vocab(model.model)
    template = model.metadata.get("tokenizer.chat_template")
    try:
        found = render(template or "", chat["messages"], special(model, "bos"), special(model, "eos"))
    except TemplateError as error:
        found = f"an error: {error}"
    wrong = f"a chat becomes {found[:120]!r}, and {chat['text'][:120]!r} in the model"
    return {
        "template": "" if found == chat["text"] else wrong,
        "stop_known": bool(c.llama_vocab_is_eog(vocab, chat["stop_id"])),
    }


def render(template: str, messages: list[dict[str, str]], bos_token: str, eos_token: str) -> str:
    """Return what programs around llama.cpp make of a chat by a file's own template.

    Raises:
        TemplateError: The template is none that Jinja takes, or refuses this chat.
    """
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

    def refuse(text: str) -> None:
        raise TemplateError(text)

    return environment.from_string(template).render(
        messages=messages,
        add_generation_prompt=True,
        bos_token=bos_token,
        eos_token=eos_token,
        raise_exception=refuse,
    )


def is_end(model: Llama, token: int) -> bool:
    """Whether a token ends an answer of this file."""
    return bool(c.llama_vocab_is_eog(c.llama_model_get_vocab(model.model), token))


def special(model: Llama, name: str) -> str:
    """Return a file's bos or eos token as text, empty where it has none."""
    found = getattr(model, f"token_{name}")()
    return c.llama_vocab_get_text(c.llama_model_get_vocab(model.model), found).decode() if found >= 0 else ""


def main(arguments: list[str]) -> int:
    """Run one of the two; the exit code tells of success."""
    match arguments:
        case ["quantize", source, target, ftype, threads, *imatrix]:
            return quantize(source, target, int(ftype), int(threads), imatrix)
        case ["measure", path, folder, threads, *adapter]:
            print(json.dumps(measure(path, Path(folder), int(threads), *adapter)))  # noqa: T201  # what the parent reads
            return 0
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
