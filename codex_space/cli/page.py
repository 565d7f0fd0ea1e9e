"""`codex-space serve`."""

import argparse
import gc
import time

from codex_space.core.settings import read_settings


def serve(args: argparse.Namespace) -> int:
    """Open the page and stay until SIGTERM or Ctrl-C."""
    # Importing gradio makes a million objects that all stay: looking for garbage among them takes half a second.
    gc.disable()
    from codex_space.ui.serve import serve as serve_page  # noqa: PLC0415  # after the line above

    return serve_page(read_settings(workspace=args.workspace, port=args.port, host=args.host), time.time)
