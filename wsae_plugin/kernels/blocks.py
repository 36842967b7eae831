"""The encoder's product a block of rows at a time, so that it is never whole in memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from wsae_plugin.kernels.buffers import take

# Of 16-bit numbers 32 MiB: a block that was just written is still in a processor's last cache, and
# a GPU has enough to do.
_ELEMENTS_A_BLOCK = 2**24
_MULTIPLE = 64


def rows_a_block(n_columns: int) -> int:
    """How many rows of the product are computed at a time."""
    return max(_MULTIPLE, _ELEMENTS_A_BLOCK // n_columns // _MULTIPLE * _MULTIPLE)


def row_blocks(x: Tensor, weight: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows, and their product x[rows] @ weight.T, which the next block overwrites.

    Args:
        x: (batch, d_in).
        weight: (d_sae, d_in), contiguous, of the same dtype.
    """
    size = min(rows_a_block(len(weight)), len(x))
    product = take((size, len(weight)), x.dtype, x.device)
    for start in range(0, len(x), max(size, 1)):
        rows = slice(start, min(start + size, len(x)))
        out = product[: rows.stop - start]
        torch.mm(x[rows], weight.T, out=out)
        yield rows, out
