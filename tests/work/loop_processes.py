"""Started by torchrun: train a few steps on as many processes as there are, and let the first one save the weights."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from codex_space.core.architectures import read_architecture
from codex_space.core.paths import JobDir
from codex_space.work import fresh, packing, processes, shards
from codex_space.work.loop_arguments import LoopArguments
from codex_space.work.loop_text import Corpus, TextLoop
from codex_space.work.vocabularies import learn


def main(rows: Path, out: Path, batch: int, config: str = "ddp") -> None:
    """Train with that batch on each process."""
    torch.set_num_threads(1)
    words = learn([], 0)
    tokens = shards.write(rows, "rows", words, out.parent / f"tokens-{out.stem}")
    corpus = Corpus(packing.Stream(shards.Reader(tokens), 64, 1), 64, tokens.key, tokens)
    # AdamW with a large epsilon: neither it nor Muon's 16 bits then turn the rounding of a sum into a step of its own
    train = LoopArguments(
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=2,
        max_steps=5,
        bf16=False,
        max_grad_norm=0,  # a length that is always cut would hide a wrong scale
        optim="adamw_torch_fused",
        adam_epsilon=1e-3,
    )
    attempt: Any = SimpleNamespace(job=JobDir(out.with_suffix(".job")))
    loop = TextLoop(
        attempt,
        fresh.build_fresh(read_architecture("tiny"), words, 1),
        words,
        corpus,
        train,
        shares_model=config == "fsdp2",
    )
    loop.train()
    measured = loop.evaluate()
    loop.save()
    if processes.is_main():
        weights = {
            name: value.contiguous().clone()
            for name, value in load_file(attempt.job.checkpoint(5) / "model.safetensors").items()
        }
        save_file({**weights, "eval_loss": torch.tensor(measured["eval_loss"])}, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
