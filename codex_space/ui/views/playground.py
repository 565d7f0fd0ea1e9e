"""How an answer is shown: code that a model wrote without a fence keeps its line breaks and spaces."""

import re

_CODE_LINE = re.compile(r"^(\s{2,}\S|((async )?def|class|import|from|for|while|if|return)\b.*|@\w.*)", re.MULTILINE)


def render_answer(text: str, foot: str = "") -> str:
    """Return an answer as Markdown; `foot` goes under it."""
    shown = f"```python\n{text}\n```" if "```" not in text and _CODE_LINE.search(text) else text
    if "```" in text and text.count("```") % 2:  # an answer still being written, or cut
        shown = f"{text}\n```"
    return f"{shown}\n\n*{foot}*" if foot else shown


def render_speed(num_tokens: int, tokens_per_s: float) -> str:
    """Return what an answer took, in words."""
    return f"{num_tokens:,} token{'s' if num_tokens != 1 else ''} · {tokens_per_s:.1f} tokens/s"
