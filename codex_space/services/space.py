"""The Space this program runs on, or another of one's own: duplicate it, its machine, its sleep and its pause."""

import functools
import re
from collections.abc import Mapping

from codex_space.core.errors import HubError, WorkspaceError
from codex_space.core.hardware import find_hardware, list_hardware
from codex_space.core.settings import is_secret_name
from codex_space.hub.space import Copied, Copying, Runtime
from codex_space.services.context import Context, space_hub
from codex_space.store import checkpoints
from codex_space.store import runs as run_rows
from codex_space.store.runs import ACTIVE

FREE = "cpu-basic"
ORIGIN = "CODEX_SPACE_ORIGIN"
"""Tells a copy where it takes updates from."""
FREE_SLEEPS_AFTER_S = 48 * 3600.0
MAX_SLEEP_S = 30 * 24 * 3600
MAX_VALUE_CHARS = 10_000
_NOT_HANDED_ON = frozenset({"CODEX_SPACE_AUTORUN", "CODEX_SPACE_JOB_IMAGE", "CODEX_SPACE_HOME", "CODEX_SPACE_COPIES"})
"""Settings of this Space that would start a run in the copy, or mean another machine."""
_LEAVE = "`codex-space space leave FLAVOR` (or pause) saves and sends them first, then goes."
_SPACE_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


def find_space(ctx: Context, space_id: str = "") -> str:
    """Return the Space that is meant: the one named, else the one this program runs on.

    Raises:
        WorkspaceError: The name is none, or none is given on a machine that is not a Space.
    """
    found = space_id or ctx.settings.space_id
    if not found:
        cure = "Name one of yours (owner/name), or open this page on a Space."
        raise WorkspaceError("this machine is not a Space", where="space", cure=cure)
    if not _SPACE_ID.fullmatch(found):
        raise WorkspaceError(f"{found[:100]!r} is not the id of a Space", where="space", cure="Write it owner/name.")
    return found


def duplicate_link(ctx: Context) -> str:
    """Return the Hub's own page on which a person makes a copy.

    Raises:
        WorkspaceError: As `find_space`.
    """
    return f"{space_hub(ctx.settings).endpoint}/spaces/{find_space(ctx)}?duplicate=true"


def duplicate(  # noqa: PLR0913  # what a copy is made with, by keyword
    ctx: Context,
    to_id: str,
    *,
    hardware: str = "",
    sleep_time_s: int | None = None,
    secrets: Mapping[str, str] | None = None,
    variables: Mapping[str, str] | None = None,
    from_id: str = "",
) -> Copied:
    """Make a private copy; secrets are those given here, never this Space's own, and variables its settings and those given.

    Raises:
        WorkspaceError: A name or value is none, or a secret is this Space's own.
        HubError: As the Hub refuses: plan, credit, right, or a name that is taken.
    """
    origin = find_space(ctx, from_id)
    to_id = find_space(ctx, to_id.strip() or "(empty)")
    if hardware:
        check_flavor(ctx, hardware)
    if sleep_time_s is not None:
        _check_sleep(sleep_time_s, hardware or FREE)
    given = {name: value for name, value in (secrets or {}).items() if value}
    _check_secrets(ctx, given)
    wanted = {**_settings_of(ctx, origin), ORIGIN: origin, **(variables or {})}
    _check_variables(wanted)
    made = space_hub(ctx.settings).duplicate_space(Copying(origin, to_id, hardware, sleep_time_s, given, wanted))
    ctx.note("duplicate the Space", made.repo_id)
    return made


def status(ctx: Context, space_id: str = "") -> tuple[str, Runtime]:
    """Return the Space and what it runs on now.

    Raises:
        WorkspaceError: As `find_space`.
        HubError: As the Hub refuses.
    """
    found = find_space(ctx, space_id)
    return found, space_hub(ctx.settings).space_runtime(found)


def sleep_after_s(ctx: Context, *, wait_s: float) -> float | None:
    """Return after how many seconds without a request this Space sleeps; None for never, no Space, or no answer in time."""
    if not ctx.settings.space_id:
        return None
    space_id = ctx.settings.space_id
    ask = functools.partial(space_hub(ctx.settings).space_runtime, space_id)
    try:
        runtime = ctx.answers.get(f"runtime {space_id}", ask, ctx.clock, wait_s=wait_s)
    except HubError:
        return None
    if (runtime.hardware or ctx.settings.accelerator) == FREE:
        return FREE_SLEEPS_AFTER_S
    return runtime.sleep_time_s if runtime.sleep_time_s is not None and runtime.sleep_time_s >= 0 else None


def request_hardware(ctx: Context, flavor: str, *, space_id: str = "") -> Runtime:
    """Ask for another machine; the Space restarts on it with an empty disk.

    Raises:
        RecipeError: There is no such flavour.
        HubError: As the Hub refuses.
    """
    found = find_space(ctx, space_id)
    check_flavor(ctx, flavor)
    require_idle(ctx, found)
    runtime = space_hub(ctx.settings).request_hardware(found, flavor)
    ctx.note("switch hardware", f"{found} to {flavor}")
    return runtime


