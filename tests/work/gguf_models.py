"""Small models of each family whose logits spread as a trained model's do, saved as transformers 5 saves them."""

import json
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from codex_space.data.sources import stdlib_files
from codex_space.work import convert

VOCAB = 1000
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SMALL = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
GPT2 = {"n_embd": 128, "n_layer": 2, "n_head": 4, "n_positions": 512}
NEOX = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
FAMILIES = {
    "llama": {**SMALL, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    "qwen2": {**SMALL, "tie_word_embeddings": True},
    "qwen3": {**SMALL, "head_dim": 64},
    "starcoder2": {**SMALL, "use_bias": True},
    "smollm3": SMALL,
    "gpt2": GPT2,
    "gpt_neox": NEOX,
}
SPLITS = {
    "qwen2": next(text for text, name in convert._SPLITS.items() if name == "qwen2"),
    "dbrx": next(text for text, name in convert._SPLITS.items() if name == "dbrx"),
}


def make_tokenizer(split="qwen2", *, bos=False, template=CHATML):
    """Learn a tokenizer of one of the four structures llama.cpp has a name for."""
    tokenizer = Tokenizer(models.BPE())
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split not in SPLITS)
    before = {"gpt-2": [], "starcoder": [pre_tokenizers.Digits(individual_digits=True)]}
    steps = before[split] if split in before else [pre_tokenizers.Split(Regex(SPLITS[split]), behavior="isolated")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps, plain]) if steps else plain
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>", *(["<s>"] if bos else [])]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = [
        path.read_text(encoding="utf-8") for name, path in stdlib_files() if name in ("ast.py", "argparse.py", "bdb.py")
    ]
    tokenizer.train_from_iterator(texts, trainer=trainer)
    named = {"eos_token": "<|endoftext|>", "pad_token": "<|pad|>"}
    if bos:
        named["bos_token"] = "<s>"
        number = tokenizer.token_to_id("<s>")
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", number)]
        )
    found = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)
    found.chat_template = template
    return found


def make_model(folder: Path, family: str, tokenizer, **changes):
    """Save a model with random weights, its head scaled until the logits spread by 3 or more."""
    torch.manual_seed(7)
    fields = {"max_position_embeddings": 512, **FAMILIES[family], **changes}
    ids = {
        "vocab_size": len(tokenizer),
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": 1,
    }
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **fields, **ids)).float().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.mul_(4 if "embed" not in name and "wte" not in name else 1)
            elif name.endswith("bias"):
                weight.normal_(std=0.1)
        spread(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def spread(model, tokenizer, wanted=4.0):
    """Scale what the logits are proportional to: the head, or the last norm where the head is the embedding."""
    head, body = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    target = head
    if head.data_ptr() == body.data_ptr():
        target = next(
            weight
            for name, weight in reversed(list(model.named_parameters()))
            if "norm" in name or "ln_f.weight" in name
        )
    for _ in range(2):
        logits = model(torch.arange(5, 200)[None]).logits
        target.mul_(wanted / logits.std(dim=-1).mean())


def edit_json(path: Path, **values):
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, **values}))
