"""The three products that a sparse training step is made of; every backend offers all of them."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from wsae_plugin.kernels.pattern import Pattern


class Backend(Protocol):
    """One implementation. No method records gradients; none changes what it is given."""

    name: str

    def spmm(self, pattern: Pattern, values: Tensor, dense: Tensor) -> Tensor:
        """Sparse times dense: out[r] = Σ values[e] · dense[column(e)] over the entries e of row r.

        Args:
            values: (nnz,).
            dense: (n_columns, d), contiguous.

        Returns:
            (n_rows, d), in the dtype of `dense`; a row without entries is zero.
        """
        ...

    def sddmm(self, pattern: Pattern, left: Tensor, right: Tensor) -> Tensor:
        """Sampled dense times dense: out[e] = left[row(e)] · right[column(e)].

        Args:
            left: (n_rows, d), contiguous.
            right: (n_columns, d), contiguous.

        Returns:
            (nnz,), in the dtype of `right`.
        """
        ...

    def row_top_k(self, scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k largest of every row of (n, width): values and int64 columns, (n, k), in any order.

        Which of several equal values are taken is left open, as in `torch.topk`.
        """
        return torch.topk(scores, k, dim=-1, sorted=False)
