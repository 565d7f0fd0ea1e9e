"""Write down what the model itself gives, for GGUF files to be compared with: tokens, logits, greedy answers, a chat."""

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from codex_space.core import durable
from codex_space.work import corpus, templates
from codex_space.work.corpus import LOGITS, REFERENCE

MAX_LOGITS = 1 << 26  # float32 numbers on disk: 256 MiB
NUM_TEXTS, MAX_TEXT_TOKENS = 8, 256
ANSWER_TOKENS, CHAT_TOKENS = 64, 128
PROMPTS = ("def add(a, b):\n", "import os\n\n\nclass ", "# Returns the largest of the numbers\n")
MESSAGES = (
    {"role": "user", "content": "Write a function that adds two numbers."},
    {"role": "assistant", "content": "def add(a, b):\n    return a + b"},
    {"role": "user", "content": "Now one that subtracts."},
)


def choose_dtype(num_parameters: int, stored: torch.dtype) -> torch.dtype:
    """Return float32 where the memory allows for it, else what the weights are stored in."""
    return torch.float32 if 6 * num_parameters < psutil.virtual_memory().available else stored


@torch.inference_mode()
def write(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> dict[str, Any]:
    """Write the reference into a folder; return {logits_std, writes} for the table."""
    positions = int(getattr(model.config, "max_position_embeddings", 0) or 2048)
    limit = min(MAX_TEXT_TOKENS, positions // 2)
    texts, logits = _logits(model, tokenizer, limit)
    chat = _chat(tokenizer)
    ends = _end_ids(tokenizer, chat)
    answers = [
        _answer(model, tokenizer(text)["input_ids"], min(ANSWER_TOKENS, positions // 4), ends) for text in PROMPTS
    ]
    if chat:
        prompt = tokenizer(chat["text"], add_special_tokens=False)["input_ids"]
        if len(prompt) < positions // 2:
            answers.append(_answer(model, prompt, min(CHAT_TOKENS, positions // 4), ends))
    num_added = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    strings = [
        {
            "text": text,
            "plain": tokenizer(text, add_special_tokens=False)["input_ids"],
            "whole": tokenizer(text)["input_ids"],
        }
        for text in corpus.strings(num_added, normalised=normalises(tokenizer))
    ]
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / LOGITS, logits)
    facts = {"n_ctx": min(positions, 1024), "texts": texts, "strings": strings, "answers": answers, "chat": chat}
    durable.write_json(folder / REFERENCE, facts)
    return {
        "logits_std": float(logits.std(axis=1).mean()),
        "normalised": normalises(tokenizer),
        "positions": positions,
        "num_tokens": len(logits),
    }


@torch.inference_mode()
def compare(model: PreTrainedModel, folder: Path) -> float:
    """Return the mean KL divergence, in nats, of a model's logits from those written down, on the same texts."""
    facts: dict[str, Any] = json.loads((folder / REFERENCE).read_text(encoding="utf-8"))
    expected, start, total = np.load(folder / LOGITS, mmap_mode="r"), 0, 0.0
    for row in facts["texts"]:
        want = torch.from_numpy(np.array(expected[start : start + row["count"]])).log_softmax(dim=-1)
        start += row["count"]
        got = torch.from_numpy(_forward(model, row["ids"])).log_softmax(dim=-1)
        total += float((got.exp() * (got - want)).sum())
    return total / max(start, 1)


def normalises(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer brings text into NFC first, which llama.cpp does not."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    found = json.loads(backend.to_str()).get("normalizer") if backend is not None else None
    return "NFC" in json.dumps(found)


def adds(tokenizer: PreTrainedTokenizerBase) -> tuple[bool, bool]:
    """Return whether a text gets a bos token before it, and an eos token after it."""
    plain, whole = (tokenizer("x", add_special_tokens=added)["input_ids"] for added in (False, True))
    begins = len(whole) > len(plain) and whole[0] == tokenizer.bos_token_id != plain[0]
    return begins, len(whole) > len(plain) and whole[-1] == tokenizer.eos_token_id != plain[-1]


def _logits(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, limit: int
) -> tuple[list[dict[str, Any]], np.ndarray]:
    rows: list[dict[str, Any]] = []
    found: list[np.ndarray] = []
    room = max(1, MAX_LOGITS // len(tokenizer))
    for text in corpus.texts(NUM_TEXTS):
        size = min(limit, room)
        ids = tokenizer(text)["input_ids"][:size]
        if len(ids) < 2:
            break
        found.append(_forward(model, ids))
        rows.append({"text": text, "limit": size, "count": len(ids), "ids": ids})
        room -= len(ids)
    return rows, np.concatenate(found)


def _forward(model: PreTrainedModel, ids: list[int]) -> np.ndarray:
    logits = model(input_ids=torch.tensor([ids], device=model.device)).logits[0]
    return logits.float().cpu().numpy()


def _answer(model: PreTrainedModel, prompt: list[int], limit: int, ends: list[int]) -> dict[str, Any]:
    """Go on greedily, up to an end token; `margins` is by how much each token was ahead of the next one."""
    asked = torch.tensor([prompt], device=model.device)
    output: Any = cast("Any", model).generate(
        input_ids=asked,
        attention_mask=torch.ones_like(asked),
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        repetition_penalty=1.0,
        max_new_tokens=limit,
        eos_token_id=ends,
        pad_token_id=ends[0],
        return_dict_in_generate=True,
        output_logits=True,
    )
    ids = output.sequences[0, len(prompt) :].tolist()
    best = torch.stack([each[0] for each in output.logits]).float().topk(2).values
    margins = (best[:, 0] - best[:, 1]).tolist()
    return {"prompt": prompt, "limit": limit, "ids": ids, "margins": margins, "stops": ids[-1] in ends}


def _chat(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any] | None:
    if not tokenizer.chat_template:
        return None
    text = tokenizer.apply_chat_template(list(MESSAGES), add_generation_prompt=True, tokenize=False)
    return {
        "messages": list(MESSAGES),
        "text": text,
        "stop_id": templates.stop_id(tokenizer),
    }


def _end_ids(tokenizer: PreTrainedTokenizerBase, chat: dict[str, Any] | None) -> list[int]:
    """Return the tokens that a GGUF file ends at: the tokenizer's end token, and the template's."""
    return sorted({cast("int", tokenizer.eos_token_id), *([chat["stop_id"]] if chat else [])})
