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
    n_columns = len(weight)
    # oneDNN, which multiplies 16-bit numbers on a CPU, keeps a program and memory of its own for
    # each size that it meets: the dead latents of every step would be another one.
    are_few = x.device.type == "cpu" and x.dtype.itemsize == 2
    if are_few:
        weight = _lengthened(weight)
    size = min(rows_a_block(len(weight)), len(x))
    product = take((_one_of_few(size), len(weight)), x.dtype, x.device)
    for start in range(0, len(x), max(size, 1)):
        rows = slice(start, min(start + size, len(x)))
        block = _lengthened(x[rows]) if are_few else x[rows]
        torch.mm(block, weight.T, out=product[: len(block)])
        yield rows, product[: rows.stop - start, :n_columns]


def _lengthened(rows: Tensor) -> Tensor:
    """`rows` (n, d), followed by zeros up to one of a few lengths."""
    length = _one_of_few(len(rows))
    if length == len(rows):
        return rows
    longer = take((length, rows.shape[1]), rows.dtype, rows.device)
    longer[: len(rows)] = rows
    longer[len(rows) :] = 0
    return longer


def _one_of_few(size: int) -> int:
    """The next size of which there are eight from a power of two to the next."""
    step = 1 << max((size - 1).bit_length() - 4, 0)
    return -(-size // step) * step
