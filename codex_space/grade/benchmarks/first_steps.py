"""First steps: sixty problems of our own in four tiers, in HumanEval's form, so that a small model's progress shows."""

from codex_space.core.paths import share_dir
from codex_space.grade.benchmarks.humaneval import load_programs
from codex_space.grade.entry import Entry, offer
from codex_space.grade.problems import Benchmark, register

register(Benchmark("first-steps", {"first-steps": "base"}, load_programs, "data/benchmarks/first-steps.jsonl"))
offer(
    Entry(
        "first-steps", "First steps", "60 problems of our own in four tiers; no download", 60,
        share_dir("data") / "benchmarks" / "first-steps.jsonl", forms=("completion-stripped", "request-begun"),
    )
)  # fmt: skip
