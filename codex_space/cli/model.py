"""`codex-space model describe`: the parameters, config and memory of a new model, by formula."""

import argparse
import json

from codex_space.core import architectures


def describe(args: argparse.Namespace) -> int:
    """Print what is known of an architecture; off its target it is refused."""
    found = architectures.describe(architectures.read_architecture(args.architecture), args.vocab_size)
    if args.json:
        print(json.dumps(found))
        return 0
    target = f" of {found['target']:,} ({found['off_percent']:+.2f} %)" if found["target"] else ""
    print(f"{found['name']}: {found['params']:,} parameters{target}")
    print(f"  {found['sum']}")
    print(f"  {found['train_gib']:.2f} GiB of weights, gradients and AdamW in float32; activations come on top")
    ggufs = ", ".join(f"{name} {size:.2f} GiB" for name, size in found["gguf_gib_by_type"].items())
    print(f"  GGUF: {ggufs}; {found['kv_cache_bytes_per_token']:,} bytes of cache a token, {found['context']:,} tokens")
    return 0
