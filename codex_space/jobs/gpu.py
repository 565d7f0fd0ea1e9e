"""How much memory of the GPUs is taken, asked of the driver; no CUDA context is made in this process."""


def used_bytes() -> int:
    """Return the memory in use on all GPUs, 0 where there is no driver."""
    try:
        import pynvml  # noqa: PLC0415  # absent where only the page's packages are installed
    except ImportError:
        return 0
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return sum(int(pynvml.nvmlDeviceGetMemoryInfo(handle).used) for handle in handles)
    except pynvml.NVMLError:
        return 0
