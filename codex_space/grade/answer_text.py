"""The parts of a chat answer: what was said after thinking, and the fenced blocks in it, in one pass over the text."""

import re

_FENCE = re.compile(r"([ \t]*+)(`{3,}+|~{3,}+)[ \t]*+([^`\n]*+)$")  # possessive: no character is looked at twice
_DEEPER = 4
"""Spaces by which a fence inside code stands further in than the block's own: in a docstring, mostly."""


def after_thinking(answer: str) -> tuple[str, str]:
    """Return the answer without its <think> part, whose opening tag may be the template's, and its flaw or ""."""
    before, closed, after = answer.rpartition("</think>")
    if closed and not after.strip():
        after = before.partition("<think>")[0]
    said, opened, _ = after.partition("<think>")
    return said, "the answer ends while still in <think>" if opened and not said.strip() else ""


def fenced_blocks(text: str) -> tuple[list[str], str]:
    """Return the fenced blocks that end, and the text after a fence that does not ("" where all do).

    A fence that names a language ends the block before it and begins the next: models forget the closing one.
    """
    complete: list[str] = []
    inside: list[str] = []
    fence, margin = "", 0
    for line in text.split("\n"):
        match = _FENCE.match(line)
        if not match or (fence and not _ends(match, fence, margin)):
            inside.append(line)
            continue
        if fence and any(each.strip() for each in inside):
            complete.append("\n".join(inside) + "\n")
        opens = not fence or re.fullmatch(r"[\w+#.-]+", match[3])
        fence, margin, inside = (match[2], len(match[1]), []) if opens else ("", 0, [])
    return complete, "\n".join(inside) if fence else ""


def _ends(match: re.Match[str], fence: str, margin: int) -> bool:
    return len(match[1]) < margin + _DEEPER and match[2].startswith(fence)
