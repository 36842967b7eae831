# pyright: basic
"""The CUDA kernels behind `TritonBackend`; each program has one row and BLOCK of the d dimensions.

Rows are the faster axis of the launch grid, so that at any time all of them gather from one slice
of the dense matrix, BLOCK dimensions wide, which is small enough to stay in the L2 cache.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _add_entries(total, columns, values, dense, begin, end, d, dims, ENTRIES: tl.constexpr):
    """total (BLOCK,) plus values[e] · dense[columns[e], dims] for begin ≤ e < end."""
    for first in range(begin, end, ENTRIES):
        entries = first + tl.arange(0, ENTRIES)
        inside = entries < end
        column = tl.load(columns + entries, mask=inside, other=0)
        value = tl.load(values + entries, mask=inside, other=0).to(total.dtype)
        tile = tl.load(
            dense + column[:, None] * d + dims[None, :],
            mask=inside[:, None] & (dims < d)[None, :],
            other=0,
        )
        total += tl.sum(value[:, None] * tile.to(total.dtype), axis=0)
    return total


@triton.jit
def chunk_sums_kernel(
    row_ends,
    columns,
    values,
    dense,
    chunk_sums,
    d,
    CHUNK: tl.constexpr,
    ENTRIES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """What `spmm_kernel` adds up, for every chunk of entries that lies within one row.

    Chunk c is the entries from c · CHUNK to (c + 1) · CHUNK. The other chunks' sums stay unset.

    Args:
        row_ends: Where the row of each chunk's first entry ends, (n_chunks,).
        chunk_sums: The result, (n_chunks, d), in the dtype to add up in.
    """
    chunk = tl.program_id(0).to(tl.int64)
    begin = chunk * CHUNK
    end = begin + CHUNK
    if end <= tl.load(row_ends + chunk):
        dims = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        total = tl.full((BLOCK,), 0, chunk_sums.dtype.element_ty)
        total = _add_entries(total, columns, values, dense, begin, end, d, dims, ENTRIES)
        tl.store(chunk_sums + chunk * d + dims, total, mask=dims < d)


@triton.jit
def spmm_kernel(
    offsets,
    columns,
    values,
    dense,
    chunk_sums,
    out,
    d,
    CHUNK: tl.constexpr,
    ENTRIES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out[r] = Σ values[e] · dense[columns[e]]: the row's whole chunks and the entries around them.

    Args:
        chunk_sums: Of `chunk_sums_kernel`, (n_chunks, d).
        out: The result, (n_rows, d).
    """
    row = tl.program_id(0).to(tl.int64)
    begin = tl.load(offsets + row)
    end = tl.load(offsets + row + 1)
    first_chunk = (begin + CHUNK - 1) // CHUNK
    chunks_end = end // CHUNK
    head_end = tl.minimum(first_chunk * CHUNK, end)
    tail_begin = tl.maximum(chunks_end * CHUNK, head_end)

    dims = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.full((BLOCK,), 0, chunk_sums.dtype.element_ty)
    total = _add_entries(total, columns, values, dense, begin, head_end, d, dims, ENTRIES)
    for first in range(first_chunk, chunks_end, ENTRIES):
        chunks = first + tl.arange(0, ENTRIES)
        tile = tl.load(
            chunk_sums + chunks[:, None] * d + dims[None, :],
            mask=(chunks < chunks_end)[:, None] & (dims < d)[None, :],
            other=0,
        )
        total += tl.sum(tile, axis=0)
    total = _add_entries(total, columns, values, dense, tail_begin, end, d, dims, ENTRIES)
    tl.store(out + row * d + dims, total, mask=dims < d)


@triton.jit
def sddmm_kernel(
    offsets,
    columns,
    left,
    right,
    products,
    nnz,
    d,
    ENTRIES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """products[block, e] = left[row(e)] · right[columns[e]], over the dimensions of the block.

    Args:
        products: The result, (n_blocks, nnz), in the dtype to add up in.
    """
    row = tl.program_id(0).to(tl.int64)
    begin = tl.load(offsets + row)
    end = tl.load(offsets + row + 1)
    dims = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    products += tl.program_id(1).to(tl.int64) * nnz
    sum_type = products.dtype.element_ty
    left_block = tl.load(left + row * d + dims, mask=dims < d, other=0).to(sum_type)
    for first in range(begin, end, ENTRIES):
        entries = first + tl.arange(0, ENTRIES)
        inside = entries < end
        column = tl.load(columns + entries, mask=inside, other=0)
        tile = tl.load(
            right + column[:, None] * d + dims[None, :],
            mask=inside[:, None] & (dims < d)[None, :],
            other=0,
        )
        product = tl.sum(left_block[None, :] * tile.to(sum_type), axis=1)
        tl.store(products + entries, product, mask=inside)


@triton.jit
def group_maxima_kernel(scores, maxima, n_groups, SIZE: tl.constexpr, GROUPS: tl.constexpr):
    """The largest of every SIZE scores, where NaN, as in `torch.topk`, is larger than all others.

    Args:
        scores: (n_groups, SIZE).
        maxima: The result, (n_groups,).
    """
    groups = tl.program_id(0).to(tl.int64) * GROUPS + tl.arange(0, GROUPS)
    inside = groups < n_groups
    tile = tl.load(
        scores + groups[:, None] * SIZE + tl.arange(0, SIZE)[None, :],
        mask=inside[:, None],
        other=0,
    )
    if tile.dtype != tl.float64:
        tile = tile.to(tl.float32)
    is_nan = tile != tile
    maximum = tl.max(tl.where(is_nan, float("-inf"), tile), axis=1)
    has_nan = tl.max(is_nan.to(tl.int32), axis=1) > 0
    tl.store(maxima + groups, tl.where(has_nan, float("nan"), maximum), mask=inside)
