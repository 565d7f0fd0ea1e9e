"""Queue the recipe that CODEX_SPACE_AUTORUN names, so that a container trains as soon as it starts."""

import hashlib
import logging
import shlex

from codex_space.core.actor import Actor, May, acting
from codex_space.core.errors import CodexError, RecipeError
from codex_space.core.presets import read_recipe_text
from codex_space.services import runs
from codex_space.services.context import Context
from codex_space.store.runs import Run

_log = logging.getLogger(__name__)
BY_SETTING = Actor("CODEX_SPACE_AUTORUN", May.ACT)


def start(ctx: Context) -> Run | None:
    """Queue it once in a workspace, however often its container starts; what is wrong with it goes to the log."""
    if not ctx.settings.autorun:
        return None
    token = acting.set(BY_SETTING)
    try:
        name, *overrides = _split(ctx.settings.autorun)
        key = hashlib.sha256(ctx.settings.autorun.encode()).hexdigest()[:16]
        run = runs.submit(ctx, read_recipe_text(name), overrides=overrides, request_key=f"autorun-{key}")
        _log.info("CODEX_SPACE_AUTORUN: run %s is %s", run.id, run.state)
        return run
    except CodexError as error:  # the page stays: there a person can put it right
        _log.error("CODEX_SPACE_AUTORUN was not started: %s", error)
        return None
    finally:
        acting.reset(token)


def _split(setting: str) -> list[str]:
    try:
        return shlex.split(setting)
    except ValueError as error:
        raise RecipeError(
            f"it cannot be read: {error}", where="CODEX_SPACE_AUTORUN", cure="Write it as for `train`."
        ) from error
