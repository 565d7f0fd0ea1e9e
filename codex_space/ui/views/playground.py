"""How what a model said is shown: Markdown without anything that loads, runs or hides; code keeps its line breaks and spaces.

The page's Markdown knows HTML, images, formulas and diagrams, and a model may have learnt any of them from somebody who
wants to know who reads its answer. Covered: markup outside of fences is text, an image is its link, a diagram its source,
and characters that turn the direction of text or steer a terminal are written out. What is in a fence is left as it is:
every fence is written anew, so that the page's parser and this one agree where it ends.
"""

import re
from collections.abc import Iterator
from html import escape

_CODE_LINE = re.compile(r"^(\s{2,}\S|((async )?def|class|import|from|for|while|if|return)\b.*|@\w.*)", re.MULTILINE)
_FENCE = re.compile(r"^([ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?)(`{3,}(?=[^`]*$)|~{3,})[ \t]*([^\s`]*)")
_LANGUAGE = re.compile(r"[A-Za-z0-9_+#.-]{1,30}")
_DRAWN = frozenset({"mermaid", "latex", "math"})
"""Languages that the page's Markdown draws instead of showing."""
_SPAN = re.compile(r"(?<!`)(`{1,2})(?!`)([^`\n]+)\1(?!`)")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_IMAGE = re.compile(r"!(?=\[)")
_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\U000e0000-\U000e007f]")


def render_answer(text: str, foot: str = "") -> str:
    """Return an answer as Markdown; `foot` goes under it."""
    shown = _HIDDEN.sub(_write_out, text.replace("\r\n", "\n").replace("\r", "\n"))
    lines = shown.split("\n")
    is_bare_code = _CODE_LINE.search(shown) and not any(map(_FENCE.match, lines))
    shown = _fence(lines, "python") if is_bare_code else "\n".join(_blocks(lines))
    return f"{shown}\n\n*{foot}*" if foot else shown


def render_speed(num_tokens: int, tokens_per_s: float) -> str:
    """Return what an answer took, in words."""
    return f"{num_tokens:,} token{'s' if num_tokens != 1 else ''} · {tokens_per_s:.1f} tokens/s"


def _blocks(lines: list[str]) -> Iterator[str]:
    """Yield prose made harmless, and each fence anew; one still being written is closed."""
    code: list[str] | None = None
    mark = language = indent = ""
    for line in lines:
        if code is not None:
            if _ends(line, mark):
                yield _fence(code, language)
                code = None
            else:
                code.append(line.removeprefix(indent))
        elif found := _FENCE.match(line):
            lead, mark, language = found[1], found[2], found[3]
            if lead.strip():  # of a list: its words stay one, its code comes after it
                yield _prose(lead)
            code, indent = [], " " * len(lead)
        else:
            yield _prose(line)
    if code is not None:
        yield _fence(code, language)


def _ends(line: str, mark: str) -> bool:
    bare = line.strip()
    return len(bare) >= len(mark) and not bare.strip(mark[0])


def _fence(code: list[str], language: str) -> str:
    runs = re.findall(r"`+", "\n".join(code))
    mark = "`" * max(3, *(len(run) + 1 for run in runs)) if runs else "```"
    named = language if _LANGUAGE.fullmatch(language) and language.lower() not in _DRAWN else ""
    return "\n".join([f"{mark}{named}", *code, mark])


def _prose(line: str) -> str:
    """Return a line whose every tag is text, also where the page sees code in other places than this does."""
    parts, at = [], 0
    for span in _SPAN.finditer(line):
        if _TAG.search(span[2]):
            parts += [_plain(line[at : span.start()]), f"<code>{_still(span[2])}</code>"]
            at = span.end()
    return "".join([*parts, _plain(line[at:])])


def _plain(text: str) -> str:
    return _IMAGE.sub("&#33;", _TAG.sub("&lt;", text))


def _still(code: str) -> str:
    """Return code in which Markdown sees no marks."""
    return re.sub(r"[*_~\[\]!\\|`$]", lambda mark: f"&#{ord(mark[0])};", escape(code.strip(), quote=False))


def _write_out(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