def set_sleep_time(ctx: Context, sleep_time_s: int, *, space_id: str = "") -> Runtime:
    """Set after how many seconds without a request the Space sleeps; -1 for never.

    Raises:
        WorkspaceError: It is no such time, or the Space runs on cpu-basic, which sleeps after 48 hours.
        HubError: As the Hub refuses.
    """
    found = find_space(ctx, space_id)
    _check_sleep(sleep_time_s, "")
    hub = space_hub(ctx.settings)
    _check_sleep(sleep_time_s, hub.space_runtime(found).requested)
    runtime = hub.set_sleep_time(found, sleep_time_s)
    ctx.answers.forget(f"runtime {found}")
    ctx.note("set the sleep time", f"{found} to {sleep_time_s} s")
    return runtime


def pause(ctx: Context, *, space_id: str = "") -> Runtime:
    """Stop the Space and its price until somebody restarts it.

    Raises:
        HubError: As the Hub refuses.
    """
    found = find_space(ctx, space_id)
    require_idle(ctx, found)
    ctx.note("pause the Space", found)  # before: it may be the Space this runs on
    return space_hub(ctx.settings).pause_space(found)


def restart(ctx: Context, *, space_id: str = "") -> Runtime:
    """Start the Space again.

    Raises:
        HubError: As the Hub refuses.
    """
    found = find_space(ctx, space_id)
    require_idle(ctx, found)
    ctx.note("restart the Space", found)
    return space_hub(ctx.settings).restart_space(found)


def require_idle(ctx: Context, space_id: str, cure: str = _LEAVE) -> None:
    """Refuse to take the machine away from under a run, or from checkpoints that are here only.

    Raises:
        WorkspaceError: Something would be lost.
    """
    if space_id != ctx.settings.space_id:
        return
    num_active = run_rows.count_runs(ctx.db, states=tuple(ACTIVE), place="local")
    uploads = checkpoints.count_uploads(ctx.db)
    num_waiting = uploads["queued"] + uploads["uploading"]
    if num_active or num_waiting:
        raise WorkspaceError(
            f"{num_active} runs are under way and {num_waiting} checkpoints are not on the Hub yet",
            where=space_id,
            cure=cure,
        )


def describe_sleep(runtime: Runtime) -> str:
    """Return when the Space goes to sleep, in words."""
    if runtime.hardware == FREE:
        return "sleeps after 48 hours without a request"
    if runtime.sleep_time_s is None or runtime.sleep_time_s < 0:
        return "never sleeps"
    return f"sleeps after {runtime.sleep_time_s:,} seconds without a request"


def check_flavor(ctx: Context, flavor: str) -> None:
    """Pass a flavour that this program or the Hub knows.

    Raises:
        RecipeError: Neither does; the nearest is named.
    """
    if flavor in list_hardware():
        return
    try:
        known = space_hub(ctx.settings).space_prices()
    except HubError:
        known = {}
    if flavor not in known:
        find_hardware(flavor)


def _check_sleep(sleep_time_s: int, hardware: str) -> None:
    if hardware == FREE:
        cure = "Choose paid hardware, or leave the sleep time out."
        raise WorkspaceError("cpu-basic sleeps after 48 hours, which cannot be set", where="sleep time", cure=cure)
    if sleep_time_s != -1 and not 60 <= sleep_time_s <= MAX_SLEEP_S:
        cure = f"Give 60 to {MAX_SLEEP_S:,} seconds, or -1 for never."
        raise WorkspaceError(f"{sleep_time_s} is no sleep time", where="sleep time", cure=cure)


def _check_secrets(ctx: Context, secrets: Mapping[str, str]) -> None:
    own = set(ctx.settings.secrets()) if ctx.settings.space_id else set()
    for name, value in secrets.items():
        _check_pair(name, value)
        if value.strip() in own:
            cure = "Make one of its own for the copy, which can then be revoked alone."
            raise WorkspaceError("this is a secret of the running Space, which is never copied", where=name, cure=cure)


def _check_variables(variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        _check_pair(name, value)
        if is_secret_name(name):
            cure = "Give it as a secret: everybody who sees the Space reads its variables."
            raise WorkspaceError("this is the name of a secret", where=name, cure=cure)


def _check_pair(name: str, value: str) -> None:
    if not _NAME.fullmatch(name):
        cure = "Letters, digits and underscores, not beginning with a digit."
        raise WorkspaceError(f"{name[:100]!r} is not a variable's name", where="space", cure=cure)
    if len(value) > MAX_VALUE_CHARS or "\0" in value:
        raise WorkspaceError("the value is too long, or no text", where=name, cure="Give at most 10,000 characters.")


def _settings_of(ctx: Context, origin: str) -> dict[str, str]:
    """Return this Space's own settings, for a copy of it: only of the Space itself, and only what is no secret."""
    if origin != ctx.settings.space_id:
        return {}
    return {
        name: value
        for name, value in ctx.settings.environ.items()
        if name.startswith("CODEX_SPACE_") and name not in _NOT_HANDED_ON and not is_secret_name(name) and value
        if not set(ctx.settings.secrets()) & {value}
    }
