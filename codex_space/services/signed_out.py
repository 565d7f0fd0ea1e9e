"""End a sign-in on the server, so that a copy of its cookie, wherever it lies, opens nothing any more.

Covered: signing out ends that sign-in in every browser and program that holds its cookie, also after a restart of the
page; the same person's other sign-ins go on. Not covered: a workspace that was lost with its disk has forgotten it, so
there a copied cookie works again until its token runs out (the Hub's settings of connected applications revoke it).
"""

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from codex_space.store import ended_sessions
from codex_space.store.db import Database

NEVER = 1e12
"""A sign-in without an end of its own is refused for good."""


class SignedOut:
    """The sign-ins that were ended, in memory and in the database."""

    def __init__(self, db: Database, clock: Callable[[], float]) -> None:
        """Read those of earlier processes."""
        self._db, self._lock = db, threading.Lock()
        self._keys = ended_sessions.take(db, clock())

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
        """Return whether a session's sign-in was ended."""
        info = session.get("oauth_info")
        return bool(self._keys) and isinstance(info, dict) and _key(info) in self._keys


def _key(info: Mapping[str, Any]) -> str:
    """The Hub's answer to one sign-in holds a token and a number used once: no other sign-in has the same."""
    return hashlib.sha256(json.dumps(info, sort_keys=True).encode()).hexdigest()
