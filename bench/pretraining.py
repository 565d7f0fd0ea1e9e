"""Our pretraining loop beside transformers' Trainer and a plain PyTorch loop; tokenising beside the tokenizers library; Muon beside AdamW.

`BENCH_PRETRAINING` picks parts: speed, tokens, learning; `BENCH_PRETRAINING_STEPS` is the length of the runs of `learning`. Where
there is a GPU, `speed` runs the shape and batch of `BENCH_PRETRAINING_SHAPE` (175m, 700m) there, with what compiling and the
fused loss buy.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench.measure import quartiles, write_result

PARTS = os.environ.get("BENCH_PRETRAINING", "speed,tokens,learning").split(",")
SHAPE = os.environ.get("BENCH_PRETRAINING_SHAPE", "")
ROUNDS, STEPS, WARM = 6, 24, 4
LEARNING_STEPS = int(os.environ.get("BENCH_PRETRAINING_STEPS", "70"))
RATES, SEEDS = (3e-3, 6e-3, 1.2e-2), (1, 2)
MUON, ADAMW = "muon", "adamw_torch_fused"
HELD_OUT = 0.015
"""Of the library's files: measuring more of them would take longer than training."""


def main() -> None:
    """Measure the parts asked for and write them together."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        given = _Given(Path(folder), SHAPE or "stdlib-4m")
        found: dict[str, Any] = {"device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"}
        for part in PARTS:
            found[part] = {"speed": speed, "tokens": tokenising, "learning": learning}[part](given)
            write_result("pretraining", found)


class _Given:
    """Rows of the standard library as tokens, and fresh models of one shape."""

    def __init__(self, folder: Path, shape: str) -> None:
        import torch

        from codex_space.core.architectures import read_architecture
        from codex_space.core.recipe import validate
        from codex_space.data.prepare import prepare_rows
        from codex_space.work import packing, shards
        from codex_space.work.tokenizer import sample_texts
        from codex_space.work.vocabularies import learn

        self.on_gpu = torch.cuda.is_available()
        self.length, self.batch = (2048, 8) if self.on_gpu else (256, 8)
        recipe = {"kind": "pretrain", "architecture": "tiny", "tokenizer": "fresh:bpe"}
        recipe |= {"datasets": [{"path": "builtin:python-stdlib"}], "validation": {"fraction": HELD_OUT}}
        self.prepared = prepare_rows(validate(recipe), None, folder / "rows")
        self.texts = list(sample_texts(self.prepared.train, 1 << 40))
        self.words = learn(iter(self.texts), 4096)
        self.architecture = read_architecture(shape)
        self.folder = folder
        train = shards.write(self.prepared.train, "train", self.words, folder / "tokens")
        self.held = shards.write(self.prepared.validation, "held", self.words, folder / "tokens")
        self.rows = packing.Stream(shards.Reader(train), self.length, 1)

    def model(self, seed: int = 1) -> Any:  # noqa: ANN401  # transformers'
        from codex_space.work.fresh import build_fresh, quieten

        model = build_fresh(self.architecture, self.words, seed)
        quieten(model)
        return model

    def flops_per_peak(self) -> float:
        """Return the share of the GPU's peak that one token a second takes, 0 where that is not known."""
        import torch

        from codex_space.core.hardware import find_gpu
        from codex_space.core.recipe import validate
        from codex_space.work.speed import flops_per_token

        known = find_gpu(torch.cuda.get_device_name()) if self.on_gpu else None
        recipe: Any = validate(
            {"kind": "pretrain", "architecture": "tiny", "tokenizer": "fresh:bpe", "datasets": [{"path": "sample:x"}]}
        )
        return flops_per_token(self.model(), recipe, self.length) / (known["tflops"] * 1e12) if known else 0.0

    def loop(self, seed: int = 1, **train: Any) -> Any:  # noqa: ANN401  # ours
        from codex_space.core.paths import JobDir
        from codex_space.work.loop_arguments import LoopArguments
        from codex_space.work.loop_text import Corpus, TextLoop

        attempt: Any = SimpleNamespace(job=JobDir(self.folder))
        arguments = LoopArguments(
            **{
                "per_device_train_batch_size": self.batch,
                "per_device_eval_batch_size": 16,
                "logging_steps": 10**6,
                **train,
            }
        )
        return TextLoop(attempt, self.model(seed), self.words, Corpus(self.rows, self.length, "", self.held), arguments)


