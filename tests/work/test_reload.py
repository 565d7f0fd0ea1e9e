"""What was trained is what is loaded again: as an adapter for the playground, and merged as the base of another run."""

import pytest

from tests.work.conftest import RUN_ID, chat_rows, sft_recipe

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "lora",
    [
        {"r": 4, "lora_alpha": 8},
        {"r": 4, "lora_alpha": 8, "modules_to_save": ["embed_tokens", "lm_head"]},
        {"r": 4, "lora_alpha": 8, "modules_to_save": ["embed_tokens"]},
        {"r": 4, "lora_alpha": 8, "use_dora": True},
    ],
    ids=["plain", "embeddings and head", "embeddings", "dora"],
)
def test_a_child_starts_at_the_loss_its_parent_ended_with_and_the_playground_hears_the_same(make_job, lora):
    import torch
    from peft import PeftModel

    from codex_space.work import models

    parent = make_job(sft_recipe(lora=lora), chat_rows())
    assert parent.run() == 0
    folder = parent.dir.checkpoint(20)
    ref = f"run:{RUN_ID}"
    still = {"max_steps": 1, "learning_rate": 0.0}
    child = make_job(
        sft_recipe(model={"model_name_or_path": ref}, train=still), chat_rows(), "20261121-001540-sft-bbbb"
    )
    assert child.run(references={ref: str(folder)}) == 0
    assert child.curve("eval_loss")[-1][1] == pytest.approx(parent.curve("eval_loss")[-1][1], abs=1e-4)

    ids = torch.arange(40).unsqueeze(0)
    adapter = PeftModel.from_pretrained(models.load_model(models.base_of(folder), dtype=torch.float32), folder).eval()
    merged = models.load_model(str(folder), dtype=torch.float32).eval()
    base = models.load_model(models.base_of(folder), dtype=torch.float32).eval()
    with torch.inference_mode():
        spoken, kept, before = (model(input_ids=ids).logits for model in (adapter, merged, base))
    assert torch.allclose(spoken, kept, atol=1e-4)
    assert not torch.allclose(spoken, before, atol=1e-2)
