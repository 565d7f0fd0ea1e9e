"""codex_space: train a code language model by clicking, every checkpoint on the Hub."""

__version__ = "0.1.0"
