"""Say what the bearer of a Hub token may do here, by asking the Hub who that is.

Covered: the account that owns the Space and members of the owning organisation who may write there may act, nobody
else; a token that another program's sign-in gave (its scopes may be a name only) opens nothing; a read token opens
nothing; a revoked token is refused within `TRUSTED_S`; tokens made up by the thousand cost the Hub a bounded number of
questions. Not covered: a token of the owner that somebody else holds, with write scope, is the owner.
"""

import hashlib
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from codex_space.core.actor import Actor, May
from codex_space.core.errors import CodexError, HubBusyError
from codex_space.core.settings import Settings
from codex_space.hub.client import Hub
from codex_space.hub.records import Account

TRUSTED_S = 60.0
"""How long an answer of the Hub is believed; `whoami` is strictly limited."""
TRUSTED_WITHOUT_HUB_S = 900.0
"""Where the Hub does not answer, so that its owner can still stop a run."""
QUESTIONS_A_MINUTE = 60
_MOST_KNOWN = 2048


@dataclass(frozen=True)
class _Known:
    actor: Actor
    at: float


class Roles:
    """What the Hub said about tokens, kept for a minute."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        """Ask nothing yet."""
        self._settings, self.clock = settings, clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asked: deque[float] = deque()
        self._asking: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    @property
    def visitor(self) -> Actor:
        """Whoever shows nothing."""
        may = May.LOOK if self._settings.visitors == "look" else May.NOTHING
        return Actor("visitor", may, "Sign in to act: this page is for its owner." if may else "")

    def remembered(self, token: str, *, signed_in: bool) -> Actor | None:
        """Return what is known of a token without asking anybody; None where it has to be asked."""
        with self._lock:
            known = self._known.get(_key(token, signed_in))
        return known.actor if known and self.clock() - known.at < TRUSTED_S else None

    def find(self, token: str, *, signed_in: bool) -> Actor:
        """Return who holds a token; asks the Hub where it is not known, so not in an event loop.

        Args:
            token: From our own sign-in, or from an Authorization header.
            signed_in: Whether it came from our own sign-in.
        """
        key = _key(token, signed_in)
        with self._lock:
            gate = self._asking.setdefault(key, threading.Lock())
        with gate:  # a page asks ten things at once: the Hub is asked for the first
            found = self.remembered(token, signed_in=signed_in)
            if found is None:
                found = self._ask(token, key, signed_in=signed_in)
        with self._lock:
            self._asking.pop(key, None)
        return found

    def _ask(self, token: str, key: str, *, signed_in: bool) -> Actor:
        now = self.clock()
        with self._lock:
            earlier = self._known.get(key)
            while self._asked and now - self._asked[0] > 60:
                self._asked.popleft()
            # our own sign-in vouches for its tokens; what anybody may write into a header must not use up their questions
            may_ask = signed_in or len(self._asked) < QUESTIONS_A_MINUTE
            if may_ask and not signed_in:
                self._asked.append(now)
        if not may_ask:
            return self._without_hub(earlier, now)
        try:
            account = Hub(token, endpoint=self._settings.environ.get("HF_ENDPOINT")).whoami()
        except HubBusyError:
            return self._without_hub(earlier, now)
        except CodexError:
            actor = self._stranger("a token the Hub does not know", "The token is unknown, expired or revoked.")
        else:
            actor = self._weigh(account, signed_in=signed_in)
        with self._lock:
            self._known[key] = _Known(actor, now)
            self._known.move_to_end(key)
            while len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
        return actor

    def _without_hub(self, earlier: _Known | None, now: float) -> Actor:
        if earlier is not None and now - earlier.at < TRUSTED_WITHOUT_HUB_S:
            return earlier.actor
        return self._stranger("somebody", "The Hub does not answer just now, so nobody can be recognised.")

    def _weigh(self, account: Account, *, signed_in: bool) -> Actor:
        owner = self._settings.space_owner
        if not signed_in and account.role == "oauth":
            return self._stranger(account.name, "A token that another program's sign-in gave opens nothing here.")
        if not signed_in and not account.can_write:
            return self._stranger(account.name, "A token that may not write on the Hub may not act here either.")
        if owner and (account.name == owner or owner in account.writes_in):
            return Actor(account.name, May.ACT, signed_in=True)
        right = "is not a member who may write in" if owner in account.orgs else "is not"
        return self._stranger(account.name, f"{account.name} {right} {owner}, whose page this is.")

    def _stranger(self, name: str, why: str) -> Actor:
        return Actor(name, self.visitor.may, why, signed_in=True)


def _key(token: str, signed_in: bool) -> str:
    return f"{signed_in}:{hashlib.sha256(token.encode()).hexdigest()}"
