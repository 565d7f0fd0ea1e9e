"""`codex-space audit`."""

import argparse
import json
from datetime import datetime

from codex_space.cli.opened import opened
from codex_space.services import audit


def show(args: argparse.Namespace) -> int:
    """Print who did what, newest last."""
    with opened(args) as ctx:
        found = audit.read(ctx, limit=args.lines)
    for deed in reversed(found):
        at = datetime.fromtimestamp(deed.at).astimezone().isoformat(timespec="seconds")
        print(json.dumps({**vars(deed), "at": at}) if args.json else f"{at}  {deed.who}  {deed.verb}  {deed.what}")
    return 0
