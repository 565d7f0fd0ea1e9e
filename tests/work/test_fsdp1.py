"""Adapters under PyTorch's older FSDP: those of another model are refused, where PEFT would load none without a word."""

from types import SimpleNamespace

import pytest

from codex_space.core.errors import TrainingError
from codex_space.core.paths import MANIFEST

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]


@pytest.fixture
def trainer():
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=32, num_key_value_heads=2, **sizes))
    state = SimpleNamespace(fsdp_plugin=None)
    return SimpleNamespace(
        model=get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])),
        args=SimpleNamespace(bf16=False),
        accelerator=SimpleNamespace(state=state),
    )


@pytest.mark.parametrize("layer", ["q_proj", "gone_proj"])
def test_adapters_become_those_of_the_checkpoint_or_are_refused(trainer, tmp_path, monkeypatch, layer):
    import torch
    from peft import get_peft_model_state_dict
    from peft.tuners import tuners_utils
    from safetensors.torch import save_file

    from codex_space.work import checkpoint, fsdp1

    monkeypatch.setattr(tuners_utils, "_get_tuner_state_dict_key_prefixes", fsdp1._prefixes_of_peft)
    saved = {name: torch.ones_like(value) for name, value in get_peft_model_state_dict(trainer.model).items()}
    folder = tmp_path / "checkpoint-4"
    folder.mkdir()
    renamed = {name.replace("q_proj", layer): value for name, value in saved.items()}
    save_file(renamed, folder / "adapter_model.safetensors")
    checkpoint.complete(folder, {}, run_id="20261121-001530-sft-k3f9", step=4, kind="sft", base_model="")
    assert (folder / MANIFEST).is_file()
    if layer == "q_proj":
        fsdp1.prepare(trainer, folder)
        assert all(bool((value == 1).all()) for value in get_peft_model_state_dict(trainer.model).values())
    else:
        with pytest.raises(TrainingError, match=r"fit no layer of the model, the first is .*gone_proj"):
            fsdp1.prepare(trainer, folder)
