"""Machines that a run can be estimated for: the Hub's flavours from configs/hardware.yaml, or this one."""

import functools
from dataclasses import dataclass
from typing import Any

import yaml

from codex_space.core.errors import RecipeError, nearest
from codex_space.core.paths import share_dir

CPU_TFLOPS_PER_CORE = 0.04
"""float32, AVX2 at 2.5 GHz: about half of what one core of a shared machine can do at best (measured: training at 0.02)."""
CPU_UTILISATION = 0.5


@dataclass(frozen=True)
class Hardware:
    """One machine.

    Attributes:
        gpu: Name of its kind of GPU, empty for a CPU.
        memory_gib: What one GPU holds, or the machine's memory where there is none.
        tflops: Peak of one GPU (of all cores of a CPU), 10^12 operations a second.
        utilisation: The share of the peak that wide models come near.
    """

    name: str
    gpu: str
    num_gpus: int
    memory_gib: float
    ram_gib: float
    disk_gib: float
    usd_per_hour: float
    tflops: float
    utilisation: float
    bf16: bool = True

    @property
    def label(self) -> str:
        """In words: `l4x1 (L4, 22 GiB)`."""
        count = f"{self.num_gpus} x " if self.num_gpus > 1 else ""
        what = f"{count}{self.gpu}" if self.gpu else "CPU"
        return f"{self.name} ({what}, {self.memory_gib:.0f} GiB)"


@functools.cache
def list_hardware() -> dict[str, Hardware]:
    """Return the flavours by name, cheapest first."""
    known = _table()["flavors"]
    made = [_make(name, fields) for name, fields in known.items()]
    return {one.name: one for one in sorted(made, key=lambda one: one.usd_per_hour)}


def find_hardware(name: str) -> Hardware:
    """Return a flavour.

    Raises:
        RecipeError: There is none of that name; the nearest is named.
    """
    known = list_hardware()
    if name not in known:
        raise RecipeError(f"unknown hardware {name!r}", where="hardware", cure=nearest(name, list(known)))
    return known[name]


def make_cpu(name: str, *, num_cores: int, ram_gib: float, disk_gib: float, usd_per_hour: float = 0) -> Hardware:
    """Return a machine without a GPU."""
    tflops = CPU_TFLOPS_PER_CORE * num_cores
    return Hardware(
        name, "", 0, ram_gib, ram_gib, disk_gib, usd_per_hour, tflops=tflops, utilisation=CPU_UTILISATION, bf16=False
    )


def gpu_facts(driver_name: str) -> dict[str, Any]:
    """Return peak and utilisation of a GPU, an L4's for one not known."""
    return find_gpu(driver_name) or _table()["gpus"]["L4"]


def find_gpu(driver_name: str) -> dict[str, Any] | None:
    """Return peak and utilisation of the GPU that a driver's name means (`NVIDIA A100-SXM4-80GB`), None for one not known."""
    gpus: dict[str, dict[str, Any]] = _table()["gpus"]
    words = driver_name.replace("-", " ").split()
    best = [name for name in gpus if set(name.split()) <= set(words)]
    return gpus[max(best, key=len)] if best else None


@functools.cache
def _table() -> dict[str, Any]:
    return yaml.safe_load((share_dir("configs") / "hardware.yaml").read_text(encoding="utf-8"))


def _make(name: str, fields: dict[str, Any]) -> Hardware:
    shared = {"ram_gib": fields["ram_gib"], "disk_gib": fields["disk_gib"], "usd_per_hour": fields["usd_per_hour"]}
    if "gpu" not in fields:
        return make_cpu(name, num_cores=fields["vcpu"], **shared)
    facts = _table()["gpus"][fields["gpu"]]
    return Hardware(name, fields["gpu"], fields.get("num_gpus", 1), **shared, **facts)
