"""Read a Dockerfile and its .dockerignore: every instruction in order, and what of a checkout the build would see.

It knows what this repository's Dockerfile is written in and no more. What it does not know (another instruction or flag, a
second stage, a heredoc, a variable in a name) is refused by line: guessing would build another image than Docker does.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

_COMMENT = re.compile(r"\s*#")
_CONTINUED = re.compile(r"\\[ \t]*$")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OWNER = re.compile(r"[a-z0-9_][a-z0-9_-]*(:[a-z0-9_][a-z0-9_-]*)?")
_IMAGE = re.compile(r"python:(?P<python>3\.\d+)-slim-(?P<suite>[a-z]+)")


class DockerfileError(Exception):
    """One sentence: which line, and what of it is not understood."""


@dataclass(frozen=True)
class Step:
    """One instruction.

    Attributes:
        line: Where it begins, counted from 1.
        name: In upper case.
        text: All behind the name, continued lines joined.
        words: The arguments of FROM, WORKDIR, USER, COPY and EXPOSE, and the program of ENTRYPOINT and CMD.
        settings: The variables of ENV.
        owner: Of COPY --chown; empty for root.
    """

    line: int
    name: str
    text: str
    words: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    owner: str = ""


@dataclass(frozen=True)
class Base:
    """What the FROM line asks for: a version of Python on a suite of Debian."""

    python: str
    suite: str


def parse_dockerfile(text: str) -> list[Step]:
    """Return the instructions.

    Raises:
        DockerfileError: Something in it is not understood, or there is nothing to build from or to start.
    """
    steps = [_read_step(line, joined) for line, joined in _join_lines(text)]
    if not steps or steps[0].name != "FROM":
        raise DockerfileError("The Dockerfile does not begin with FROM.")
    if any(step.name == "FROM" for step in steps[1:]):
        raise DockerfileError(f"Line {_nth(steps, 'FROM', 1).line}: a second stage (FROM) is not understood.")
    return steps


def read_base(step: Step) -> Base:
    """Return Python's version and Debian's suite of the official image that FROM names.

    Raises:
        DockerfileError: It is another image.
    """
    found = _IMAGE.fullmatch(step.words[0])
    if found is None:
        raise DockerfileError(
            f"Line {step.line}: {step.words[0][:80]!r} cannot be stood in for; python:3.N-slim-SUITE can."
        )
    return Base(found["python"], found["suite"])


def read_ignored(text: str) -> Callable[[str], bool]:
    """Return what says whether a path of the checkout is kept out of the build, by the text of a .dockerignore.

    Raises:
        DockerfileError: A pattern has a class of characters or a backslash, which are not understood.
    """
    rules: list[tuple[re.Pattern[str], bool]] = []
    for number, line in enumerate(text.splitlines(), 1):
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        is_kept = pattern.startswith("!")
        if set(pattern) & set("[]\\"):
            raise DockerfileError(f".dockerignore line {number}: {pattern[:80]!r} is not understood.")
        rules.append((_compile(pattern.lstrip("!").strip().strip("/")), is_kept))

    def is_ignored(path: str) -> bool:
        parts = path.split("/")
        above = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
        ignored = False
        for rule, is_kept in rules:
            if any(rule.fullmatch(one) for one in above):
                ignored = not is_kept
        return ignored

    return is_ignored


def choose_sources(words: Iterable[str], paths: Iterable[str], line: int) -> list[tuple[str, str]]:
    """Return (path in the checkout, path below the target) of what the sources of a COPY mean.

    Raises:
        DockerfileError: A source is outside of the checkout, has a wildcard, or is none of its files or folders.
    """
    known, chosen = list(paths), []
    for word in words:
        source = word.removeprefix("./").strip("/")
        if ".." in source.split("/") or set(source) & set("*?[]$"):
            raise DockerfileError(f"Line {line}: COPY of {word[:80]!r} is not understood.")
        if source in known:
            found = [(source, source.rpartition("/")[2])]
        else:
            prefix = "" if source in {"", "."} else f"{source}/"
            found = [(path, path.removeprefix(prefix)) for path in known if path.startswith(prefix)]
        if not found:
            raise DockerfileError(f"Line {line}: COPY finds no {word[:80]!r} in what the build is given.")
        chosen += found
    return chosen


def _join_lines(text: str) -> Iterable[tuple[int, str]]:
    """Yield (line number, instruction); comments and empty lines inside of a continued one drop out, as in Docker."""
    begun, parts = 0, []
    for number, line in enumerate(text.splitlines(), 1):
        if _COMMENT.match(line):
            if re.match(r"\s*#\s*escape\s*=", line):
                raise DockerfileError(f"Line {number}: another escape character is not understood.")
            continue
        if not line.strip():
            continue
        begun = begun or number
        parts.append(_CONTINUED.sub("", line) if parts else _CONTINUED.sub("", line.lstrip()))
        if not _CONTINUED.search(line):
            yield begun, "".join(parts).strip()
            begun, parts = 0, []
    if parts:
        raise DockerfileError(f"Line {begun}: the file ends within this instruction.")


def _read_step(line: int, joined: str) -> Step:
    name, _, text = joined.partition(" ")
    name, text = name.upper(), text.strip()
    read = _READERS.get(name)
    if read is None:
        raise DockerfileError(f"Line {line}: the instruction {name[:40]!r} is not understood.")
    if not text:
        raise DockerfileError(f"Line {line}: {name} says nothing.")
    return read(line, name, text)


def _read_run(line: int, name: str, text: str) -> Step:
    if text.startswith(("--", "[")) or re.search(r"<<-?\s*['\"]?\w", text):
        raise DockerfileError(f"Line {line}: RUN with flags, a list or a heredoc is not understood.")
    return Step(line, name, text)


def _read_env(line: int, name: str, text: str) -> Step:
    settings: dict[str, str] = {}
    for word in _split(line, text):
        key, equals, value = word.partition("=")
        if not equals or not _NAME.fullmatch(key):
            raise DockerfileError(f"Line {line}: ENV wants NAME=VALUE, not {word[:80]!r}.")
        settings[key] = value
    return Step(line, name, text, settings=settings)


def _read_copy(line: int, name: str, text: str) -> Step:
    words, owner = _split(line, text), ""
    while words and words[0].startswith("--"):
        flag, _, owner = words.pop(0).partition("=")
        if flag != "--chown" or not _OWNER.fullmatch(owner):
            raise DockerfileError(f"Line {line}: COPY {flag}={owner[:40]} is not understood.")
    if len(words) < 2 or words[0].startswith("["):
        raise DockerfileError(f"Line {line}: COPY wants sources and a target.")
    if len(words) > 2 and not words[-1].endswith("/"):
        raise DockerfileError(f"Line {line}: COPY of several sources wants a target that ends with a slash.")
    return Step(line, name, text, words=tuple(words), owner=owner)


def _read_program(line: int, name: str, text: str) -> Step:
    try:
        words = json.loads(text)
    except ValueError:
        words = None
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise DockerfileError(f'Line {line}: {name} wants a list such as ["python", "app.py"]; a shell keeps signals.')
    return Step(line, name, text, words=tuple(words))


def _read_words(least: int, most: int) -> Callable[[int, str, str], Step]:
    def read(line: int, name: str, text: str) -> Step:
        words = _split(line, text)
        if not least <= len(words) <= most or words[0].startswith("--"):
            raise DockerfileError(f"Line {line}: {name} {text[:80]} is not understood.")
        return Step(line, name, text, words=tuple(words))

    return read


def _split(line: int, text: str) -> list[str]:
    if "$" in text:
        raise DockerfileError(f"Line {line}: a variable here is not understood: {text[:80]!r}.")
    try:
        return shlex.split(text)
    except ValueError as error:
        raise DockerfileError(f"Line {line}: {error}.") from error


def _compile(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(known.get(part, re.escape(part)) for part in parts))


def _nth(steps: list[Step], name: str, index: int) -> Step:
    return [step for step in steps if step.name == name][index]


_READERS: dict[str, Callable[[int, str, str], Step]] = {
    "FROM": _read_words(1, 1),
    "RUN": _read_run,
    "ENV": _read_env,
    "WORKDIR": _read_words(1, 1),
    "USER": _read_words(1, 1),
    "COPY": _read_copy,
    "EXPOSE": _read_words(1, 1),
    "ENTRYPOINT": _read_program,
    "CMD": _read_program,
}
