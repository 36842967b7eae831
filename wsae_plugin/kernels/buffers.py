"""Memory for the large tensors of a step that outlives them.

Memory of this size comes fresh from the operating system, which clears it page by page: that takes
longer than to compute what goes into it. So whoever is done with such a tensor hands its memory on.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LEAST_BYTES = 2**25  # smaller ones the allocator keeps by itself

_free: dict[tuple[tuple[int, ...], torch.dtype], list[Tensor]] = {}


def is_worth_keeping(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> bool:
    """Whether memory of such a tensor is reused. A GPU's allocator does so by itself."""
    return device.type == "cpu" and torch.Size(shape).numel() * dtype.itemsize >= _LEAST_BYTES


def take(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialised tensor, in memory that was handed on if there is some."""
    free = _free.get((shape, dtype)) if device.type == "cpu" else None
    return free.pop() if free else torch.empty(shape, dtype=dtype, device=device)


def hand_on(tensor: Tensor) -> None:
    """Give the memory of a contiguous tensor that nobody will use any more to the next `take`."""
    if tensor.is_contiguous() and is_worth_keeping(tensor.shape, tensor.dtype, tensor.device):
        _free.setdefault((tuple(tensor.shape), tensor.dtype), []).append(tensor)
