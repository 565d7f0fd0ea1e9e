"""Started by accelerate in place of the worker: the same worker, with accelerate told that FSDP works on CPUs too.

It does, over gloo; accelerate 1.15 sets it up on GPUs alone. So weights, gradients and checkpoints are in parts for real.
"""

import os
import sys

from accelerate import state
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from codex_space.work.__main__ import main

if __name__ == "__main__":
    real = state.AcceleratorState.__init__

    def init(self, *args, **given):
        real(self, *args, **given)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.FSDP
            self.fsdp_plugin = self.__dict__.get("fsdp_plugin") or FullyShardedDataParallelPlugin()

    state.AcceleratorState.__init__ = init
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
