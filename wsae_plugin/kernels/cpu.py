"""The products on a processor, through PyTorch's vectorised embedding bags and MKL.

An embedding bag is a sparse product: it sums weighted rows of a table. Its derivative by the
weights is the sampled dense product. Neither writes out the rows that it reads.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from wsae_plugin.kernels.backend import Backend
from wsae_plugin.kernels.buffers import is_worth_keeping, take
from wsae_plugin.kernels.pattern import Pattern

_SUM = 0  # PyTorch's number for this mode of an embedding bag


class CPUBackend(Backend):
    """Reads each active row once, in the order that keeps the smaller matrix in the cache."""

    name = "cpu"

    def spmm(self, pattern: Pattern, values: Tensor, dense: Tensor) -> Tensor:
        values = values.to(dense.dtype)
        shape = (pattern.n_rows, dense.shape[1])
        if _has_sparse_product(dense.dtype) and is_worth_keeping(shape, dense.dtype, dense.device):
            return _spmm_into(take(shape, dense.dtype, dense.device), pattern, values, dense)
        return torch.nn.functional.embedding_bag(
            pattern.columns,
            dense,
            pattern.offsets,
            mode="sum",
            per_sample_weights=values,
            include_last_offset=True,
        )

    def sddmm(self, pattern: Pattern, left: Tensor, right: Tensor) -> Tensor:
        # Column after column: `right`, the larger one, is then read once and in order.
        by_column = pattern.transposed
        products = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            right,
            left.to(right.dtype),
            by_column.columns,
            by_column.offsets[:-1],
            by_column.rows,
            _SUM,
        )
        return torch.empty_like(products).index_copy_(0, pattern.order, products)


def _has_sparse_product(dtype: torch.dtype) -> bool:
    return torch.backends.mkl.is_available() and dtype in (torch.float32, torch.float64)


def _spmm_into(out: Tensor, pattern: Pattern, values: Tensor, dense: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
        sparse = torch.sparse_csr_tensor(
            pattern.offsets,
            pattern.columns,
            values,
            (pattern.n_rows, pattern.n_columns),
            check_invariants=False,
        )
    return torch.addmm(out, sparse, dense, beta=0, out=out)
