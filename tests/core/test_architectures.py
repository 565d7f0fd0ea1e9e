"""Shipped architectures are as large as they are named, formula and meta device agree, and one off its target is refused."""

import json
import subprocess
import sys

import pytest

from codex_space.cli.main import main
from codex_space.core.architectures import TARGET, Architecture, describe, list_architectures, read_architecture
from codex_space.core.errors import ModelError, RecipeError
from tests.core.test_shapes import on_meta

NAMES = list_architectures()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_described_is_what_transformers_would_make(name):
    found = describe(read_architecture(name))
    assert found["params"] == on_meta(found["config"]).num_parameters()
    if found["target"]:
        limit = 0.03 if found["config"]["model_type"] == "starcoder2" else 0.01
        assert abs(found["params"] / found["target"] - 1) <= limit


def test_every_size_comes_in_both_shapes():
    for size in ("tiny", "175m", "700m", "1.3b", "2.7b", "5.3b"):
        assert read_architecture(size).model_type == "llama"
        assert read_architecture(f"{size}-starcoder2").model_type == "starcoder2"
    large = read_architecture("700m").fields
    assert (large["max_position_embeddings"], large["vocab_size"]) == (8192, 65536)


def test_one_that_is_not_as_large_as_its_name_is_refused_with_the_arithmetic():
    wrong = {
        **read_architecture("700m").fields,
        "hidden_size": 3072,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
    }
    wrong |= {"head_dim": 192, "intermediate_size": 8192}
    with pytest.raises(ModelError) as caught:
        describe(Architecture("mine", wrong, 700_000_000))
    assert "2,919.4M parameters, +317.1% of its target of 700.0M" in str(caught.value)
    assert "65,536 x 3,072 + 24 layers x 113,246,208" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("700", "Did you mean '700m'"),
        ({"model_type": "lama"}, "Did you mean 'llama'"),
        ({TARGET: "700M"}, "whole number"),
        ({"hidden_size": 64}, "num_hidden_layers is missing"),
    ],
)
def test_what_cannot_be_is_refused(given, said):
    with pytest.raises((ModelError, RecipeError), match=said):
        read_architecture(given).shape()


def test_the_command_describes_without_torch(capsys):
    assert main(["model", "describe", "700m", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["params"] == 704_718_336
    assert {"params", "target", "config", "train_gib", "gguf_gib"} <= set(found)
    assert main(["model", "describe", "tiny", "--vocab-size", "512"]) == 0
    assert "131,392 parameters" in capsys.readouterr().out
    assert main(["model", "describe", "huge"]) == 1
    script = "import sys; from codex_space.cli.main import main; main(['model', 'describe', '5.3b']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == 0
