"""Encoding in smaller batches where memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

logger = logging.getLogger(__name__)

Batch = TypeVar("Batch", bound=Sequence | torch.Tensor)

# What torch says where it raises a plain RuntimeError: MPS ("MPS backend out of memory"), XPU and
# older CUDA ("out of memory"), and the CPU ("DefaultCPUAllocator: can't allocate memory: you tried
# to allocate ...", on Windows "not enough memory").
_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "failed to allocate")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that a device, or the machine, has no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(w in str(error).lower() for w in _WORDS)


def in_smaller_batches(encode: Callable[[Batch], torch.Tensor], batch: Batch) -> torch.Tensor:
    """Return `encode(batch)`, encoded in halves where the whole batch does not fit the memory.

    Args:
        encode: a sequence or tensor of n items -> tensor of n rows.

    Raises:
        Whatever `encode` raises, out of memory too where a single item does not fit.
    """
    try:
        return encode(batch)
    except (RuntimeError, MemoryError) as error:
        if len(batch) < 2 or not is_out_of_memory(error):
            raise
    # Outside of `except`, where the error would still hold the tensors of the failed call.
    free_memory()
    half = len(batch) // 2
    logger.warning("%d items at a time don't fit the memory: trying %d.", len(batch), half)
    parts = [in_smaller_batches(encode, part) for part in (batch[:half], batch[half:])]
    return torch.cat(parts)


def free_memory() -> None:
    """Give memory back that torch keeps cached for tensors that are gone."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
