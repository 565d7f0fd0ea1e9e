"""The peer of `gpu`: the same training as a plain TRL script, without this program around it; logs what ours logs."""

import json
import sys
import time
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer


class _Log(TrainerCallback):
    def __init__(self, path: Path) -> None:
        self._path, self._at, self._tokens = path, time.monotonic(), 0

    def on_log(self, args, state, control, **_: object) -> None:  # noqa: ANN001  # transformers' own
        now, tokens = time.monotonic(), int(state.num_input_tokens_seen)
        speed = (tokens - self._tokens) / (now - self._at)
        memory = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0
        self._at, self._tokens = now, tokens
        entry = {"e": "log", "step": state.global_step, "metrics": {"tokens_per_s": speed, "memory_mib": memory}}
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")


def main(job: Path) -> None:
    """Train the recipe in the job folder."""
    recipe = json.loads((job / "recipe.yaml").read_text())
    base, on_gpu = recipe["model"]["model_name_or_path"], torch.cuda.is_available()
    config = SFTConfig(
        output_dir=str(job), seed=42, data_seed=42, report_to="none", save_strategy="no", disable_tqdm=True,
        bf16=on_gpu, use_cpu=not on_gpu, include_num_input_tokens_seen="non_padding", logging_first_step=True,
        gradient_checkpointing=on_gpu, **recipe["train"],
    )  # fmt: skip
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16 if on_gpu else torch.float32),
        args=config,
        train_dataset=Dataset.from_json(recipe["datasets"][0]["path"], cache_dir=str(job / "cache")),
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=LoraConfig(**recipe["lora"], target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[_Log(job / "events.jsonl")],
    )
    trainer.train()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