class _Stamps:
    """Notes when the rows of each step were there and when it ended, in the place of the Reporter."""

    def __init__(self) -> None:
        self.had_rows_at: list[float] = []
        self.at: list[float] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        noted = {"on_step_begin": self.had_rows_at, "on_step_end": self.at}.get(name, [])
        return lambda *_, **__: noted.append(time.perf_counter())

    @property
    def data_share(self) -> float:
        """Share of the measured time in which the loop waited for its rows."""
        ended, had_rows = self.at[WARM:], self.had_rows_at[WARM + 1 :]
        return sum(rows - end for end, rows in zip(ended, had_rows, strict=False)) / (ended[-1] - ended[0])


def speed(given: _Given) -> dict[str, Any]:
    """Return tokens/s of each, and ours to theirs, interleaved; all with fused AdamW and bfloat16 where it multiplies fast.

    `data_share` is the part of our loop's time that goes into reading rows.
    """
    waits: list[float] = []
    contenders: dict[str, Callable[[], list[float]]] = {
        "ours": lambda: _ours(given, waits),
        "trainer": lambda: _trainer(given),
        "plain": lambda: _plain(given),
    }
    if given.on_gpu:
        contenders["ours compiled"] = lambda: _ours(given, [], torch_compile=True)
        contenders["ours with muon"] = lambda: _ours(given, [], optim="muon")
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(ROUNDS):
        for name in list(contenders)[:: -1 if turn % 2 else 1]:
            stamps = contenders[name]()
            each = statistics.median(b - a for a, b in zip(stamps[WARM:], stamps[WARM + 1 :], strict=False))
            rates[name].append(given.batch * given.length / each)
    ratios = {
        f"ours to {name}": quartiles([ours / theirs for ours, theirs in zip(rates["ours"], rates[name], strict=True)])
        for name in ("trainer", "plain")
    }
    mfu = {name: round(statistics.median(found) * given.flops_per_peak(), 4) for name, found in rates.items()}
    told = {"tokens_per_s": {name: quartiles(found) for name, found in rates.items()}, **ratios}
    return {**told, "data_share": quartiles(waits), "mfu": mfu}


def _ours(given: _Given, waits: list[float], **train: Any) -> list[float]:  # noqa: ANN401  # fields of LoopArguments
    loop = given.loop(**{"optim": "adamw_torch_fused", "max_steps": STEPS, "learning_rate": 1e-3, **train})
    loop.reporter = stamps = _Stamps()
    loop.train()
    waits.append(stamps.data_share)
    return stamps.at


