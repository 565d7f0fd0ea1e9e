"""Tell people that a run has ended: a POST to their webhook, a discussion in the run's repository.

Covered: each end is told once by each way (a try that got no answer may arrive twice: the note carries run and attempt),
a receiver that is down is asked again for a day, redirects are not followed, the note is signed where a secret is set,
and no secret is in it.
"""

import hashlib
import hmac
import json
import logging
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from typing import IO

from codex_space.core import scrub
from codex_space.core.errors import CodexError, HubBusyError
from codex_space.core.settings import Settings
from codex_space.hub.client import Hub
from codex_space.store import notices, runs
from codex_space.store.db import Database
from codex_space.store.notices import Notice
from codex_space.store.runs import Run

WEBHOOK, DISCUSSION = "webhook", "discussion"
SIGNATURE = "X-Codex-Space-Signature"
TIMEOUT_S = 10.0
FIRST_WAIT_S, LONGEST_WAIT_S, MOST_TRIES = 10.0, 3600.0, 30
_WORDS = {"succeeded": "has finished", "failed": "failed", "stopped": "was stopped", "lost": "was lost"}

_log = logging.getLogger(__name__)


class Notices:
    """The owner's messenger."""

    def __init__(self, db: Database, settings: Settings, hub: Callable[[], Hub]) -> None:
        """Tell nobody yet."""
        self._db, self._settings, self._hub = db, settings, hub
        self._ways = {WEBHOOK: settings.webhook_url is not None, DISCUSSION: settings.notice == DISCUSSION}

    def step(self, now: float) -> None:
        """Tell what is due."""
        notices.add_missing(self._db, self._ways)
        for notice in notices.due(self._db, now):
            if self._ways.get(notice.way):
                self._try(notice, now)

    def _try(self, notice: Notice, now: float) -> None:
        run = runs.read_run(self._db, notice.run_id)
        try:
            (self._post if notice.way == WEBHOOK else self._discuss)(run)
        except (HubBusyError, OSError) as error:  # urllib's errors are OSErrors
            final = notice.tries + 1 >= MOST_TRIES
            wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0**notice.tries)
            state = "given up" if final else "waiting"
            _log.warning("the note on %s was not taken (%s): %s", run.id, notice.way, scrub.clean(str(error)))
            notices.put(self._db, notice, state, next_try_at=now + wait_s, error=scrub.clean(str(error)))
        except CodexError as error:
            _log.warning("no note on %s: %s", run.id, error)
            notices.put(self._db, notice, "given up", error=scrub.clean(str(error)))
        else:
            notices.put(self._db, notice, "sent")

    def _post(self, run: Run) -> None:
        url, secret = self._settings.webhook_url, self._settings.webhook_secret
        if url is None:
            return
        body = scrub.clean(json.dumps(_note(run))).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "codex-space"}
        if secret is not None:
            headers[SIGNATURE] = "sha256=" + hmac.new(secret.reveal().encode(), body, hashlib.sha256).hexdigest()
        request = urllib.request.Request(url.reveal(), body, headers, method="POST")  # noqa: S310  # settings take http(s) only
        with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
            answer.read(1024)

    def _discuss(self, run: Run) -> None:
        if run.repo_id:
            note = _note(run)
            text = f"{note['text']}\n\nStep {run.step:,} of {run.max_steps:,}, run `{run.id}`."
            self._hub().open_discussion(run.repo_id, scrub.clean(f"{run.name} {_WORDS[run.state]}"), scrub.clean(text))


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(  # the library's
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        raise urllib.error.HTTPError(req.full_url, code, "redirects are not followed", headers, fp)


_OPENER = urllib.request.build_opener(_NoRedirects())


def _note(run: Run) -> dict[str, object]:
    """Return what is told; `text` is what Slack and its like show."""
    text = f"{run.name} {_WORDS[run.state]}." + (f" {run.reason}" if run.reason else "")
    facts = {"run": run.id, "attempt": run.attempt, "name": run.name, "kind": run.kind, "state": run.state}
    facts |= {"reason": run.reason, "step": run.step, "max_steps": run.max_steps, "repo_id": run.repo_id or ""}
    return {"event": "run ended", "text": text, **facts}
