"""A tiny copy of every base that a shipped recipe names is tuned as that recipe tunes it, exported, and is its model."""

import functools
import math
import shutil
from pathlib import Path

import pytest
import yaml
from tokenizers import Regex, decoders, pre_tokenizers
from trl import chat_template_utils

from codex_space.core.architectures import read_architecture
from codex_space.core.export_tools import find_converter
from codex_space.core.presets import list_presets
from codex_space.core.shapes import shipped_config
from codex_space.core.shared_recipe import WRITING_KINDS
from codex_space.data.sources import stdlib_files
from codex_space.work import export, fresh, models, vocabularies
from tests.work.conftest import chat_rows, make_folder, pairs, text_rows
from tests.work.gguf_models import edit_json, make_model, make_tokenizer
from tests.work.test_export import run_export

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:fan_in_fan_out"),
    pytest.mark.skipif(find_converter() is None, reason="llama.cpp is not set up on this machine: make export-tools"),
]
PRESETS = {preset.name: yaml.safe_load(preset.text) for preset in list_presets()}
TUNED = sorted(name for name, values in PRESETS.items() if values["kind"] in WRITING_KINDS and "model" in values)
MADE = sorted({values["architecture"] for values in PRESETS.values() if values["kind"] == "pretrain"})
BASES = sorted({PRESETS[name]["model"]["model_name_or_path"] for name in TUNED} - {"fresh:tiny"})
OTHERS = {
    "Qwen": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    "bigcode": {"rope_parameters": {"rope_type": "default", "rope_theta": 999999.442}, "sliding_window": 4096},
    "deepseek-ai": {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e5}},
    "codellama": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
}
"""What else than sizes the config.json of those models holds, as far as it changes what they compute."""


def shrink(config):
    """The same model with as many query heads to a key head and the same flags, but small."""
    heads, keys = config["num_attention_heads"], config["num_key_value_heads"]
    few = min(keys, 2)
    heads = heads // math.gcd(heads, keys) * few // (keys // math.gcd(heads, keys)) if keys > few else heads
    width = 32  # rows of whole 64s, as bitsandbytes cuts the 4 bits of all real ones
    return {
        **{name: config[name] for name in ("tie_word_embeddings", "use_bias") if name in config},
        "hidden_size": heads * width, "intermediate_size": 2 * heads * width, "num_hidden_layers": 2,
        "num_attention_heads": heads, "num_key_value_heads": few,
    }  # fmt: skip


def deepseek_tokenizer():
    found = make_tokenizer("gpt-2", template=None)
    parts = ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+")
    found.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(Regex(part), behavior="isolated") for part in parts),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    found.backend_tokenizer.decoder = decoders.ByteLevel()
    return found


def tokenizer_of(base, folder):
    owner = base.partition("/")[0]
    if owner == "deepseek-ai":
        return deepseek_tokenizer()
    if owner == "bigcode":
        return make_tokenizer("starcoder", template=None)
    if owner == "codellama":
        texts = [path.read_text(encoding="utf-8") for name, path in stdlib_files() if name in ("ast.py", "bdb.py")]
        with (
            pytest.MonkeyPatch.context() as patch
        ):  # theirs has no tokens for chat, by whose names llama.cpp ends answers
            patch.setattr(vocabularies, "SPECIAL_TOKENS", [vocabularies.EOS, vocabularies.PAD])
            return vocabularies.learn_sentencepiece(texts, 1000, "sentencepiece_bpe", folder, threads=1)
    return make_tokenizer("qwen2", template=chat_template_utils.qwen2_5_chat_template)


@pytest.fixture(scope="module")
def base_of(tmp_path_factory):
    root = tmp_path_factory.mktemp("bases")

    @functools.cache
    def make(base):
        folder = root / base.replace("/", "-")
        config = shipped_config(base)
        assert config, f"{base} has no sizes in configs/models.yaml"
        folder.mkdir()
        fields = {**shrink(config), **OTHERS[base.partition("/")[0]]}
        make_model(folder, config["model_type"], tokenizer_of(base, folder), **fields)
        return folder

    return make


def rows_of(kind):
    if kind == "sft":
        return chat_rows()
    if kind == "kto":
        return [
            {
                "prompt": row["prompt"],
                "completion": row["chosen" if number % 2 else "rejected"],
                "label": bool(number % 2),
            }
            for number, row in enumerate(pairs(20))
        ]
    return pairs(20)