def _trainer(given: _Given) -> list[float]:
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments, default_data_collator

    from codex_space.work.loop import multiplies_bf16

    class Blocks(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return given.rows.num_rows

        def __getitem__(self, index: int) -> dict[str, Any]:
            ids = torch.from_numpy(given.rows.row(index)[:-1])
            return {"input_ids": ids, "labels": ids}

    class Callback(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            at.append(time.perf_counter())

    at: list[float] = []
    arguments = TrainingArguments(
        output_dir=str(given.folder / "trainer"), max_steps=STEPS, per_device_train_batch_size=given.batch,
        learning_rate=1e-3, optim="adamw_torch_fused", bf16=multiplies_bf16(), use_cpu=not given.on_gpu,
        report_to="none", save_strategy="no", logging_steps=10**6, disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(
        given.model(), arguments, train_dataset=Blocks(), data_collator=default_data_collator, callbacks=[Callback()]
    )
    trainer.train()
    return at


def _plain(given: _Given) -> list[float]:
    import torch

    from codex_space.work.loop import multiplies_bf16

    device = "cuda" if given.on_gpu else "cpu"
    model = given.model().to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    at: list[float] = []
    for step in range(STEPS):
        rows = [torch.from_numpy(given.rows.row(step * given.batch + place)[:-1]) for place in range(given.batch)]
        ids = torch.stack(rows).to(device)
        with torch.autocast(device, torch.bfloat16, enabled=multiplies_bf16()):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        at.append(time.perf_counter())
    return at


def tokenising(given: _Given) -> dict[str, Any]:
    """Return megabytes a second of our shards and of the library's encode_batch, and seconds of learning a tokenizer by each."""
    from tokenizers import Tokenizer, trainers

    from codex_space.work import shards
    from codex_space.work.vocabularies import SPECIAL_TOKENS, learn

    size_mb = sum(len(text.encode()) for text in given.texts) / 1e6
    backend = given.words.backend_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=4096, special_tokens=SPECIAL_TOKENS, show_progress=False)
    does: dict[str, Callable[[int], object]] = {
        "ours": lambda turn: shards.write(given.prepared.train, f"turn {turn}", given.words, given.folder / "again"),
        "theirs": lambda _: backend.encode_batch(given.texts, add_special_tokens=False),
        "learnt": lambda _: learn(iter(given.texts), 4096),
        "plain": lambda _: Tokenizer.from_str(backend.to_str()).train_from_iterator(iter(given.texts), trainer=trainer),
    }
    took: dict[str, list[float]] = {name: [] for name in does}
    for turn in range(2 * ROUNDS):
        for name in list(does)[:: -1 if turn % 2 else 1]:
            began = time.perf_counter()
            does[name](turn)
            took[name].append(time.perf_counter() - began)
    ours, theirs = ([size_mb / each for each in took[name]] for name in ("ours", "theirs"))
    learnt, plain = took["learnt"], took["plain"]
    return {
        "megabytes": round(size_mb, 2),
        "ours_mb_per_s": quartiles(ours),
        "encode_batch_mb_per_s": quartiles(theirs),
        "ours_to_encode_batch": quartiles([a / b for a, b in zip(ours, theirs, strict=True)]),
        "learning_to_the_librarys": quartiles([a / b for a, b in zip(learnt, plain, strict=True)]),
    }


def learning(given: _Given) -> dict[str, Any]:
    """Return held-out bits a byte of Muon and AdamW at equal tokens, by learning rate and seed, and of shorter and longer runs.

    The ratios are of means over the seeds, of each optimizer at the rate that is best for it.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for optim, rate, seed, steps in _trials():
        loop = given.loop(seed, optim=optim, learning_rate=rate, max_steps=steps)
        loop.train()
        bits = round(loop.evaluate()["eval_bits_per_byte"], 4)
        found.setdefault(f"{optim} {steps} steps", {}).setdefault(f"{rate:g}", {})[f"seed {seed}"] = bits
    means = {
        name: {rate: statistics.mean(by_seed.values()) for rate, by_seed in by_rate.items()}
        for name, by_rate in found.items()
    }
    whole, half = f"{MUON} {LEARNING_STEPS} steps", f"{MUON} {LEARNING_STEPS // 2} steps"
    muon, adamw = min(means[whole].values()), min(means[f"{ADAMW} {LEARNING_STEPS} steps"].values())
    return {
        "tokens": LEARNING_STEPS * given.batch * given.length,
        "seeds": list(SEEDS),
        "held_out_bytes": given.held.num_bytes,
        "bits_per_byte": found,
        "best_muon_to_best_adamw": round(muon / adamw, 4),
        "twice_as_long_to_half": round(means[whole][f"{RATES[1]:g}"] / means[half][f"{RATES[1]:g}"], 4),
    }


def _trials() -> Iterator[tuple[str, float, int, int]]:
    for seed in SEEDS:
        for optim in (MUON, ADAMW):
            for rate in RATES:
                yield optim, rate, seed, LEARNING_STEPS
        yield MUON, RATES[1], seed, LEARNING_STEPS // 2


if __name__ == "__main__":
    main()
