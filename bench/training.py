"""A training run to measure with: an untrained 4M-parameter base and a recipe of about half a minute on 2 cores."""

import itertools
import json
import statistics
import sysconfig
from pathlib import Path

STEPS = 60
BATCH = 4


def make_base(folder: Path) -> Path:
    """Save a Llama of 4M parameters with random weights and a small byte-level BPE tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    vocab_size = make_tokenizer(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def make_tokenizer(folder: Path) -> int:
    """Save a byte-level BPE tokenizer of 2,048 entries trained on the standard library; return its size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048,
        special_tokens=["<|endoftext|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    files = sorted(str(path) for path in Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    tokenizer.train(files, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|pad|>")
    fast.save_pretrained(folder)
    return len(fast)


def write_rows(path: Path) -> Path:
    """Write prompt/completion rows of a few hundred tokens, cut from the standard library."""
    rows = []
    for source in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("[a-m]*.py")):
        text = source.read_text(encoding="utf-8", errors="ignore")
        for start in range(0, min(len(text), 12_000), 1200):
            rows.append({"prompt": text[start : start + 300], "completion": text[start + 300 : start + 1200]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows if row["completion"]), encoding="utf-8")
    return path


def recipe_text(base: Path, rows: Path, name: str, steps: int = STEPS) -> str:
    """Return an SFT recipe with LoRA for that base, a checkpoint half way, the loss logged at every step."""
    return f"""kind: sft
name: {name}
model: {{model_name_or_path: {base}}}
lora: {{r: 8, lora_alpha: 16}}
datasets: [{{path: {rows}}}]
validation: {{fraction: 0}}
train:
  max_steps: {steps}
  per_device_train_batch_size: {BATCH}
  learning_rate: 1.0e-3
  max_length: 256
  logging_steps: 1
checkpoints: {{every_steps: {steps // 2}}}
"""


def training_seconds(job: Path) -> float:
    """Return the seconds from the first to the last logged step of a run."""
    events = [json.loads(line) for line in (job / "events.jsonl").read_text().splitlines()]
    times = [event["t"] for event in events if event["e"] == "log" and "loss" in event["metrics"]]
    return times[-1] - times[0]


def median_step_seconds(job: Path) -> float:
    """Return the median time between two logged steps: what the other guests of a shared machine disturb least."""
    times = sorted(logged_at(job).values())
    return statistics.median(after - before for before, after in itertools.pairwise(times))


def logged_at(job: Path) -> dict[int, float]:
    """Return when each step's loss was written, by step."""
    events = [json.loads(line) for line in (job / "events.jsonl").read_text().splitlines()]
    return {event["step"]: event["t"] for event in events if event["e"] == "log" and "loss" in event["metrics"]}
