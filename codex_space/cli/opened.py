"""Open the workspace for one command: as its owner where there is none, else as a guest that leaves wishes."""

import argparse
import contextlib
import time
from collections.abc import Generator

from codex_space.core.errors import WorkspaceError
from codex_space.core.paths import Workspace
from codex_space.core.settings import read_settings
from codex_space.jobs.owner import is_owned
from codex_space.services.context import Context, open_context


@contextlib.contextmanager
def opened(args: argparse.Namespace, *, own: bool = False) -> Generator[Context]:
    """Yield a context for `--workspace`; with `own`, own it unless a page or another command does already."""
    settings = read_settings(workspace=args.workspace)
    if own and is_owned(Workspace(settings.workspace)) is None:
        try:
            ctx = open_context(settings, time.time, own=True)
        except WorkspaceError:  # another process was quicker
            ctx = open_context(settings, time.time, own=False)
    else:
        ctx = open_context(settings, time.time, own=False)
    try:
        yield ctx
    finally:
        ctx.close()
