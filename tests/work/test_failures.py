"""What libraries throw becomes one sentence with a cure."""

import errno

import pytest

from codex_space.core.errors import DataError
from codex_space.work.failures import explain, is_disk_full

FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0"),
    RuntimeError("PytorchStreamWriter failed writing file data/1: file write failed"),
    RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
]
OUT_OF_MEMORY = [
    MemoryError(),
    RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"),
]


@pytest.mark.parametrize("error", FULL, ids=lambda error: str(error)[:30])
def test_a_full_disk_is_known_in_all_its_disguises(error):
    assert is_disk_full(error)
    assert explain(error, "training").what == "the disk is full"


@pytest.mark.parametrize("error", FULL, ids=lambda error: str(error)[:30])
def test_a_full_disk_is_known_behind_another_error(error):
    outer = ValueError("saving failed")
    outer.__cause__ = error
    assert is_disk_full(outer)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_memory_that_is_not_enough_names_what_to_lower(error):
    told = explain(error, "training")
    assert "memory" in told.what
    assert "per_device_train_batch_size" in told.cure
    assert not is_disk_full(error)


def test_our_own_errors_stay_as_they_are():
    error = DataError("wrong", where="line 3", cure="Mend it.")
    assert explain(error, "training") is error


@pytest.mark.parametrize(
    "error", [ValueError("first\nsecond"), KeyError("k"), RuntimeError("x" * 5000), OSError("\n\n")]
)
def test_any_other_error_is_one_line_with_its_type(error):
    told = explain(error, "training")
    assert type(error).__name__ in told.what
    assert "\n" not in told.what
    assert len(told.what) < 600


def test_errors_that_cause_each_other_in_a_ring_end():
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert not is_disk_full(first)
