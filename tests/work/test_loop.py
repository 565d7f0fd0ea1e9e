"""Our own loop: its losses are those of plain PyTorch, its evaluation counts each token once, and it refuses what cannot be."""

import json
import math
import os
import shutil
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from codex_space.core.architectures import Architecture, list_architectures, read_architecture
from codex_space.core.errors import RecipeError
from codex_space.jobs.launch import worker_command, worker_environ
from codex_space.work import fresh, loop_text, optimizers
from codex_space.work.loop_arguments import LoopArguments
from codex_space.work.vocabularies import learn
from tests.work import loop_processes
from tests.work.conftest import make_folder, pretrain_recipe, text_rows, weights

pytestmark = pytest.mark.slow
EXACT = {"bf16": False}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    job = make_folder(tmp_path_factory.mktemp("loop"), pretrain_recipe(train={"max_steps": 6, **EXACT}), text_rows())
    assert job.run() == 0, job.sentence
    return job


def test_held_out_texts_are_measured_token_by_token(trained):
    """Each token but the first once, after half a row or more of what comes before it."""
    folder = trained.dir.checkpoint(6)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    words = AutoTokenizer.from_pretrained(folder)
    texts = pq.read_table(trained.dir.rows / "validation.parquet").column("text").to_pylist()
    ids = [words.eos_token_id]
    for text in texts:
        ids += [*words(text)["input_ids"], words.eos_token_id]
    nats, at, length = 0.0, 1, 64
    while at < len(ids):  # the next half row, or at the beginning and the end what there is
        end = min(at + (length if at == 1 else length // 2), len(ids))
        start = max(0, end - length - 1)
        with torch.inference_mode():
            logits = model(torch.tensor([ids[start : end - 1]])).logits[0]
        targets = torch.tensor(ids[start + 1 : end])
        nats += functional.cross_entropy(logits[at - start - 1 :], targets[at - start - 1 :], reduction="sum").item()
        at = end
    measured = dict(trained.curve("eval_loss"))[6]
    assert measured == pytest.approx(nats / (len(ids) - 1), abs=2e-5)
    num_bytes = sum(len(text.encode()) for text in texts)
    bits = dict(trained.curve("eval_bits_per_byte"))[6]
    assert bits == pytest.approx(nats / math.log(2) / num_bytes, abs=5e-5)
    assert dict(trained.curve("eval_perplexity"))[6] == pytest.approx(math.exp(measured))


def test_accumulation_adds_up_to_a_larger_batch(tmp_path):
    # AdamW with a large epsilon: Muon's 16-bit iteration and a division by near nothing would blow rounding up
    steady = {"max_steps": 6, "optim": "adamw_torch_fused", "adam_epsilon": 1e-3, **EXACT}
    curves = []
    for rows, times in ((4, 1), (1, 4)):
        train = {**steady, "per_device_train_batch_size": rows, "gradient_accumulation_steps": times}
        job = make_folder(tmp_path / str(times), pretrain_recipe(train=train), text_rows())
        assert job.run() == 0
        curves.append([loss for _, loss in job.curve("loss")])
    assert curves[0] == pytest.approx(curves[1], abs=1e-5)
    assert curves[0][-1] < curves[0][0] - 0.2


def test_a_checkpoint_is_whole_before_its_evaluation(tmp_path, monkeypatch):
    job = make_folder(tmp_path, pretrain_recipe(train={"max_steps": 6}, checkpoints={"every_steps": 3}), text_rows())
    with monkeypatch.context() as patch:
        patch.setattr(loop_text.TextLoop, "held_batches", lambda *_: (_ for _ in ()).throw(RuntimeError("it died")))
        assert job.run() == 1
    assert job.dir.checkpoint_steps() == [3]
    assert not job.said("checkpoint")
    assert job.resume() == 0
    assert [event["step"] for event in job.said("checkpoint")] == [3, 6]
    assert [step for step, _ in job.curve("eval_loss")] == [3, 6]
    assert "eval_loss" in job.manifest(3)["metrics"]


@pytest.mark.parametrize("what", ["tokenizer", "rows_a_step"])
def test_a_resume_with_another_tokenizer_or_batch_is_refused(trained, tmp_path, what):
    root = tmp_path / trained.dir.root.name
    shutil.copytree(trained.dir.root, root)
    job = type(trained)(type(trained.dir)(root))
    shutil.rmtree(root / "checkpoint-6")
    recipe = yaml.safe_load(job.dir.recipe.read_text())
    if what == "tokenizer":
        path = root / "tokenizer" / "tokenizer.json"
        words = json.loads(path.read_text())
        words["normalizer"] = {"type": "Lowercase"}
        path.write_text(json.dumps(words))
    else:
        recipe["train"]["per_device_train_batch_size"] = 3
        job.dir.recipe.write_text(yaml.safe_dump(recipe))
    assert job.resume() == 1
    told = {
        "tokenizer": "the texts or the tokenizer are not those this run began with",
        "rows_a_step": "a step was 4 rows",
    }
    assert told[what] in job.sentence
    assert weights(job.dir.checkpoint(5))


@pytest.mark.parametrize(
    ("kind", "shares"),
    [
        ("linear", {1: 0.1, 10: 1.0, 11: 1.0, 56: 0.5}),
        ("cosine", {5: 0.5, 11: 1.0, 56: 0.5}),
        ("constant_with_warmup", {1: 0.1, 50: 1.0, 100: 1.0}),
        ("warmup_stable_decay", {10: 1.0, 81: 1.0, 91: 0.5}),
    ],
)
def test_courses_of_the_learning_rate(kind, shares):
    arguments = LoopArguments(lr_scheduler_type=kind, warmup_steps=10, decay_steps=0.2)
    share = optimizers.course(arguments, 100)
    assert {step: round(share(step), 6) for step in shares} == shares


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"lr_scheduler_type": "cosin"}, "Did you mean 'cosine'"),
        ({"warmup_steps": 60, "decay_steps": 60}, "do not fit into 100"),
        ({"optim": "adam"}, "there is no optimizer 'adam'"),
    ],
)
def test_what_is_not_known_is_refused(train, said):
    arguments = LoopArguments(**train)
    with pytest.raises(RecipeError, match=said):
        optimizers.course(arguments, 100)
        optimizers.Optimizers(torch.nn.Linear(1, 1), arguments)


