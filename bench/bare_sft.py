"""The peer of `supervised`: the same training as a plain TRL script, without this program around it."""

import sys
from pathlib import Path

from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from bench.training import BATCH


def main(base: str, rows: str, out: str, steps: int) -> None:
    """Train with LoRA for `steps` steps and save twice, as bench.training's recipe does."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = (Path(__file__).parent.parent / "configs" / "chat_template.jinja").read_text()
    config = SFTConfig(
        output_dir=out,
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        learning_rate=1.0e-3,
        max_length=256,
        logging_steps=1,
        save_steps=steps // 2,
        gradient_checkpointing=False,
        seed=42,
        data_seed=42,
        use_cpu=True,
        bf16=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        include_num_input_tokens_seen="non_padding",
    )
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base),
        args=config,
        train_dataset=Dataset.from_json(rows, cache_dir=str(Path(out) / "cache")).map(as_turns),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    trainer.train()


def as_turns(row: dict[str, str]) -> dict[str, list[dict[str, str]]]:
    """Turn a prompt and its completion into a conversation."""
    return {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "completion": [{"role": "assistant", "content": row["completion"]}],
    }


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
