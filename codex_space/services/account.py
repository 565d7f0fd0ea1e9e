"""Whose the program's own Hub token is, asked at most once a minute: `whoami` is strictly limited."""

import hashlib

from codex_space.hub.records import Account
from codex_space.services.context import Context


def own_account(ctx: Context) -> Account:
    """Return the account of HF_TOKEN.

    Raises:
        HubAuthError: No token, or a revoked one.
        HubBusyError: No answer.
    """
    token = ctx.settings.hf_token.reveal() if ctx.settings.hf_token else ""
    key = hashlib.sha256(token.encode()).hexdigest()
    return ctx.answers.get(f"whoami {key}", lambda: ctx.hub().whoami(), ctx.clock)
