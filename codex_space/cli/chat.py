"""`codex-space chat`."""

import argparse

from codex_space.cli.evaluate import reference
from codex_space.cli.opened import opened
from codex_space.services.chat import Chat


def chat(args: argparse.Namespace) -> int:
    """Ask once with --prompt, else talk until the end of input."""
    with opened(args) as ctx:
        ref = reference(ctx, args.run)
        partner = Chat(ctx)
        history: list[dict[str, str]] = []
        try:
            while (prompt := args.prompt or _read_prompt()) is not None:
                history.append({"role": "user", "content": prompt})
                answer = _answer(partner, ref, history, args)
                history.append({"role": "assistant", "content": answer})
                if args.prompt:
                    break
        finally:
            partner.close()
    return 0


def _answer(partner: Chat, ref: str, history: list[dict[str, str]], args: argparse.Namespace) -> str:
    answer = ""
    for delta in partner.stream(ref, history, max_new_tokens=args.max_new_tokens, temperature=args.temperature):
        answer += delta.text
        print(delta.text, end="", flush=True)
    print()
    return answer


def _read_prompt() -> str | None:
    try:
        return input("> ")
    except (EOFError, KeyboardInterrupt):
        return None
