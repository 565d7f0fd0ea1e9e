"""Turn what torch, safetensors and the disk throw into one sentence with a cure."""

import errno
from collections.abc import Iterator

from codex_space.core.errors import CodexError, TrainingError

_DISK_FULL = ("No space left on device", "os error 28", "PytorchStreamWriter failed", "inline_container.cc")
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def explain(error: BaseException, where: str) -> CodexError:
    """Return the sentence for any error that ended a run."""
    if isinstance(error, CodexError):
        return error
    if is_disk_full(error):
        return TrainingError(
            "the disk is full", where=where, cure="Free some space, then Resume: earlier checkpoints are intact."
        )
    if any(is_out_of_memory(each) for each in _chain(error)):
        return TrainingError(
            "the memory was not enough",
            where=where,
            cure="Lower per_device_train_batch_size or max_length, set gradient_checkpointing, or take a smaller base.",
        )
    if any("does not have a deterministic implementation" in str(each) for each in _chain(error)):
        named = str(error).split(" does not have")[0][-80:]
        return TrainingError(
            f"this model needs {named}, of which torch has no deterministic version on this machine",
            where="deterministic",
            cure="Set deterministic: false.",
        )
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
    return TrainingError(f"{type(error).__name__}: {text[:400]}", where=where, cure="The log holds the traceback.")


def is_disk_full(error: BaseException) -> bool:
    """Whether a full disk is behind it; safetensors and torch report that as errors of their own."""
    return any(
        (isinstance(each, OSError) and each.errno in {errno.ENOSPC, errno.EDQUOT})
        or any(sign in str(each) for sign in _DISK_FULL)
        for each in _chain(error)
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this very error says that memory was short, on a GPU or of the machine."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(sign in text for sign in _OUT_OF_MEMORY)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__