def test_the_fused_loss_is_the_plain_one():
    """What a GPU computes without ever holding all logits."""
    hidden, head = torch.randn(50, 16), torch.randn(300, 16)
    targets = torch.randint(0, 300, (50,))
    targets[:7] = -100
    fused = functional.linear_cross_entropy(
        hidden, head, targets, ignore_index=-100, options=torch.nn.LinearCrossEntropyOptions()
    )
    assert fused.item() == pytest.approx(functional.cross_entropy(hidden @ head.T, targets).item(), rel=1e-5)


@pytest.mark.parametrize("name", list_architectures())
def test_a_small_copy_of_every_shape_comes_back_with_equal_logits(tmp_path, name):
    full = read_architecture(name)
    small = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 300,
    }
    small |= {"intermediate_size": 256} | ({"head_dim": 16} if "head_dim" in full.fields else {})
    words = learn(["x"], 0)
    model = fresh.build_fresh(Architecture(name, {**full.fields, **small}), words, 1).eval()
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.arange(40)[None]
    with torch.inference_mode():
        assert torch.equal(model(ids).logits, again(ids).logits)
    assert type(model) is type(again)


def test_two_processes_train_as_one_with_the_same_rows(tmp_path):
    rows = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": [row["text"] for row in text_rows()]}), rows)
    alone, together = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    loop_processes.main(rows, alone, 4)
    _on_two_processes(rows, together, 2)
    other = load_file(together)
    for name, value in load_file(alone).items():
        torch.testing.assert_close(other[name], value, atol=1e-5, rtol=0)


def test_parts_of_a_model_train_as_a_whole_one(tmp_path):
    """FSDP2 over gloo: each process holds half of each layer; weights, losses and checkpoints are those of one process."""
    rows = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": [row["text"] for row in text_rows()]}), rows)
    alone, together = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    loop_processes.main(rows, alone, 4)
    _on_two_processes(rows, together, "2", "fsdp2")
    other = load_file(together)
    for name, value in load_file(alone).items():
        torch.testing.assert_close(other[name], value, atol=1e-5, rtol=0)


def _on_two_processes(*arguments):
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "tests.work.loop_processes"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launch, *map(str, arguments)]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]


@pytest.mark.parametrize("config", ["ddp", "fsdp2"])
def test_a_run_of_two_processes_stops_resumes_and_ends_as_one(tmp_path, config):
    steady = {"max_steps": 8, "optim": "adamw_torch_fused", "adam_epsilon": 1e-3, **EXACT}
    alone = make_folder(tmp_path / "alone", pretrain_recipe(train=steady), text_rows())
    assert alone.run() == 0, alone.sentence
    train = {**steady, "per_device_train_batch_size": 2}
    launched = {"num_processes": 2, "config": config, "num_threads": 1}
    both = make_folder(tmp_path / "both", pretrain_recipe(train=train, launch=launched), text_rows())
    environ = worker_environ(os.environ, num_threads=1, offline=True)
    both.dir.stop_request.touch()
    for attempt in (1, 2):
        step = both.dir.checkpoint_steps()[-1] if attempt == 2 else 0
        both.launch(num_processes=2, config=config, attempt=attempt, resume_from_step=step)
        command = worker_command(both.dir)
        ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=200, check=False)
        assert ended.returncode == 0, ended.stderr[-3000:]
        both.dir.stop_request.unlink(missing_ok=True)
    assert both.said("done")[0]["stopped"]
    assert 0 < both.said("done")[0]["step"] < both.said("done")[1]["step"] == 8
    for name in ("loss", "eval_loss", "grad_norm"):
        expected = dict(alone.curve(name))
        found = dict(both.curve(name))
        assert expected.keys() <= found.keys()
        # a millionth of a gradient's norm: at 36 an absolute 1e-5 is less than three roundings in 32 bits
        known = pytest.approx(list(expected.values()), rel=1e-6, abs=1e-5)
        assert [found[step] for step in expected] == known, name
    assert len(both.said("attempt")) == 2
    assert [path.name for path in both.dir.checkpoint(8).glob("*.safetensors")] == ["model.safetensors"]
    ones, twos = (load_file(job.dir.checkpoint(8) / "model.safetensors") for job in (alone, both))
    assert ones.keys() == twos.keys()
    assert json.loads((both.dir.root / "metrics.json").read_text())["final"]["step"] == 8


def test_steps_that_are_timed_keep_nothing(tmp_path):
    job = make_folder(tmp_path, pretrain_recipe(train={"gradient_accumulation_steps": 3}), text_rows())
    assert job.run("--check", timed_steps=4) == 0
    (speed,) = job.said("speed")
    assert (speed["steps"], speed["step_tokens"]) == (4, 4 * 3 * 64)
    assert speed["tokens_per_s"] > 0
    assert speed["evaluate_s"] > 0
    assert not job.dir.checkpoint_steps()
    assert not job.said("log")