def tune(parent, values, base):
    """Two steps of the recipe as it is, but for what makes it large."""
    kept = {name: values[name] for name in ("kind", "lora", "chat_template") if name in values}
    model = {**values["model"], "model_name_or_path": str(base)}
    train = {
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-3,
        "max_length": 128,
        "logging_steps": 1,
    }
    recipe = {
        **kept,
        "model": model,
        "train": train,
        "checkpoints": {"every_steps": 2},
        "validation": {"fraction": 0.1},
    }
    job = make_folder(parent, recipe, rows_of(values["kind"]), run_id=f"20261120-001530-{values['kind']}-aaaa")
    assert job.run(num_threads=2) == 0, job.sentence
    return job.dir.checkpoint(2)


def check_is_its_model(job, code, found):
    assert code == 0, job.sentence
    (row,) = found["files"]
    assert row["passed"], row["why"]
    assert row["kl"] < 1e-3
    assert row["tokens_equal"]
    assert row["num_strings"] == 500


@pytest.mark.parametrize(
    "name", [name for name in TUNED if PRESETS[name]["model"]["model_name_or_path"] != "fresh:tiny"]
)
def test_what_a_shipped_recipe_tunes_becomes_a_file_that_is_its_model(base_of, tmp_path, name):
    values = PRESETS[name]
    tuned = tune(tmp_path, values, base_of(values["model"]["model_name_or_path"]))
    check_is_its_model(*run_export(tmp_path, tuned))


@pytest.mark.parametrize(
    "name", [name for name in TUNED if PRESETS[name]["model"]["model_name_or_path"] == "fresh:tiny"]
)
def test_so_does_what_is_tuned_from_a_fresh_one(tmp_path, name):
    values = PRESETS[name]
    fresh.make_tiny(tmp_path / "base", 3)
    check_is_its_model(*run_export(tmp_path, tune(tmp_path, values, tmp_path / "base")))


@pytest.mark.parametrize("name", MADE)
def test_a_model_of_each_shipped_architecture_becomes_a_file_that_is_it(tmp_path, name):
    fields = dict(read_architecture(name).fields)
    shrunk = {"num_hidden_layers": 2, "hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4}
    shrunk |= {
        "num_key_value_heads": 4 // (fields["num_attention_heads"] // fields["num_key_value_heads"]),
        "vocab_size": 1024,
    }
    shrunk |= {"head_dim": 32} if "head_dim" in fields else {}
    recipe = {
        "kind": "pretrain", "architecture": {**fields, **shrunk}, "tokenizer": "fresh:bpe", "block_size": 64,
        "train": {"max_steps": 2, "per_device_train_batch_size": 2, "logging_steps": 1}, "checkpoints": {"every_steps": 2},
    }  # fmt: skip
    job = make_folder(tmp_path, recipe, text_rows(200), run_id="20261120-001530-pretrain-aaaa")
    assert job.run(num_threads=2) == 0, job.sentence
    check_is_its_model(*run_export(tmp_path, job.dir.checkpoint(2)))


def plant_weight(folder):
    """One matrix of one layer taken for another, as a wrong map of names gives."""
    from safetensors.torch import load_file, save_file

    path = next(folder.glob("*.safetensors"))
    tensors = load_file(path)
    first, second = (
        next(name for name in tensors if f".{layer}." in name and "q_proj.weight" in name) for layer in (0, 1)
    )
    tensors[first], tensors[second] = tensors[second].clone(), tensors[first].clone()
    save_file(tensors, path, {"format": "pt"})


def plant_rope(folder):
    edit_json(folder / "config.json", rope_parameters={"rope_type": "default", "rope_theta": 500.0})


@pytest.mark.parametrize("plant", [plant_weight, plant_rope])
@pytest.mark.parametrize("base", BASES)
def test_a_fault_on_the_way_is_caught_for_each_base(base_of, tmp_path, monkeypatch, base, plant):
    faulty, real = Path(tmp_path / "faulty"), export._convert
    shutil.copytree(base_of(base), faulty)
    plant(faulty)

    def convert_faulty(state, model, tokenizer, kind, part):
        real(state, faulty, models.load_tokenizer(str(faulty)), kind, part)

    monkeypatch.setattr(export, "_convert", convert_faulty)
    job, code, found = run_export(tmp_path, base_of(base))
    assert code == 1
    assert "differs too much" in job.sentence
    assert not found["files"][0]["passed"]
    assert not list(job.dir.export.glob("*.gguf"))


def test_every_recipe_that_writes_text_is_in_one_of_these_lists():
    pretrained = [name for name, values in PRESETS.items() if values["kind"] == "pretrain"]
    writing = [name for name, values in PRESETS.items() if values["kind"] in WRITING_KINDS]
    assert sorted([*TUNED, *pretrained]) == sorted(writing)
    assert len(BASES) >= 8
