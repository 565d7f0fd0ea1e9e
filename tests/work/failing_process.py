"""Started by torchrun in place of the worker: the same worker, whose second process meets an error at its second log."""

import os
import sys

from codex_space.core.errors import DataError
from codex_space.work.__main__ import main
from codex_space.work.report import Reporter

if __name__ == "__main__":
    real = Reporter.on_log

    def on_log(self, args, state, control, **given):
        if os.environ["RANK"] == "1" and state.global_step == 2:
            raise DataError("row 7 is broken", where="rows", cure="Mend it.")
        return real(self, args, state, control, **given)

    Reporter.on_log = on_log
    code = main(sys.argv[1:])
    os._exit(code)
