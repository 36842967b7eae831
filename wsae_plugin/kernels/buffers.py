"""Memory for the large tensors of a step, used again as soon as its last tensor is gone.

Memory of this size comes fresh from the operating system, which clears it page by page: that takes
longer than to compute what goes into it. NumPy, which asks for large pages, lends the memory.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_LEAST_BYTES = 2**25  # smaller ones the allocator keeps by itself
_ALIGNMENT = 64  # a cache line

_free: dict[int, list[NDArray[np.uint8]]] = {}


def is_worth_keeping(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> bool:
    """Whether memory of such a tensor is kept. A GPU's allocator does so by itself."""
    return device.type == "cpu" and _n_bytes(shape, dtype) >= _LEAST_BYTES


def take(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialised tensor, in memory that was used before if some is free."""
    if not is_worth_keeping(shape, dtype, device):
        return torch.empty(shape, dtype=dtype, device=device)
    n_bytes = _n_bytes(shape, dtype)
    # Powers of two, so that tensors of ever new sizes share a few pieces of memory. What lies
    # beyond the tensor is never touched, and so takes no memory.
    capacity = 1 << (n_bytes - 1).bit_length()
    free = _free.setdefault(capacity, [])
    memory = free.pop() if free else np.empty(capacity + _ALIGNMENT, dtype=np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    # The tensor's storage holds on to this view until nobody, not even a view of the tensor, needs
    # it; then the memory is free again.
    lease: Any = memory[start : start + n_bytes]
    weakref.finalize(lease, free.append, memory).atexit = False
    return torch.from_numpy(lease).view(dtype).view(shape)


def _n_bytes(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    return torch.Size(shape).numel() * dtype.itemsize
