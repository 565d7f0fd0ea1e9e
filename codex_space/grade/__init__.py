"""Sandbox, benchmarks and scores for generated code; standard library only."""
