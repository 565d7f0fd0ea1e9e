"""Write data/python-first-chat.jsonl: short requests for Python functions, each answered with code.

All of it is our own: the functions stand in first_chat_snippets.txt, the phrasings here. Run it after editing either.
A snippet whose comment ends in `| plus sum_two` is one function under several names: each of them stands for {it} once.
The easiest tier of data/benchmarks/first-steps.jsonl asks for such functions in other words and under names that occur
nowhere here; a test keeps the two apart.
"""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
TARGET = HERE.parent / "data" / "python-first-chat.jsonl"
PHRASINGS = (
    "Write a Python function to {task}.",
    "How can I {task} in Python?",
    "Please write {name}({arguments}) to {task}.",
    "I need a function called {name}. It should {task}.",
    "{Task}.",
    "Show me Python code to {task}.",
)
PHRASINGS_EACH = 3
NAMED_PHRASINGS = [phrasing for phrasing in PHRASINGS if "{name}" in phrasing]
"""Only a request that names its function can be told from that for its namesake."""


def main() -> None:
    """Write the file anew."""
    snippets = (HERE / "first_chat_snippets.txt").read_text(encoding="utf-8").strip().split("\n\n")
    lines = [json.dumps(row, ensure_ascii=False) for number, text in enumerate(snippets) for row in rows(number, text)]
    TARGET.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{TARGET.name}: {len(lines)} rows, {TARGET.stat().st_size:,} bytes")


def rows(number: int, snippet: str) -> Iterator[dict[str, list[dict[str, str]]]]:
    """Yield one snippet's chats, its phrasings picked in turn so that all are used equally often."""
    comment, *code = snippet.splitlines()
    task, _, names = comment.removeprefix("# ").partition(" | ")
    if names:
        for turn, name in enumerate(names.split()):
            phrasing = NAMED_PHRASINGS[(number + turn) % len(NAMED_PHRASINGS)]
            yield chat(phrasing, task, [line.replace("{it}", name) for line in code])
        return
    for turn in range(PHRASINGS_EACH):
        yield chat(PHRASINGS[(number + turn) % len(PHRASINGS)], task, code)


def chat(phrasing: str, task: str, code: list[str]) -> dict[str, list[dict[str, str]]]:
    """Return a request in these words and the documented function that answers it."""
    head, *body = code
    title = task[0].upper() + task[1:]
    answer = "\n".join([head, f'    """{title}."""', *body])
    ast.parse(answer)
    name, _, arguments = head.removeprefix("def ").removesuffix("):").partition("(")
    request = phrasing.format(task=task, Task=title, name=name, arguments=arguments)
    return {"messages": [{"role": "user", "content": request}, {"role": "assistant", "content": answer}]}


if __name__ == "__main__":
    main()
