"""How a conversation becomes tokens: which chat template is used, which token ends an answer, what is trained."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import jinja2
from transformers import PreTrainedTokenizerBase
from trl.chat_template_utils import get_training_chat_template, has_generation_markers

from codex_space.core import durable
from codex_space.core.errors import ModelError
from codex_space.core.paths import share_dir
from codex_space.hub.ollama import Turns

_MARK = "0"  # one token in any vocabulary, and in no template's own words
_TEMPLATE_FILE = "chat_template.jinja"
_GENERATION = re.compile(r"(\{%[-+]?\s*)generation(\s*[-+]?%\})")
_END_GENERATION = re.compile(r"(\{%[-+]?\s*)endgeneration(\s*[-+]?%\})")


def choose(tokenizer: PreTrainedTokenizerBase, wanted: str) -> None:
    """Give the tokenizer our template where the recipe says `codex`, or where it has none of its own.

    A model we trained carries ours without its training marks; it gets them back.
    """
    ours = (share_dir("configs") / _TEMPLATE_FILE).read_text(encoding="utf-8")
    if wanted == "codex" or not tokenizer.chat_template or tokenizer.chat_template == without_marks(ours):
        tokenizer.chat_template = ours


def fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return what a protocol names a chat template by."""
    return hashlib.sha256(str(tokenizer.chat_template).encode()).hexdigest()[:12]


def marks_answers(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether it can be told which tokens of a conversation are the assistant's."""
    template = cast("str | dict[str, str]", tokenizer.chat_template)
    if has_generation_markers(template):
        return True
    try:
        return get_training_chat_template(tokenizer) is not None
    except ValueError:
        return False


def stop_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token with which the template ends an assistant's turn.

    Raises:
        ModelError: The template cannot be rendered, or ends a turn with no token of its own.
    """
    conversation: list[dict[str, Any]] = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": _MARK},
        {"role": "user", "content": "a"},
    ]
    try:
        text = str(tokenizer.apply_chat_template(conversation, tokenize=False))
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        raise ModelError(
            f"the model's chat template cannot be used ({error})",
            where="chat_template",
            cure="Set chat_template: codex.",
        ) from error
    tail = text.rpartition(_MARK)[2].lstrip()
    tokens = {*tokenizer.get_added_vocab(), str(tokenizer.eos_token)}
    first = next((token for token in sorted(tokens, key=len, reverse=True) if tail.startswith(token)), None)
    if first is None:
        raise ModelError(
            "the model's chat template does not end an answer with a stop token, so the model would never stop",
            where="chat_template",
            cure="Set chat_template: codex.",
        )
    return cast("int", tokenizer.convert_tokens_to_ids(first))


def take_apart(tokenizer: PreTrainedTokenizerBase) -> Turns | None:
    """Return a chat template as texts around the messages, None where it is no such thing (it was tried on three chats)."""
    words = ("\x02s\x03", "\x02u\x03", "\x02a\x03", "\x02v\x03")
    whole = _chat(("system", "user", "assistant", "user"), words)
    alone = _chat(("user",), words[1:2])
    try:
        text, short = (_render(tokenizer, each) for each in (whole, alone))
        system, to_user, to_assistant, again, tail = re.split("|".join(map(re.escape, words)), text)
        begin, tail_alone = short.split(words[1])
    except (jinja2.TemplateError, TypeError, ValueError):
        return None
    user = _common_end(_common_end(to_user, again), begin)
    parts = [each.removesuffix(user) for each in (begin, to_user, again)]
    found = Turns(parts[0], system, parts[1], user, to_assistant, parts[2], tail)
    tried = (whole, alone, _chat(("user", "assistant", "user", "assistant", "user"), ("a b", "c\nd", "e", "f", "g")))
    if tail != tail_alone or any(found.render(each) != _render(tokenizer, each) for each in tried):
        return None
    return found


def _chat(roles: Sequence[str], contents: Sequence[str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]


def _render(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def _common_end(one: str, other: str) -> str:
    size = 0
    while size < min(len(one), len(other)) and one[-1 - size] == other[-1 - size]:
        size += 1
    return one[len(one) - size :]


def write_plain(folder: Path) -> None:
    """Take the training marks out of a saved template; it renders the same, and other programs can read it.

    llama.cpp's and llama-cpp-python's template engines refuse `{% generation %}`.
    """
    path = folder / _TEMPLATE_FILE
    if path.is_file():
        durable.write_text(path, without_marks(path.read_text(encoding="utf-8")))


def without_marks(template: str) -> str:
    """Return a template in which each generation block is an `if true`: white space control stays as it was."""
    return _END_GENERATION.sub(r"\1endif\2", _GENERATION.sub(r"\1if true\2", template))
