"""The Space's entry: the same page as `codex-space serve`."""

import time

from codex_space.core.settings import read_settings
from codex_space.ui.serve import serve

if __name__ == "__main__":
    raise SystemExit(serve(read_settings(), time.time))  # noqa: TID251  # composition root
