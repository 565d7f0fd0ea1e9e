"""Sandbox, benchmarks and metrics: what a model's answers are worth, without torch."""
