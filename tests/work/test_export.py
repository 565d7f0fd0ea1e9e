"""Exports with the real llama.cpp: files equal to their model in every family, and faults planted on the way caught."""

import contextlib
import json
import os
import shutil
import signal
import subprocess

import pytest
import torch
from peft import LoraConfig, get_peft_model

from codex_space.core import durable
from codex_space.core.errors import ModelError, TrainingError
from codex_space.core.export_tools import find_converter
from codex_space.work import convert, export, importance, merge, models, templates
from codex_space.work.attempt import StopFlag, read_attempt
from codex_space.work.corpus import strings
from tests.work.conftest import chat_rows, make_folder, wait_until
from tests.work.gguf_models import CHATML, FAMILIES, edit_json, make_model, make_tokenizer

pytestmark = [
    pytest.mark.slow,
    # PEFT 0.21 on transformers 5.23, which a worker keeps out of its log
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:fan_in_fan_out"),
    pytest.mark.skipif(find_converter() is None, reason="llama.cpp is not set up on this machine: make export-tools"),
]
RUN = "20261121-001530-export-k3f9"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Models by family, made once."""
    root, known = tmp_path_factory.mktemp("models"), {}

    def make(family, split="qwen2", **changes):
        name = f"{family}-{split}-{len(json.dumps(changes))}"
        if name not in known:
            known[name] = root / name
            bos = changes.pop("bos", False)
            make_model(known[name], family, make_tokenizer(split, bos=bos), **changes)
        return known[name]

    return make


def run_export(parent, folder, kinds=("F16",), run_id=RUN, **changes):
    job = make_folder(
        parent,
        {"kind": "export", "model": {"model_name_or_path": str(folder)}, "gguf": list(kinds), **changes},
        run_id=run_id,
    )
    code = job.run(num_threads=2)
    return job, code, durable.read_json(job.dir.export / "export.json") or {"files": []}


@pytest.mark.parametrize(
    ("family", "split"),
    [
        ("llama", "qwen2"),
        ("qwen2", "qwen2"),
        ("qwen3", "dbrx"),
        ("starcoder2", "starcoder"),
        ("smollm3", "dbrx"),
        ("gpt2", "gpt-2"),
        ("gpt_neox", "gpt-2"),
    ],
)
def test_a_file_of_each_family_is_its_model(made, tmp_path, family, split):
    job, code, found = run_export(tmp_path, made(family, split))
    assert code == 0, job.sentence
    (row,) = found["files"]
    assert found["reference"]["logits_std"] > 3
    assert row["kl"] < 1e-3
    assert row["tokens_equal"]
    assert row["num_strings"] == 500
    assert row["margin"] < 0.2, "where greedy answers part, the model itself was undecided"
    assert row["passed"]
    assert set(FAMILIES) <= set(export.FAMILIES)


def test_types_and_their_companions_come_from_one_conversion(made, tmp_path):
    job, code, found = run_export(
        tmp_path,
        made("llama", hidden_size=256),
        ["Q8_0", "Q4_K_M", "BF16"],
        system="Be brief.",
        name="my model",
        hub={"repo_id": "ada/my-model-GGUF"},
    )
    assert code == 0, job.sentence
    rows = {row["type"]: row for row in found["files"]}
    assert list(rows) == ["BF16", "Q8_0", "Q4_K_M"]
    assert rows["Q8_0"]["kl"] < rows["Q4_K_M"]["kl"] < 1
    names = sorted(path.name for path in job.dir.export.iterdir())
    assert names == sorted(
        [
            "Modelfile",
            "README.md",
            "codex_model.json",
            "export.json",
            "my-model-BF16.gguf",
            "my-model-Q4_K_M.gguf",
            "my-model-Q8_0.gguf",
            "params",
            "system",
            "template",
            "tokenizer",
        ]
    )
    spooled = {path.name for path in job.dir.spooled(1).iterdir()}
    assert spooled == {*names, "codex_manifest.json"} - {"export.json", "README.md", "tokenizer"}
    assert "ollama run hf.co/ada/my-model-GGUF:Q4_K_M" in (job.dir.export / "README.md").read_text()
    modelfile = (job.dir.export / "Modelfile").read_text()
    assert "FROM ./my-model-Q4_K_M.gguf" in modelfile
    assert 'PARAMETER stop "<|im_end|>"' in modelfile
    assert 'SYSTEM """Be brief."""' in modelfile
    assert [event["step"] for event in job.said("log")] == sorted(event["step"] for event in job.said("log"))
    assert job.said("log")[-1]["step"] == 100
    assert not (job.dir.root / "cache" / "reference").exists()


def test_ollamas_template_leaves_out_the_begin_token_that_ollama_adds(tmp_path):
    tokenizer = make_tokenizer(bos=True, template="{{ bos_token }}" + CHATML)
    make_model(tmp_path / "model", "llama", tokenizer)
    job, code, _ = run_export(tmp_path, tmp_path / "model")
    assert code == 0, job.sentence
    found = (job.dir.export / "template").read_text()
    assert "<s>" not in found
    chat = [{"role": "user", "content": "hello"}]
    shown = templates.take_apart(tokenizer).without_begin("<s>").render(chat)
    told = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert tokenizer(shown)["input_ids"] == tokenizer(told, add_special_tokens=False)["input_ids"]


def plant_rope(folder):
    config = json.loads((folder / "config.json").read_text())
    edit_json(folder / "config.json", rope_parameters={**config["rope_parameters"], "rope_theta": 500.0})


def plant_template(folder):
    (folder / "chat_template.jinja").write_text(CHATML.replace("<|im_start|>assistant", "<|im_start|>bot"))


def plant_vocabulary(folder):
    """The same pieces under numbers shifted by one, as a wrong offset of added tokens gives."""
    path = folder / "tokenizer.json"
    found = json.loads(path.read_text())
    shifted = found["model"]["vocab"]
    plain = sorted((number for token, number in shifted.items() if number > 20))
    turned = dict(zip(plain, [*plain[1:], plain[0]], strict=True))
    found["model"]["vocab"] = {token: turned.get(number, number) for token, number in shifted.items()}
    path.write_text(json.dumps(found))


def plant_bos(folder):
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "post_processor": None}))


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (plant_rope, "differs too much"),
        (plant_template, "chat template"),
        (plant_vocabulary, "other tokens"),
        (plant_bos, "other tokens"),
    ],
)
def test_a_fault_planted_between_model_and_file_is_caught(made, tmp_path, monkeypatch, plant, said):
    """The converter is given a folder with one fault; what the file is compared with is the sound one."""
    sound = made("llama", bos=True)
    faulty = tmp_path / "faulty"
    shutil.copytree(sound, faulty)
    plant(faulty)
    real, seen = export._convert, {}

    def convert_faulty(state, model, tokenizer, kind, part):
        real(state, faulty, models.load_tokenizer(str(faulty)), kind, part)

    monkeypatch.setattr(export, "_convert", convert_faulty)
    real_measure = export._run

    def keep(state, arguments, what, part):
        told = real_measure(state, arguments, what, part)
        if "measure" in arguments:
            seen.update(json.loads(told.splitlines()[-1]))
        return told

    monkeypatch.setattr(export, "_run", keep)
    job, code, found = run_export(tmp_path, sound)
    assert code == 1
    assert said in job.sentence
    assert not list(job.dir.export.glob("*.gguf"))
    assert not found["files"][0]["passed"]
    if plant in (plant_rope, plant_vocabulary, plant_bos):
        assert seen["kl"] > 0.1, "a hundred times what a sound file may have"


def adapter(base, folder, **changes):
    torch.manual_seed(3)
    model = models.load_model(str(base), dtype=torch.float32)
    tuned = get_peft_model(
        model, LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM", **changes)
    )
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.02)
            elif "magnitude" in name:
                weight.mul_(1.1)
    tuned.save_pretrained(folder)
    models.load_tokenizer(str(base)).save_pretrained(folder)
    edit_json(folder / "adapter_config.json", base_model_name_or_path=str(base))
    return folder


@pytest.mark.parametrize(
    ("family", "changes"),
    [("llama", {}), ("llama", {"use_rslora": True}), ("qwen2", {"use_dora": True}), ("gpt2", {"use_rslora": True})],
)
def test_a_merge_by_shards_is_pefts_own_and_never_holds_the_model(made, tmp_path, family, changes):
    base = tmp_path / "base"
    split = "gpt-2" if family == "gpt2" else "qwen2"
    models.load_model(str(made(family, split)), dtype=torch.float32).save_pretrained(base, max_shard_size="400KB")
    models.load_tokenizer(str(made(family, split))).save_pretrained(base)
    assert len(list(base.glob("*.safetensors"))) > 2
    tuned, said = adapter(base, tmp_path / "adapter", **changes), []
    merge.merge(tuned, base, tmp_path / "merged", said.append)
    assert all(text.startswith("shard") for text in said)
    ids = torch.arange(10, 90)[None]
    with torch.inference_mode():
        expected = models.load_adapter(str(tuned), dtype=torch.float32).eval()(ids).logits
        plain = models.load_model(str(base), dtype=torch.float32).eval()(ids).logits
        found = models.load_model(str(tmp_path / "merged"), dtype=torch.float32).eval()(ids).logits
    assert (found - expected).abs().max() < 1e-3
    assert (plain - expected).abs().max() > 0.05


@pytest.mark.parametrize("changes", [{}, {"use_rslora": True}])
def test_a_plain_adapter_is_a_file_of_its_own_and_rsloras_scale_is_kept(made, tmp_path, changes):
    tuned = adapter(made("llama"), tmp_path / "tuned", **changes)
    job, code, found = run_export(tmp_path, tuned, adapter=True)
    assert code == 0, job.sentence
    rows = {row["type"]: row for row in found["files"]}
    assert rows["LoRA"]["passed"], rows["LoRA"]["why"]
    assert rows["LoRA"]["kl"] < 1e-3
    assert rows["LoRA"]["bytes"] < rows["F16"]["bytes"]
    assert found["usual"] == rows["F16"]["path"]


def test_an_adapter_that_is_more_than_lora_has_no_file_of_its_own(made, tmp_path):
    tuned = adapter(made("qwen2"), tmp_path / "tuned", use_dora=True)
    with pytest.raises(ModelError, match="no plain LoRA"):
        merge.as_plain_lora(tuned, tmp_path)


def tune_in_4bit(parent, base, **changes):
    """A run trained by SFT on a base in 4 bits, until its adapter matters."""
    recipe = {
        "kind": "sft", "name": "qlora", "model": {"model_name_or_path": str(base), "load_in_4bit": True},
        "lora": {"r": 8, "lora_alpha": 16}, "validation": {"fraction": 0.1}, "chat_template": "codex",
        "train": {"max_steps": 30, "learning_rate": 0.003, "per_device_train_batch_size": 4, "max_length": 128},
    }  # fmt: skip
    return make_folder(parent, {**recipe, **changes}, chat_rows(), run_id="20261121-001520-sft-aaaa")


def test_what_was_tuned_in_4_bits_is_merged_into_the_whole_base_and_says_so(made, tmp_path):
    tuned = tune_in_4bit(tmp_path, made("qwen2"))
    assert tuned.run(num_threads=2) == 0, tuned.sentence
    checkpoint, ref = tuned.dir.checkpoint(30), "run:20261121-001520-sft-aaaa@step-30"
    job = make_folder(
        tmp_path,
        {"kind": "export", "name": "q", "model": {"model_name_or_path": ref}, "gguf": ["F16", "Q8_0"]},
        run_id=RUN,
    )
    assert job.run(num_threads=2, references={ref: str(checkpoint)}) == 0, job.sentence
    found = durable.read_json(job.dir.export / "export.json")
    rows, told = {row["type"]: row for row in found["files"]}, found["reference"]
    assert rows["F16"]["passed"]
    assert rows["Q8_0"]["passed"]
    assert rows["F16"]["margin"] < 0.2
    assert rows["F16"]["kl"] < 1e-3
    assert told["adapter_kl"] < 1e-4, "merged into the base that is not quantised"
    assert told["trained_in_4bit"]
    assert told["kl_as_trained"] > 10 * rows["F16"]["kl"]
    assert "trained on a base held in 4 bits" in (job.dir.export / "README.md").read_text()
    names = {row["type"]: job.dir.export / row["path"] for row in found["files"]}
    references = {f"gguf:{RUN}/{path.name}": str(path) for path in names.values()}
    said = [
        ask(tmp_path, each, f"20261121-00154{number}-evaluate-aaaa", **{each: path})
        for number, (each, path) in enumerate(references.items())
    ]
    assert said[0] == ask(tmp_path, str(checkpoint), "20261121-001549-evaluate-bbbb")


@pytest.fixture(scope="module")
def stored_in_4bit(made, tmp_path_factory):
    """A model that is saved with its weights in 4 bits, as some repositories are."""
    folder = tmp_path_factory.mktemp("stored") / "model-bnb-4bit"
    held = models.load_model(str(made("qwen2")), dtype=torch.bfloat16, quantization_config=models.in_4bit())
    held.save_pretrained(folder)
    models.load_tokenizer(str(made("qwen2"))).save_pretrained(folder)
    return folder


def test_a_model_stored_in_4_bits_is_refused_with_what_to_name_instead(stored_in_4bit, tmp_path):
    job, code, _ = run_export(tmp_path, stored_in_4bit)
    assert code == 1
    assert job.sentence == (
        "model-bnb-4bit: its weights are stored quantised (bitsandbytes), and whole ones are needed. "
        "Name the model it was quantised from; to train in little memory, that one with model.load_in_4bit: true."
    )
    assert not list(job.dir.export.glob("*.gguf"))


@pytest.mark.parametrize("after", [["export"], []])
def test_a_base_stored_in_4_bits_is_refused_before_the_first_step(stored_in_4bit, tmp_path, after):
    model = {"model_name_or_path": str(stored_in_4bit)}
    job = tune_in_4bit(tmp_path, stored_in_4bit, model=model, train={"max_steps": 1}, after=after)
    assert job.run(num_threads=2) == 1
    assert "stored quantised (bitsandbytes)" in job.sentence
    assert not job.said("log")


def ask(parent, ref, run_id, **references):
    """Return what a model or a file answers to three problems."""
    recipe = {"kind": "evaluate", "model": {"model_name_or_path": ref}, "limit": 3, "max_new_tokens": 8}
    job = make_folder(parent, recipe, run_id=run_id)
    assert job.run(num_threads=2, references=references) == 0, job.sentence
    lines = (job.dir.evaluation(0, "first-steps") / "samples.jsonl").read_text().splitlines()
    return {row["task_id"]: row["text"] for row in map(json.loads, lines)}


def test_an_adapter_is_exported_merged_and_its_file_answers_a_benchmark_as_it_does(made, tmp_path):
    tuned = adapter(made("llama"), tmp_path / "tuned")
    job, code, found = run_export(tmp_path, tuned)
    assert code == 0, job.sentence
    assert found["reference"]["adapter_kl"] < 1e-4
    assert not job.dir.merged.exists()
    ref = f"gguf:{RUN}/{found['files'][0]['path']}"
    answers = ask(
        tmp_path, ref, "20261121-001540-evaluate-aaaa", **{ref: str(job.dir.export / found["files"][0]["path"])}
    )
    assert len(answers) == 3
    assert answers == ask(tmp_path, str(tuned), "20261121-001540-evaluate-bbbb")


def test_a_killed_export_goes_on_from_its_16_bits(made, tmp_path, processes):
    model = made("llama")
    job = make_folder(
        tmp_path,
        {"kind": "export", "model": {"model_name_or_path": str(model)}, "gguf": ["Q8_0"]},
        run_id=RUN,
    )
    process = job.start(num_threads=1)
    processes.append(process)
    wait_until(lambda: list(job.dir.export.glob("*-F16.gguf")), "the conversion")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (job.dir.export / "x-Q8_0.gguf.part").write_bytes(b"half")
    made_again = []
    real = export._convert
    export._convert = lambda *given: made_again.append(given)
    try:
        assert job.run(attempt=2, num_threads=2) == 0, job.sentence
    finally:
        export._convert = real
    assert not made_again
    assert not list(job.dir.export.glob("*.part"))
    assert {path.name.rpartition("-")[2] for path in job.dir.export.glob("*.gguf")} == {"Q8_0.gguf"}


def test_a_stop_keeps_what_is_finished_and_a_crash_is_one_sentence(made, tmp_path, monkeypatch):
    from codex_space.work import children

    real = children.run

    def crash(attempt, arguments, what, watch, **kwargs):
        if "quantize" in arguments:
            code = "import os; os.abort()"
            arguments = ["timeit", "-n", "1", "-r", "1", code]
        return real(attempt, arguments, what, watch, **kwargs)

    monkeypatch.setattr(children, "run", crash)
    job, code, found = run_export(tmp_path, made("llama"), ["F16", "Q8_0"])
    assert code == 1
    assert "quantising to Q8_0 crashed (signal SIGABRT)" in job.sentence
    assert [row["type"] for row in found["files"]] == ["F16"]
    assert not list(job.dir.export.glob("*.part"))
    monkeypatch.setattr(children, "run", real)
    job.dir.stop_request.touch()
    assert job.run(attempt=2, num_threads=2) == 0
    assert job.said("done")[-1]["stopped"]
    job.dir.stop_request.unlink()
    assert job.run(attempt=3, num_threads=2) == 0, job.sentence
    assert len(list(job.dir.export.glob("*.gguf"))) == 2


@pytest.mark.parametrize(
    ("at", "said"),
    [("convert", "llama.cpp's converter found the disk full"), ("quantize", "quantising to Q4_0 found the disk full")],
)
def test_a_disk_that_fills_up_is_said_and_with_room_again_it_goes_on(made, small_disk, monkeypatch, at, said):
    subprocess.run(["mount", "-o", "remount,size=24m", small_disk], check=True)
    from codex_space.work import children

    real, ballast = children.run, small_disk / "ballast"

    def fill(attempt, arguments, what, watch, **kwargs):
        if any(at in part for part in arguments) and not ballast.exists():
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
        return real(attempt, arguments, what, watch, **kwargs)

    monkeypatch.setattr(children, "run", fill)
    monkeypatch.setattr(export, "_SPARE_BYTES", 0)
    job, code, found = run_export(small_disk, made("llama"), ["F16", "Q4_0"])
    assert code == 1
    assert said in job.sentence
    assert not list(job.dir.export.glob("*.part"))
    assert [row["type"] for row in found["files"]] == (["F16"] if at == "quantize" else [])
    ballast.write_bytes(b"")
    assert job.run(attempt=2, num_threads=2) == 0, job.sentence
    assert len(list(job.dir.export.glob("*.gguf"))) == 2


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os.kill(os.getpid(), 9)", "x was ended for want of memory, as far as one can tell"),
        ("raise MemoryError", "x was ended for want of memory"),
        ("import os; os.kill(os.getpid(), 11)", "x crashed (signal SIGSEGV)"),
        ("import sys; sys.exit('llama_model_load: error loading model: no merges')", "x cannot load it (no merges)"),
        ("raise ValueError('odd shape')", "x failed (ValueError: odd shape)"),
    ],
)
def test_however_a_child_ends_it_is_one_sentence(tmp_path, code, said):
    from codex_space.work import children

    job = make_folder(tmp_path, {"kind": "export", "model": {"model_name_or_path": "fresh:tiny"}}, run_id=RUN)
    attempt = read_attempt(job.dir, None, clock=lambda: 0.0, stop=StopFlag(), check_only=False)
    with pytest.raises(TrainingError) as told:
        children.run(attempt, ["timeit", "-n", "1", "-r", "1", code], "x")
    assert said in str(told.value)
    assert "finished files are kept" in told.value.cure


def cut_weights(folder):
    path = next(folder.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1000])


def name_family(folder):
    edit_json(folder / "config.json", model_type="gemma3_text")


def take_weights(folder):
    next(folder.glob("*.safetensors")).unlink()


def split_strangely(folder):
    path = folder / "tokenizer.json"
    found = json.loads(path.read_text())
    found["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\w+|\s+"
    path.write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut_weights, "is cut off or damaged"),
        (name_family, "never proven equal"),
        (take_weights, "no safetensors weights"),
        (split_strangely, "none of the ways this tokenizer does"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_sentence(made, tmp_path, spoil, said):
    folder = tmp_path / "model"
    shutil.copytree(made("llama"), folder)
    spoil(folder)
    job, code, _ = run_export(tmp_path, folder)
    assert code == 1
    assert said in job.sentence
    assert not list(job.dir.export.glob("*.gguf*"))


def test_a_disk_too_small_is_said_before_the_first_byte(made, tmp_path, monkeypatch):
    monkeypatch.setattr(export.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    job, code, _ = run_export(tmp_path, made("llama"))
    assert code == 1
    assert "will be written and 0.0 GB are free" in job.sentence


def test_an_importance_matrix_makes_the_smallest_types_possible(made, tmp_path, monkeypatch):
    monkeypatch.setattr(importance, "NUM_TEXTS", 12)
    job, code, found = run_export(
        tmp_path,
        made("llama", hidden_size=256),
        ["IQ2_XS"],
        imatrix=True,
        datasets=[{"path": "sample:python-first-chat"}],
    )
    told = job.sentence if code else ""
    assert not code or "differs too much" in told, "two bits may be too few for random weights, but the file was made"
    assert [row["type"] for row in found["files"]] == ["IQ2_XS"], told
    assert found["files"][0]["kl"] > 0
    assert found["reference"]["imatrix_tokens"] > 500


def test_the_strings_hold_what_tokenizers_differ_on():
    found = strings(["<|im_end|>"], normalised=False)
    assert len(found) == 500
    whole = "".join(found)
    assert all(part in whole for part in ("\t", "\r\n", "1234567890", "😀", "我想", "<|im_end|>", "e\u0301"))
    assert "e\u0301" not in "".join(strings([], normalised=True))


@pytest.mark.parametrize("split", ["qwen2", "dbrx", "gpt-2", "starcoder"])
def test_a_pre_tokenizer_is_known_by_its_structure(split):
    found = json.loads(make_tokenizer(split).backend_tokenizer.to_str())
    assert convert.pre_tokenizer(found) == split
    assert convert.pre_tokenizer({"pre_tokenizer": {"type": "Whitespace"}}) is None
    assert convert.pre_tokenizer({}) is None
