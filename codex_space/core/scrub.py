"""Strike secrets out of text before anybody sees it.

Covered: the values this process was given (tokens, passwords, client secrets, by the names of their variables), also
in JSON, percent-encoding and base64 (within other text too), and whatever has the form of a token of the Hub, GitHub, OpenAI, AWS or a JWT.
Not covered: a secret cut into parts, or encoded in another way by a program that read it.
"""

import base64
import json
import re
from collections.abc import Iterable
from urllib.parse import quote

STARS = "****"
SHORTEST_SECRET = 6
"""A shorter value would be struck out of words that have nothing to do with it."""
_SHORTEST_CODED = 7
_URL_SAFE = str.maketrans("+/", "-_")
_KNOWN_FORMS = re.compile(
    r"hf_[A-Za-z0-9]{20,}|hf_oauth_[\w.-]{20,}|api_org_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}"
    r"|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"
    r"|(?:\b|(?<=[0-9]m))(?:sk-[A-Za-z0-9_-]{20,}|AKIA[0-9A-Z]{16}\b)"  # a colour of the terminal ends in 1m
)


class Scrubber:
    """Knows the secrets of this process."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Remember the secrets, longest first, so that one inside another leaves nothing behind."""
        self.secrets = tuple(secrets)
        forms = {form for secret in self.secrets if secret for form in _forms(secret)}
        ordered = sorted(forms, key=len, reverse=True)
        self._own = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def clean(self, text: str) -> str:
        """Return the text with stars where a secret stood."""
        if self._own is not None:
            text = self._own.sub(STARS, text)
        return _KNOWN_FORMS.sub(STARS, text)


_of_this_process = Scrubber()


def learn(secrets: Iterable[str]) -> None:
    """Let `clean` know the secrets of this process."""
    global _of_this_process  # the one scrubber: whoever writes text for people need not be handed it
    _of_this_process = Scrubber(secrets)


def learn_one(secret: str) -> None:
    """Let `clean` know one more, which a person gave."""
    if len(secret) >= SHORTEST_SECRET:
        learn({*_of_this_process.secrets, secret})


def clean(text: str) -> str:
    """Return the text with stars where a secret of this process, or anything of a token's form, stood."""
    return _of_this_process.clean(text)


def _forms(secret: str) -> Iterable[str]:
    """Yield the secret as programs write it: plain, in an address, in JSON, in base64 wherever in it it begins."""
    yield secret
    quoted = quote(secret, safe="")
    yield from (quoted, re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), quoted))
    yield from (json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
    raw = secret.encode()
    for offset, shared in ((0, 0), (1, 2), (2, 3)):  # characters that hold bits of what stands before
        coded = base64.b64encode(b"\0" * offset + raw).decode().rstrip("=")[shared:]
        if (offset + len(raw)) % 3:
            coded = coded[:-1]  # and the one that holds bits of what comes after
        if len(coded) >= _SHORTEST_CODED:
            yield from (coded, coded.translate(_URL_SAFE))
