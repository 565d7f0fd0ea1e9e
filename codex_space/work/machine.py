"""What the machine is busy with while it trains: its processors, memory, and the GPU's temperature and power."""

from collections.abc import Callable
from contextlib import suppress

import psutil
import torch

EVERY_S = 2.0


class Machine:
    """Looked at at most every two seconds, however often a run logs."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """Count the processors' time from here on."""
        self._monotonic, self._looked_at_s = monotonic, -EVERY_S
        psutil.cpu_percent()

    def metrics(self) -> dict[str, float]:
        """Return what there is to see; of the GPU nothing where there is none or its driver does not tell."""
        found = {"memory_mib": _own_memory_mib()}
        if self._monotonic() - self._looked_at_s < EVERY_S:
            return found
        self._looked_at_s = self._monotonic()
        found |= {"cpu_percent": psutil.cpu_percent(), "ram_percent": psutil.virtual_memory().percent}
        return found | (_gpu() if torch.cuda.is_available() else {})


def _own_memory_mib() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return psutil.Process().memory_info().rss / 2**20


def _gpu() -> dict[str, float]:
    import pynvml

    looks: dict[str, Callable[[], float]] = {
        "gpu_percent": torch.cuda.utilization,
        "gpu_memory_mib": lambda: torch.cuda.device_memory_used() / 2**20,
        "gpu_temperature_c": torch.cuda.temperature,
        "gpu_power_w": lambda: torch.cuda.power_draw() / 1000,
    }
    found = {}
    for name, look in looks.items():
        with suppress(pynvml.NVMLError):  # a slice of a GPU tells its memory only
            found[name] = float(look())
    return found
