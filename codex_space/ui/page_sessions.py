"""Whose a Gradio session is: what the page answers to one person, no other may read or answer in that one's place.

A browser makes up its session's name and shows it in addresses; Gradio asks nothing more than that name. Covered: the
session of somebody who may act is closed to everybody else from its first request on. Not covered: visitors who only
look are one person here; they have nothing of their own.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from urllib.parse import parse_qs

from codex_space.core.actor import Actor, May

MOST_KNOWN = 4096


class PageSessions:
    """Who has which session."""

    def __init__(self) -> None:
        """Nobody has any."""
        self._holders: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def may_use(self, names: list[str], actor: Actor) -> bool:
        """Return whether somebody may use these sessions; one of nobody's becomes theirs where they may act."""
        person = f"{actor.signed_in}:{actor.name}"
        with self._lock:
            if any(self._holders.get(name, person) != person for name in names):
                return False
            for name in names if actor.may is May.ACT else []:
                self._holders[name] = person
                self._holders.move_to_end(name)
            while len(self._holders) > MOST_KNOWN:
                self._holders.popitem(last=False)
        return True


def sessions_of(path: str, query: bytes, body: bytes = b"") -> list[str]:
    """Return the sessions that a request to Gradio names, in its path, its query or its JSON body."""
    parts = path.split("/")
    found = [parts[3]] if len(parts) > 3 and parts[1] == "gradio_api" and parts[2] in {"heartbeat", "stream"} else []
    found += parse_qs(query.decode("latin-1")).get("session_hash", [])
    try:
        sent = json.loads(body) if body else None
    except (ValueError, RecursionError):
        sent = None
    named = sent.get("session_hash") if isinstance(sent, Mapping) else None
    return [name for name in (*found, *([named] if isinstance(named, str) else [])) if name]
