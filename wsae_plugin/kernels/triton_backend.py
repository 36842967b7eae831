# Triton annotates its compile-time parameters as constexpr, and takes plain integers for them.
# pyright: reportArgumentType=false
"""The products on a CUDA GPU, through Triton; without atomics, so that they are reproducible."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from wsae_plugin.kernels.backend import Backend
from wsae_plugin.kernels.pattern import Pattern
from wsae_plugin.kernels.triton_kernels import (
    chunk_sums_kernel,
    group_maxima_kernel,
    sddmm_kernel,
    spmm_kernel,
)

# One warp for 256 dimensions: each thread reads one or two 16-byte pieces of every entry and keeps
# its own part of the sum, so that spmm needs no exchange between threads. Eight entries at a time
# fill about 64 registers, the most with which an SM of an A100 or H100 holds 32 such warps.
_BLOCK = 256
_TILE: dict[str, Any] = {"ENTRIES": 8, "BLOCK": _BLOCK, "num_warps": 1}
# Long rows are cut into pieces of so many entries, which different warps add up.
_CHUNK = 128
# 32 for each of the 128 threads of a program, in four to eight 16-byte loads at once.
_SCORES = 4096


def _sum_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


class TritonBackend(Backend):
    """Reads only the active rows, and adds up in float32 (float64 for float64)."""

    name = "triton"

    def spmm(self, pattern: Pattern, values: Tensor, dense: Tensor) -> Tensor:
        values, dense = values.contiguous(), dense.contiguous()
        offsets, columns = pattern.offsets, pattern.columns.contiguous()
        d = dense.shape[1]
        n_blocks = math.ceil(d / _BLOCK)
        n_chunks = len(columns) // _CHUNK
        chunk_begins = torch.arange(n_chunks, device=dense.device) * _CHUNK
        row_ends = offsets[torch.searchsorted(offsets, chunk_begins, right=True)]
        chunk_sums = dense.new_empty((n_chunks, d), dtype=_sum_dtype(dense.dtype))
        out = dense.new_empty((pattern.n_rows, d))
        with torch.cuda.device_of(dense):
            chunk_sums_kernel[(n_chunks, n_blocks)](
                row_ends, columns, values, dense, chunk_sums, d, CHUNK=_CHUNK, **_TILE
            )
            spmm_kernel[(pattern.n_rows, n_blocks)](
                offsets, columns, values, dense, chunk_sums, out, d, CHUNK=_CHUNK, **_TILE
            )
        return out

    def sddmm(self, pattern: Pattern, left: Tensor, right: Tensor) -> Tensor:
        left, right = left.contiguous(), right.contiguous()
        columns = pattern.columns.contiguous()
        nnz, d = len(columns), right.shape[1]
        n_blocks = math.ceil(d / _BLOCK)
        products = right.new_empty((n_blocks, nnz), dtype=_sum_dtype(right.dtype))
        with torch.cuda.device_of(right):
            sddmm_kernel[(pattern.n_rows, n_blocks)](
                pattern.offsets, columns, left, right, products, nnz, d, **_TILE
            )
        return products.sum(0).to(right.dtype)

    def row_top_k(self, scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k groups of columns with the largest maxima hold the k largest scores."""
        n, width = scores.shape
        # About √(width / k) columns in a group make the two searches equally long. With groups of
        # less than eight they would not be much shorter than one search of the row.
        size = math.gcd(width, 1 << min((width // k).bit_length() // 2, 6))
        if size < 8:
            return super().row_top_k(scores, k)
        grouped = scores.contiguous().view(n, width // size, size)
        maxima = grouped.new_empty(grouped.shape[:2])
        groups_per_program = _SCORES // size
        with torch.cuda.device_of(scores):
            group_maxima_kernel[(math.ceil(maxima.numel() / groups_per_program),)](
                grouped, maxima, maxima.numel(), SIZE=size, GROUPS=groups_per_program
            )
        groups = torch.topk(maxima, k, dim=-1, sorted=False).indices
        candidates = grouped.gather(1, groups[:, :, None].expand(-1, -1, size)).flatten(1)
        values, places = torch.topk(candidates, k, dim=-1, sorted=False)
        return values, groups.gather(1, places // size) * size + places % size
