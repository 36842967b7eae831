"""Candidates for the top k from a bfloat16 product that is a proven upper bound on every score.

Let s_j = scale_j · w_j, and x̃, s̃_j be x and s_j rounded to bfloat16. By Cauchy-Schwarz

    x · s_j ≤ x̃ · s̃_j + ‖x − x̃‖ ‖s_j‖ + ‖x̃‖ ‖s_j − s̃_j‖,

whose right side is one inner product of vectors with two more dimensions. Three more hold the bias,
in two parts, and what rounding may have cost it. So one bfloat16 matrix product gives a number that
no score exceeds. It is taken for every latent; the few largest are scored again in float32; and if
the k-th of these is above the bound on all the others, the others cannot be among the top k.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor

from wsae_plugin.kernels.backend import Backend
from wsae_plugin.kernels.blocks import row_blocks
from wsae_plugin.kernels.buffers import take
from wsae_plugin.kernels.encoder import Encoder

# Relative error allowed to a term of a float32 sum: four roundings, twice what adding the screen's
# own terms and any other order of adding the float32 terms can cost, truncating hardware included.
_PER_TERM = 2.0**-21
_BIAS_ROUNDING = 2.0**-16  # two bfloat16 parts hold 17 bits
_UP = 1 + 2.0**-7  # bfloat16 rounds by 2**-9 at most: this much above is above after rounding too
_OUTPUT_ROUNDING = 2.0**-8
_UNDERFLOW = 1e-30  # bfloat16 products may flush subnormal numbers to zero
_LOST_SQUARE = 2.0**-126  # squares, and single numbers, below this may be taken for zero
_EXTRA_COLUMNS = 5
WIDEST = 2**14
"""The largest d_in for which `_UP` also covers what float32 sums of so many terms lose."""
_ALIGNMENT = 32  # of the inner dimension, which matrix units read in tiles
_ROWS_AT_A_TIME = 512  # of the weight: what stays in the cache from one pass to the next


@torch.no_grad()
def screen(x: Tensor, encoder: Encoder, m: int, backend: Backend) -> tuple[Tensor, Tensor]:
    """The m latents of every row with the highest upper bounds.

    Args:
        x: What the encoder reads, (batch, d_in), float32.
        m: Candidates a row, at most d_sae.

    Returns:
        The latents (batch, m) that may be among the top k, and a ceiling (batch,): no other latent
        of the row scores above it in float32 arithmetic.
    """
    bounding_x, bounding_weight = _bounding_rows(x), _bounding_weight(encoder)
    latents = torch.empty(len(x), m, dtype=torch.int64, device=x.device)
    lowest = torch.empty(len(x), dtype=torch.float32, device=x.device)
    with _float32_accumulation(x.device):
        for rows, product in row_blocks(bounding_x, bounding_weight):
            bounds, latents[rows] = backend.row_top_k(product, m)
            lowest[rows] = bounds.amin(dim=-1).float()
    return latents, lowest + lowest.abs() * _OUTPUT_ROUNDING + _UNDERFLOW


@contextmanager
def _float32_accumulation(device: torch.device) -> Generator[None]:
    """cuBLAS adds the parts of a long sum in bfloat16 unless it is told not to."""
    if device.type != "cuda":
        yield
        return
    matmul = torch.backends.cuda.matmul
    name = "allow_bf16_reduced_precision_reduction"
    before, during = getattr(matmul, name), False
    if hasattr(matmul, f"{name}_split_k"):  # a second setting, which a bool would set to True
        split_k = getattr(matmul, f"{name}_split_k")
        before, during = (before, split_k), (False, split_k)
    setattr(matmul, name, during)
    try:
        yield
    finally:
        setattr(matmul, name, before)


def _inner_dimension(d_in: int) -> int:
    return -(-(d_in + _EXTRA_COLUMNS) // _ALIGNMENT) * _ALIGNMENT


def _bounding_rows(x: Tensor) -> Tensor:
    """[x̃, 1, 1, 1, ‖x − x̃‖ + rounding, ‖x̃‖, 0 …]."""
    d_in = x.shape[1]
    rows = x.new_zeros(len(x), _inner_dimension(d_in), dtype=torch.bfloat16)
    rows[:, :d_in] = x
    rounded = rows[:, :d_in].float()
    accumulation = _PER_TERM * rows.shape[1]
    rows[:, d_in : d_in + 3] = 1
    rows[:, d_in + 3] = (_norm(x - rounded) + accumulation * _norm(x)) * _UP
    rows[:, d_in + 4] = _norm(rounded) * _UP
    return rows


def _bounding_weight(encoder: Encoder) -> Tensor:
    """[s̃, bias, rest of the bias, rounding of the bias, ‖s‖, ‖s − s̃‖, 0 …] of every latent."""
    weight, d_in = encoder.weight, encoder.weight.shape[1]
    bounding = take((len(weight), _inner_dimension(d_in)), torch.bfloat16, weight.device)
    accumulation = _PER_TERM * bounding.shape[1]
    for start in range(0, len(weight), _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        scaled, bias, out = weight[part], encoder.bias[part], bounding[part]
        if encoder.scale is not None:
            scaled = scaled * encoder.scale[part, None]
            bias = bias * encoder.scale[part]
        out[:, :d_in] = scaled
        out[:, d_in] = bias
        out[:, d_in + 1] = bias - out[:, d_in].float()
        out[:, d_in + 2] = bias.abs() * ((accumulation + _BIAS_ROUNDING) * _UP) + _UNDERFLOW
        out[:, d_in + 3] = _norm(scaled) * _UP
        out[:, d_in + 4] = _norm(scaled - out[:, :d_in].float()) * _UP
        out[:, d_in + _EXTRA_COLUMNS :] = 0
    return bounding


def _norm(rows: Tensor) -> Tensor:
    """No less than the norm of every row: that of all the squares that may underflow is added."""
    return torch.linalg.vector_norm(rows, dim=-1) + (rows.shape[-1] * _LOST_SQUARE) ** 0.5
