"""Models with random weights in the shapes of real ones, and texts to train them on: made on the spot, nothing downloaded."""

import json
import random
import sysconfig
from pathlib import Path
from typing import Any

from bench.training import make_tokenizer

_QWEN = {"vocab_size": 151936, "num_key_value_heads": 2, "tie_word_embeddings": True, "max_position_embeddings": 32768}
SHAPES: dict[str, dict[str, Any]] = {
    "0.5b": {**_QWEN, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14},
    "1.5b": {**_QWEN, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12},
    "7b": {
        **_QWEN, "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "tie_word_embeddings": False,
    },
}  # fmt: skip
"""config.json of Qwen2.5-Coder-0.5B, 1.5B and 7B."""
TINY: dict[str, Any] = {
    **_QWEN, "vocab_size": 4096, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
}  # fmt: skip


def make_model(shape: dict[str, Any], folder: Path) -> int:
    """Save a Qwen2 model in bf16 with random weights, once; return its number of parameters."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    with torch.device("meta"):
        num_parameters = Qwen2ForCausalLM(Qwen2Config(**shape)).num_parameters()
    if folder.is_dir():
        return num_parameters
    make_tokenizer(folder)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = Qwen2ForCausalLM(Qwen2Config(**shape, bos_token_id=0, eos_token_id=0, pad_token_id=1))
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    del model
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return num_parameters


def write_texts(path: Path, kind: str) -> Path:
    """Write rows of the standard library: `long` ones and `pairs` that fill any max_length here, `mixed` ones of 100 to 2,000 tokens."""
    if path.is_file():
        return path
    draw = random.Random(0)
    sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    text = "\n".join(source.read_text(encoding="utf-8", errors="ignore") for source in sources)
    rows, at = [], 0
    while at < len(text) - 6000 and len(rows) < 4000:
        # one row in 200 ends within any max_length: a set in which none does is refused
        size = (
            (2300 if len(rows) % 200 == 9 else 12_000)
            if kind != "mixed"
            else int(min(6000, max(300, draw.lognormvariate(7.0, 0.8))))
        )
        part = text[at : at + size]
        row = (
            {"prompt": part[:2000], "chosen": part[2000:], "rejected": part[:1:-1]}
            if kind == "pairs"
            else {"text": part}
        )
        rows.append(json.dumps(row) + "\n")
        at += size
    path.write_text("".join(rows), encoding="utf-8")
    return path
