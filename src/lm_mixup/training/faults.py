"""Errors of a training, explained: what ran out, and which setting to turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lm_mixup.errors import RunError

_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "DefaultCPUAllocator")
_DEVICE = ("no kernel image", "CUDA driver", "CUDA error", "invalid device ordinal", "NCCL")


@contextmanager
def explained(section: str, batch: int) -> Iterator[None]:
    """Turn out-of-memory and device errors of torch into a RunError that says what to do."""
    try:
        yield
    except MemoryError as error:
        raise _memory(section, batch, "") from error
    except RuntimeError as error:  # torch raises these; its OutOfMemoryError is one
        text = str(error)
        if any(word in text for word in _MEMORY):
            raise _memory(section, batch, text.splitlines()[0][:300]) from error
        if any(word in text for word in _DEVICE):
            raise RunError(
                f"the device failed: {text.splitlines()[0][:300]}. Set device: cpu in the recipe to train without it; "
                "the last checkpoint is kept, and --resume goes on from it"
            ) from error
        raise


def _memory(section: str, batch: int, said: str) -> RunError:
    return RunError(
        f"memory ran out ({said or 'MemoryError'}). Lower {section}.batch (now {batch})"
        + (" and raise sft.accumulate by as much" if section == "sft" else "")
        + f", lower data.max_tokens, or set {section}.checkpoint_activations: true. "
        "The last checkpoint is kept; another batch is another training, so give another folder"
    )
