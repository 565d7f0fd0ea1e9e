"""A child process that runs llama.cpp's converter on a folder, with what it lacks for models saved by transformers 5.

`python -m codex_space.work.convert JSON`, where JSON holds converter, model, outfile, outtype, name, template, add_bos,
add_eos and stop_id, or an adapter with its base. Corrected: fields of config.json that were renamed, pre-tokenizers it knows by the hash of one
vocabulary only, whether texts begin with a bos token, which token ends an answer, and the chat template.
"""

import importlib
import json
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_HEAD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
# llama.cpp's names. Not llama-bpe for the last: it implies a bos token and whole words first, dbrx is the same split alone.
_SPLITS = {rf"{_HEAD}\p{{N}}|{_TAIL}": "qwen2", rf"{_HEAD}\p{{N}}{{1,3}}|{_TAIL}": "dbrx"}
_DEEPSEEK_CODER = ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"]

NEVER_MERGED = "\u00fe \u00ff"
"""llama.cpp loads no vocabulary without merges, as one of bare bytes has none; these bytes never stand in UTF-8."""


def pre_tokenizer(tokenizer: Mapping[str, Any]) -> str | None:
    """Return llama.cpp's name for the way a tokenizer.json cuts text before its merges, None where it has none."""
    pre = tokenizer.get("pre_tokenizer") or {}
    steps = pre.get("pretokenizers", []) if pre.get("type") == "Sequence" else [pre]
    kinds = [step.get("type") for step in steps]
    if not kinds or kinds[-1] != "ByteLevel" or steps[-1].get("add_prefix_space"):
        return None
    splits_words = steps[-1].get("use_regex", True)
    match kinds:
        case ["ByteLevel"] if splits_words:
            return "gpt-2"
        case ["Digits", "ByteLevel"] if splits_words and steps[0].get("individual_digits"):
            return "starcoder"
        case ["Split", "ByteLevel"] if not splits_words and not steps[0].get("invert"):
            known = _SPLITS.get(str(steps[0].get("pattern", {}).get("Regex")))
            return known if steps[0].get("behavior") == "Isolated" else None
        case ["Split", "Split", "Split", "Split", "Digits", "ByteLevel"] if not splits_words:
            same = [_pattern(step) for step in steps[:4]] == _DEEPSEEK_CODER and steps[4].get("individual_digits")
            return "deepseek-coder" if same else None
    return None


def _pattern(step: Mapping[str, Any]) -> str:
    """Return the expression of a step that splits apart what matches it, empty for any other."""
    plain = step.get("behavior") == "Isolated" and not step.get("invert")
    return str(step.get("pattern", {}).get("Regex")) if plain else ""


def main() -> None:
    """Convert what the argument says; an error of the converter ends this process with its traceback."""
    asked: dict[str, Any] = json.loads(sys.argv[1])
    folder = asked["converter"]
    sys.path[:0] = [f"{folder}/gguf-py", folder]  # before any other gguf: converter and package are of one commit
    _correct(asked)
    if adapter := asked.get("adapter"):
        sys.argv = [f"{folder}/convert_lora_to_gguf.py", adapter, "--base", asked["model"]]
    else:
        sys.argv = [f"{folder}/convert_hf_to_gguf.py", asked["model"], "--model-name", asked["name"]]
    sys.argv += ["--outfile", asked["outfile"], "--outtype", asked["outtype"]]
    runpy.run_path(sys.argv[0], run_name="__main__")


def _correct(asked: Mapping[str, Any]) -> None:
    base, gguf = (importlib.import_module(name) for name in ("conversion.base", "gguf"))  # on the path since main()
    load_hparams, find_pre = base.ModelBase.load_hparams, base.TextModel.get_vocab_base_pre
    load_special = gguf.SpecialVocab.__init__

    def read_hparams(*args: object, **kwargs: object) -> dict[str, Any]:
        found = load_hparams(*args, **kwargs)
        rope = found.get("rope_parameters") or {}
        if found.get("model_type") == "gpt_neox":
            found.setdefault("rotary_pct", rope.get("partial_rotary_factor", 0.25))
            found.setdefault("rotary_emb_base", rope.get("rope_theta", 10000))
        if found.get("model_type") == "gpt2":
            found.setdefault("n_ctx", found.get("n_positions"))
        return found

    def know_pre(self: Any, tokenizer: Any) -> str:  # noqa: ANN401  # the converter's classes
        try:
            return find_pre(self, tokenizer)
        except NotImplementedError:
            path = Path(self.dir_model) / "tokenizer.json"
            found = pre_tokenizer(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
            if found is None:
                raise
            return found

    def read_special(self: Any, *args: object, **kwargs: object) -> None:  # noqa: ANN401
        load_special(self, *args, **kwargs)
        if self.load_merges and not self.merges:
            self.merges = [NEVER_MERGED]
        self.chat_template = asked["template"]
        self.add_special_token.update(bos=asked["add_bos"], eos=asked["add_eos"])
        if asked["stop_id"] is not None and asked["stop_id"] != self.special_token_ids.get("eos"):
            self.special_token_ids["eot"] = asked["stop_id"]

    base.ModelBase.load_hparams = staticmethod(read_hparams)
    base.TextModel.get_vocab_base_pre = know_pre
    gguf.SpecialVocab.__init__ = read_special


if __name__ == "__main__":
    main()
