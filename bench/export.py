"""Exports: our conversion and quantising against llama.cpp's own scripts on the same model, and the memory of a merge.

Both ways are run as whole processes, in pairs of changing order, at equal threads; ours without the comparison with the
model. The merge is measured as the worker's peak memory less what it holds before the first shard.
"""

import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from bench.measure import REPO, clean_environ, quartiles, write_result
from codex_space.core.export_tools import require_converter
from codex_space.core.quants import QUANTS, read_weights

PAIRS = 6
QWEN = {"vocab_size": 151936, "num_key_value_heads": 2, "max_position_embeddings": 4096}
SHAPES: dict[str, dict[str, Any]] = {
    "0.5B": {**QWEN, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14, "tie_word_embeddings": True},
    "1B": {**QWEN, "hidden_size": 1536, "intermediate_size": 6144, "num_hidden_layers": 20, "num_attention_heads": 12, "tie_word_embeddings": True},
    "3B": {**QWEN, "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16, "tie_word_embeddings": True},
}  # fmt: skip
KINDS = ("Q8_0", "Q4_K_M")


def main() -> None:
    """Measure and write bench/results/export.json."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in SHAPES:
            base, adapter = folder / size, folder / f"{size}-adapter"
            _call(_MAKE, str(base), str(adapter), json.dumps(SHAPES[size]))
            figures[f"merge {size}"] = _measure_merge(base, adapter, folder / "merged")
            if size == "0.5B":
                figures |= _measure_conversion(base, folder)
            for made in (base, adapter):
                subprocess.run(["rm", "-rf", str(made)], check=True)
            write_result("export", figures)


def _measure_conversion(model: Path, folder: Path) -> dict[str, Any]:
    took: dict[str, list[float]] = {"ours": [], "theirs": []}
    worked: dict[str, list[float]] = {"ours": [], "theirs": []}
    ways = {"ours": _convert_ours, "theirs": _convert_theirs}
    for pair in range(PAIRS):
        for way in ("ours", "theirs") if pair % 2 else ("theirs", "ours"):
            started, worked_before = time.monotonic(), _children_s()
            ways[way](model, folder / way)
            took[way].append(time.monotonic() - started)
            worked[way].append(_children_s() - worked_before)
    return {
        "conversion_s": quartiles(took["ours"]),
        "llama.cpp_s": quartiles(took["theirs"]),
        "ratio": _ratios(took),
        "processor_ratio": _ratios(worked),
        "types": ["F16", *KINDS],
        "goal": {"ratio": 1.05},
    }


def _ratios(both: dict[str, list[float]]) -> dict[str, float]:
    return quartiles([mine / other for mine, other in zip(both["ours"], both["theirs"], strict=True)])


def _children_s() -> float:
    """Return the processor time of the processes that have ended: on a machine that others use it varies less."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _convert_ours(model: Path, stem: Path) -> None:
    """As work/export.py runs its children."""
    asked = {
        "converter": str(require_converter()), "model": str(model), "outfile": f"{stem}.gguf", "outtype": "f16", "name": "x",
        "template": None, "add_bos": False, "add_eos": False, "stop_id": None,
    }  # fmt: skip
    _module("codex_space.work.convert", json.dumps(asked))
    for kind in KINDS:
        _module(
            "codex_space.work.gguf", "quantize", f"{stem}.gguf", f"{stem}-{kind}.gguf", str(QUANTS[kind].ftype), "2"
        )


def _convert_theirs(model: Path, stem: Path) -> None:
    """The script as its README has it, told the pre-tokenizer that it knows no learnt vocabulary by; the library's quantising called bare.

    The wheel has no llama-quantize.
    """
    _call(_CONVERT, str(require_converter()), str(model), "--outfile", f"{stem}.gguf", "--outtype", "f16")
    for kind in KINDS:
        _call(_QUANTISE, f"{stem}.gguf", f"{stem}-{kind}.gguf", str(QUANTS[kind].ftype))


def _measure_merge(base: Path, adapter: Path, target: Path) -> dict[str, Any]:
    process = subprocess.Popen(
        [sys.executable, "-c", _MERGE, str(adapter), str(base), str(target)],
        cwd=REPO,
        env=clean_environ(),
        stdout=subprocess.PIPE,
        text=True,
    )
    peaks: list[int] = [0]
    watcher = threading.Thread(target=_watch, args=(process.pid, peaks), daemon=True)
    watcher.start()
    out, _ = process.communicate()
    if process.returncode:
        raise RuntimeError("the merge failed")
    watcher.join(5)
    told = json.loads(out.splitlines()[-1])
    model_gib = 2 * read_weights(base).total / (1 << 30)
    subprocess.run(["rm", "-rf", str(target)], check=True)
    growth = (peaks[0] - told["before"]) / (1 << 30)
    return {
        "model_gib": round(model_gib, 2),
        "peak_gib": round(growth, 2),
        "share": round(growth / model_gib, 3),
        "seconds": told["seconds"],
    }


def _watch(pid: int, peaks: list[int]) -> None:
    """Anonymous memory alone: the pages of a mapped file can be dropped at any time."""
    process = psutil.Process(pid)
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        try:
            info = process.memory_info()
        except psutil.Error:
            return
        peaks[0] = max(peaks[0], info.rss - info.shared)
        time.sleep(0.01)


def _module(*arguments: str) -> None:
    _run([sys.executable, "-m", *arguments])


def _call(code: str, *arguments: str) -> None:
    _run([sys.executable, "-c", code, *arguments])


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, cwd=REPO, env=clean_environ(), capture_output=True)


_CONVERT = """
import runpy, sys
folder = sys.argv.pop(1)
sys.path[:0] = [f"{folder}/gguf-py", folder]
import conversion.base
conversion.base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "qwen2"
sys.argv[0] = f"{folder}/convert_hf_to_gguf.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""
_QUANTISE = """
import ctypes, sys
from llama_cpp import llama_cpp as c
p = c.llama_model_quantize_default_params()
p.ftype, p.nthread = int(sys.argv[3]), 2
assert c.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), ctypes.byref(p)) == 0
"""
_MERGE = """
import json, sys, time
from pathlib import Path
import psutil
from codex_space.work import merge
memory = psutil.Process().memory_info()
started = time.monotonic()
merge.merge(*map(Path, sys.argv[1:]), lambda text: None)
print(json.dumps({"before": memory.rss - memory.shared, "seconds": round(time.monotonic() - started, 1)}))
"""
_MAKE = """
import json, sys, torch
from pathlib import Path
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM
from codex_space.work.tokenizer import make_bpe, learn
from codex_space.data.sources import stdlib_files
base, adapter, fields = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
torch.set_default_dtype(torch.bfloat16)
model = Qwen2ForCausalLM(Qwen2Config(**fields))
model.save_pretrained(base, max_shard_size="2GB")
tokenizer = learn((path.read_text(errors="ignore") for _, path in stdlib_files()[:40]), 8000)
tokenizer.save_pretrained(base)
tuned = get_peft_model(model, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
tuned.save_pretrained(adapter)
tokenizer.save_pretrained(adapter)
path = Path(adapter) / "adapter_config.json"
path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": base}))
"""
