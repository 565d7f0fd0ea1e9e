"""`codex-space serve`."""

import argparse
import time

from codex_space.core.settings import read_settings
from codex_space.ui.serve import serve as serve_page


def serve(args: argparse.Namespace) -> int:
    """Open the page and stay until SIGTERM or Ctrl-C."""
    return serve_page(read_settings(workspace=args.workspace, port=args.port, host=args.host), time.time)
