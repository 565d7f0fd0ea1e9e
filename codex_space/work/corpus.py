"""What a GGUF file is compared on: 500 strings on which tokenizers differ, and code of our own benchmark; no torch."""

import random
import unicodedata
from collections.abc import Iterable

from codex_space.grade import library

REFERENCE, LOGITS = "reference.json", "logits.npy"
"""What `reference.write` leaves for the child that measures a file."""
NUM_STRINGS = 500
TEXT_CHARS = 900

_FIXED = (
    "", " ", "  ", "\t", "\t\t", "\n", "\n\n", "\r\n", "\r", " \n", "\n ", "\t\n\t", "a\r\nb\r\n", "  \t \n\t  x", "x ", " x", "x  y", "\u00a0x",
    "def f(x):\n\treturn x\n", "if a:\n    b = 1\n\n\nelse:\n        c\n", "for i in range(10):\r\n\tprint(i)\r\n", "x=1;y=2", "a+=b**c//d",
    "0", "7", "42", "123", "1234", "12345", "1234567890", "3.14159", "1e-10", "0xDEADBEEF", "1_000_000", "3..3", "v1.2.3-rc4", "²³½", "٣٤٥", "१२३",
    "it's I'M we'Ve they'll don't 'RE 'tis", "''''''", '"""doc"""', "`````", "......", "!!!???", "-----=====", "<!-- x -->", "<|", "|>", "<|x|>", "[PAD]",
    "😀", "🚀 (normal) 😶\u200d🌫️ ✅", "👩\u200d👩\u200d👧\u200d👦", "🏳️\u200d🌈", "🇩🇪🇯🇵", "♥️", "🦙🦙 3 33 333 3333",
    "我想在apple工作1314151天\uff5e", "日本語のテキスト、カタカナ", "한국어 문장입니다", "漢字かな交じり文1234", "𠮷野家", "កាន់តែពិសេសអាច", "नमस्ते दुनिया", "שלום עולם", "مرحبا بالعالم",
    "нещо на Български", "Ünïcödé äöüß ÄÖÜ ẞ", "naïve café", "e\u0301 a\u0308 n\u0303", "ﬁﬂ", "Ⅷ", "\u017f", "ǅ", "İstanbul", "\u200b", "\u200f", "\ufeff", "a\u0000b", "\u001b[0m",
    "\uffff", "\U0010ffff", "a" * 70, "ab" * 50, " " * 33, "\t" * 17, "\n" * 9, "=" * 40, "AbCdEfGh", "snake_case_name", "CamelCaseName", "SCREAMING_CASE",
)  # fmt: skip
_PARTS = (
    "def ", "return", " self", "class X:", "\n", "\r\n", "\t", "    ", " ", "  ", "0", "12", "345", "6789", "a", "Z", "é", "ß", "я", "中", "文", "한", "😀",
    "🚀", "(", ")", "[", "]", "{", "}", ":", ";", ",", ".", "..", "==", "!=", "->", "//", "/*", "*/", "#", "@", "'", '"', "\\", "\\n", "'s", "'LL", "_", "-",
    "\u00a0", "\u3000", "\u0301", "import os", "x = ", "lambda", "<", ">", "|", "&", "%", "$", "~", "^", "+", "if ", "else", "print", "None", "True",
)  # fmt: skip


def strings(special: Iterable[str], *, normalised: bool) -> list[str]:
    """Return 500 strings, those with this tokenizer's special tokens among them; in NFC where the model reads only that."""
    found = list(_FIXED)
    for token in sorted(special)[:40]:
        found += [token, f"a{token}b", f" {token} \n{token}"]
    drawn = random.Random(500)  # noqa: S311  # the same strings each time
    while len(found) < NUM_STRINGS:
        found.append("".join(drawn.choice(_PARTS) for _ in range(drawn.randint(2, 14))))
    return [unicodedata.normalize("NFC", text) if normalised else text for text in found[:NUM_STRINGS]]


def texts(num: int) -> list[str]:
    """Return pieces of code of our own benchmark, which no shipped recipe trains on."""
    entry = library.find("first-steps")
    assert entry.shipped is not None  # noqa: S101  # it comes with the program
    problems = library.load("first-steps", entry.shipped).problems
    whole = "\n\n".join(f"{problem.prompt}{problem.canonical}" for problem in problems)
    pieces = [whole[at : at + TEXT_CHARS] for at in range(0, len(whole), TEXT_CHARS)]
    return library.choose(pieces, num)
