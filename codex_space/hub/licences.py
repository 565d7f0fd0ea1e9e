"""Read the licence that a model or dataset states in its card's front matter, there or in a folder."""

import re
from pathlib import Path
from typing import Any

import yaml

from codex_space.core.errors import CodexError, HubBusyError
from codex_space.core.licences import OTHER
from codex_space.core.sources import Source
from codex_space.core.yaml_text import load_bounded
from codex_space.hub.client import Hub
from codex_space.hub.records import RepoType

CARD = "README.md"
MAX_CARD_CHARS = 1 << 20


def read_source(hub: Hub, repo_id: str, revision: str | None, repo_type: RepoType) -> Source:
    """Return a repository with the commit that its revision is now, and the licence its card states there.

    Raises:
        HubNotFoundError: There is no such repository or revision.
        HubGatedError: Its terms are not accepted yet.
        HubBusyError: No answer.
    """
    commit = hub.head(repo_id, repo_type, revision)
    try:
        text = hub.read_text(repo_id, CARD, commit, repo_type)
    except HubBusyError:
        raise
    except CodexError:  # no card, or none to be read
        text = ""
    return Source(repo_id, revision or "", commit, *parse_licence(text))


def read_folder(folder: Path) -> tuple[str, str]:
    """Return (short name, own name) of the licence in a folder's card, empty where there is none."""
    try:
        with (folder / CARD).open(encoding="utf-8", errors="replace") as file:
            return parse_licence(file.read(MAX_CARD_CHARS))
    except OSError:
        return "", ""


def parse_licence(card: str) -> tuple[str, str]:
    """Return (short name, own name) of what a card states, empty where it states none."""
    front = _front(card)
    licence, name = front.get("license"), front.get("license_name")
    if isinstance(licence, list):  # several: a person has to read them
        return OTHER, ", ".join(str(each) for each in licence)[:80]
    if not isinstance(licence, str) or licence.strip().lower() in {"unknown", ""}:
        return "", ""
    licence = licence.strip().lower()[:80]
    return licence, str(name)[:80] if licence == OTHER and name else ""


def _front(card: str) -> dict[str, Any]:
    match = re.match(r"\s*---\r?\n(.*?)\r?\n---", card[:MAX_CARD_CHARS], re.DOTALL)
    try:
        front: Any = load_bounded(match[1]) if match else None
    except yaml.YAMLError:
        return {}
    return front if isinstance(front, dict) else {}
