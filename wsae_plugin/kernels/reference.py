"""The definition: dense PyTorch, for tests and for reading."""

from __future__ import annotations

from torch import Tensor

from wsae_plugin.kernels.backend import Backend
from wsae_plugin.kernels.pattern import Pattern


class ReferenceBackend(Backend):
    """Forms every dense matrix that the other backends avoid."""

    name = "reference"

    def spmm(self, pattern: Pattern, values: Tensor, dense: Tensor) -> Tensor:
        matrix = values.new_zeros(pattern.n_rows, pattern.n_columns)
        matrix.index_put_((pattern.rows, pattern.columns), values, accumulate=True)
        return matrix.to(dense.dtype) @ dense

    def sddmm(self, pattern: Pattern, left: Tensor, right: Tensor) -> Tensor:
        return (left.to(right.dtype) @ right.T)[pattern.rows, pattern.columns]
