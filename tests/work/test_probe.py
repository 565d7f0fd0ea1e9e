"""The probe: a step on the longest rows before training, which changes nothing, and its cure where memory is short."""

import contextlib
import re
import resource
from pathlib import Path

import pytest
import yaml

from codex_space.work import probe
from tests.work.conftest import chat_rows, make_folder, pretrain_recipe, sft_recipe, text_rows, weights

pytestmark = pytest.mark.slow
PAIRS = [
    {"prompt": f"Add {n}.", "chosen": f"return x + {n}" + " # yes" * (n % 5), "rejected": f"return x - {n}"}
    for n in range(24)
]


def dpo_recipe(**changes):
    return sft_recipe(kind="dpo", **changes)


CASES = {
    "sft with dropout, noise and accumulation": (
        sft_recipe, chat_rows(), {"lora": {"r": 4, "lora_dropout": 0.3}, "train": {"neftune_noise_alpha": 5, "gradient_accumulation_steps": 2}},
    ),
    "sft packed, all weights": (sft_recipe, chat_rows(), {"lora": None, "train": {"packing": True, "per_device_train_batch_size": 1}}),
    "dpo": (dpo_recipe, PAIRS, {}),
    "pretrain": (pretrain_recipe, text_rows(), {}),
}  # fmt: skip


@pytest.mark.parametrize(("make", "rows", "changes"), CASES.values(), ids=CASES)
def test_a_probed_run_is_the_same_to_the_bit(tmp_path, make, rows, changes):
    curves, saved = [], []
    for wanted in ("on", "off"):
        train = {"max_steps": 4, **changes.get("train", {})}
        recipe = make(**{**changes, "train": train}, launch={"probe": wanted}, checkpoints={"every_steps": 4})
        job = make_folder(tmp_path / wanted, {key: value for key, value in recipe.items() if value is not None}, rows)
        assert job.run() == 0, job.sentence
        told = job.said("probe")
        assert len(told) == (wanted == "on")
        if told:
            assert 0.1 < told[0]["peak_gib"] < 20
            assert 0.5 < told[0]["estimated_gib"] < 20
        curves.append([job.curve(name) for name in ("loss", "grad_norm", "learning_rate", "eval_loss")])
        saved.append(weights(job.dir.checkpoint(4)))
    assert curves[0] == curves[1]
    assert saved[0] == saved[1]


@contextlib.contextmanager
def _little_memory(spare_bytes):
    """Let this process reserve that much more than it has; the allocator then really fails."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + spare_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def starve(monkeypatch, spare_bytes):
    run = probe.run

    def starved(*args):
        with _little_memory(spare_bytes):
            run(*args)

    monkeypatch.setattr(probe, "run", starved)


def long_rows(num):
    return [{"prompt": f"{n}", "completion": "x = 1\n" * 40} for n in range(num)]


def test_where_memory_is_short_the_smallest_change_that_fits_is_told_and_not_made(tmp_path, monkeypatch):
    starve(monkeypatch, 500 << 20)
    train = {"max_steps": 2, "per_device_train_batch_size": 256, "max_length": 512}
    recipe = sft_recipe(lora=None, train=train, launch={"probe": "on"})
    recipe.pop("lora")
    job = make_folder(tmp_path, recipe, long_rows(300))
    before = job.dir.recipe.read_text()
    assert job.run() == 1
    assert "needs more memory than there is" in job.sentence
    found = re.search(
        r"per_device_train_batch_size: (\d+), train.gradient_accumulation_steps: (\d+): tried, and it takes",
        job.sentence,
    )
    assert found, job.sentence
    batch, accumulation = map(int, found.groups())
    assert 1 <= batch < 256
    assert batch * accumulation == 256
    assert job.dir.recipe.read_text() == before
    assert not job.curve("loss")
    monkeypatch.undo()
    starve(monkeypatch, 500 << 20)
    fixed = {
        **yaml.safe_load(before),
        "train": {**train, "per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation},
    }
    assert make_folder(tmp_path / "again", fixed, long_rows(300)).run() == 0


def test_the_choices_are_bisected():
    tried = []

    def fits_from(index):
        def fake(_trainer, choice):
            tried.append(choice)
            return 1.0 if choice >= index else None

        return fake

    for first in range(9):
        tried.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(probe, "_try", fits_from(first))
            found = probe._first_that_fits(None, list(range(8)))
        assert found == ((first, 1.0) if first < 8 else None)
        assert len(tried) <= 4


def test_auto_tries_nothing_on_a_cpu(tmp_path):
    job = make_folder(tmp_path, sft_recipe(train={"max_steps": 1}), chat_rows())
    assert job.run() == 0
    assert not job.said("probe")


def test_an_unknown_choice_is_refused(tmp_path):
    job = make_folder(tmp_path, sft_recipe(launch={"probe": "maybe"}), chat_rows())
    assert job.run() == 1
    assert "launch.probe" in job.sentence
