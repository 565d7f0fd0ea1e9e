"""Parameters by formula equal the meta-device count of transformers' own classes; a config.json that cannot be is refused."""

import pytest

from codex_space.core.errors import ModelError
from codex_space.core.shapes import read_shape, shipped_config, shipped_configs

SMALL = {
    "hidden_size": 96, "intermediate_size": 200, "num_hidden_layers": 3, "num_attention_heads": 6,
    "num_key_value_heads": 2, "vocab_size": 1000,
}  # fmt: skip
GPT2 = {"model_type": "gpt2", "n_embd": 96, "n_layer": 3, "n_head": 6, "n_positions": 128, "vocab_size": 1000}
NEOX = {key: value for key, value in SMALL.items() if key != "num_key_value_heads"}
FAMILIES = {
    "llama": {**SMALL, "model_type": "llama"},
    "llama with biases, tied": {
        **SMALL, "model_type": "llama", "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True,
    },
    "llama, wide heads": {**SMALL, "model_type": "llama", "head_dim": 24},
    "mistral": {**SMALL, "model_type": "mistral"},
    "qwen2": {**SMALL, "model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": {**SMALL, "model_type": "qwen3", "head_dim": 16},
    "starcoder2": {**SMALL, "model_type": "starcoder2"},
    "starcoder2 without biases": {**SMALL, "model_type": "starcoder2", "use_bias": False, "tie_word_embeddings": False},
    "gpt_neox": {**NEOX, "model_type": "gpt_neox"},
    "gpt2": GPT2,
    "gpt2, n_inner": {**GPT2, "n_inner": 100},
    **shipped_configs(),
}  # fmt: skip


def on_meta(config):
    """The model of transformers that a config.json makes, without memory behind it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {"bos_token_id": 0, "eos_token_id": 0, **config}
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields))


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_parameters_equal_the_meta_device_count(config):
    assert read_shape(config, "here").num_parameters == on_meta(config).num_parameters()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft 0.21 asks under the old name
@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"], ["down_proj"], r".*\.(q_proj|up_proj)"])
def test_adapters_equal_what_peft_attaches(targets):
    from peft import LoraConfig, get_peft_model

    config = FAMILIES["qwen2"]
    for use_dora in (False, True):
        lora = LoraConfig(r=5, target_modules=targets, task_type="CAUSAL_LM", use_dora=use_dora)
        trained = get_peft_model(on_meta(config), lora).num_parameters(only_trainable=True)
        assert read_shape(config, "here").lora_parameters(5, targets, use_dora=use_dora) == trained


def test_known_sizes():
    counted = {name: read_shape(config, name).num_parameters for name, config in shipped_configs().items()}
    assert counted["Qwen/Qwen2.5-Coder-7B"] == 7_615_616_512  # the model card's 7.61B
    assert counted["codellama/CodeLlama-7b-hf"] == 6_738_546_688
    assert counted["bigcode/starcoder2-3b"] == 3_030_371_328


def test_a_model_tuned_to_chat_has_the_shape_of_its_base():
    base = shipped_config("Qwen/Qwen2.5-Coder-7B")
    assert base is not None
    assert shipped_config("Qwen/Qwen2.5-Coder-7B-Instruct") is base
    assert shipped_config("deepseek-ai/deepseek-coder-1.3b-instruct") is not None
    assert shipped_config("Qwen/Qwen2.5-Coder-9B") is None


BAD = {
    "no type": ({}, "type ''"),
    "another type": ({**SMALL, "model_type": "lama"}, "Did you mean 'llama'?"),
    "no heads": ({**SMALL, "model_type": "llama", "num_attention_heads": 0}, "num_attention_heads is 0"),
    "heads that do not divide": ({**SMALL, "model_type": "llama", "num_attention_heads": 7}, "not a multiple"),
    "huge": ({**SMALL, "model_type": "llama", "hidden_size": 10**30}, "hidden_size is 1000"),
    "many layers": ({**SMALL, "model_type": "llama", "num_hidden_layers": 10**9}, "num_hidden_layers"),
    "below zero": ({**SMALL, "model_type": "llama", "vocab_size": -5}, "vocab_size is -5"),
    "text": ({**SMALL, "model_type": "llama", "vocab_size": "many"}, "vocab_size is many"),
    "true": ({**SMALL, "model_type": "llama", "vocab_size": True}, "vocab_size is True"),
    "missing": ({"model_type": "llama", "hidden_size": 64}, "num_hidden_layers is missing"),
    "gpt2 names": ({**GPT2, "n_embd": None}, "n_embd is missing"),
}


@pytest.mark.parametrize(("config", "says"), BAD.values(), ids=BAD)
def test_a_config_that_cannot_be_is_refused(config, says):
    with pytest.raises(ModelError) as caught:
        read_shape(config, "config.json")
    assert says in str(caught.value)
    assert "config.json" in str(caught.value)
