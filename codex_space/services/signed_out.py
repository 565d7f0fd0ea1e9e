"""End a sign-in on the server, so that a copy of its cookie, wherever it lies, opens nothing any more.

Covered: signing out ends that sign-in in every browser and program that holds its cookie, also after a restart of the
page; the same person's other sign-ins go on. A workspace that was lost with its disk has forgotten who signed out, so a new
one, or one that was made of a backup, takes no sign-in that is older than itself: everybody signs in once more.
"""

import hashlib
import json
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

from codex_space.store import ended_sessions, facts
from codex_space.store.db import Database

SINCE = "signed_in_since"
"""The fact of when this database began to remember who has signed out."""
NEVER = 1e12
"""A sign-in without an end of its own is refused for good."""


class SignedOut:
    """The sign-ins that were ended, in memory and in the database."""

    def __init__(self, db: Database, clock: Callable[[], float]) -> None:
        """Read those of earlier processes."""
        self._db, self._lock = db, threading.Lock()
        self._keys = ended_sessions.take(db, clock())
        self._since = float(facts.keep(db, SINCE, str(int(clock()))))

    def end(self, session: Mapping[str, Any]) -> None:
        """End the sign-in that a session holds; writes to the disk, so not in an event loop."""
        info = session.get("oauth_info")
        if not isinstance(info, dict):
            return
        over_at = info.get("expires_at")
        key = _key(info)
        ended_sessions.add(self._db, key, over_at=float(over_at) if isinstance(over_at, int | float) else NEVER)
        with self._lock:
            self._keys = {*self._keys, key}

    def has(self, session: Mapping[str, Any]) -> bool:
        """Return whether a session's sign-in was ended, or may have been."""
        info = session.get("oauth_info")
        if not isinstance(info, dict):
            return False
        return _signed_in_at(info) < self._since or (bool(self._keys) and _key(info) in self._keys)


def _signed_in_at(info: Mapping[str, Any]) -> float:
    """The sign-in's own clock is ours: Gradio's client adds the seconds that its token lasts to the time of its coming."""
    over_at, lasts_s = info.get("expires_at"), info.get("expires_in")
    if isinstance(over_at, int | float) and isinstance(lasts_s, int | float):
        return over_at - lasts_s
    told = info.get("userinfo")
    at = told.get("iat") if isinstance(told, dict) else None
    return float(at) if isinstance(at, int | float) else math.inf


def _key(info: Mapping[str, Any]) -> str:
    """The Hub's answer to one sign-in holds a token and a number used once: no other sign-in has the same."""
    return hashlib.sha256(json.dumps(info, sort_keys=True).encode()).hexdigest()
