"""Started by accelerate in place of the worker: the same worker, with accelerate told that FSDP and DeepSpeed work on CPUs too.

It does, over gloo; accelerate 1.15 sets it up on GPUs alone. So weights, gradients and checkpoints are in parts for real.
"""

import contextlib
import os
import sys

import bitsandbytes
import torch
from accelerate import state
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch.distributed.fsdp._flat_param import FlatParamHandle

from codex_space.work.__main__ import main


@contextlib.contextmanager
def stay(_):
    """In the place of a move to the CPU, after which FSDP 1 frees what it takes for the GPU's copy."""
    yield


if __name__ == "__main__":
    real = state.AcceleratorState.__init__

    def init(self, *args, **given):
        if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
            given["cpu"] = False  # DeepSpeed has CPUs of its own (DS_ACCELERATOR)
        real(self, *args, **given)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.FSDP
            self.device = torch.device("cpu")  # FSDP 1 takes none with a number
            self.fsdp_plugin = self.__dict__.get("fsdp_plugin") or FullyShardedDataParallelPlugin()

    state.AcceleratorState.__init__ = init
    FlatParamHandle.to_cpu = stay
    # for an evaluation on newer CPUs 4 bits are laid out anew, whole weights at a time; on GPUs they are not
    bitsandbytes.nn.modules.has_avx512bf16 = lambda: False
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
