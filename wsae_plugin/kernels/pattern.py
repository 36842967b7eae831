"""Which latents are active in which row: a sparse matrix without its values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pattern:
    """The places of a sparse (n_rows, n_columns) matrix, row after row, column after column (CSR).

    Args:
        offsets: Where each row's entries begin, and the end of the last, (n_rows + 1,), int64.
        columns: The column of every entry, (nnz,), int64.
        n_columns: The width of the matrix.
    """

    offsets: Tensor
    columns: Tensor
    n_columns: int

    @classmethod
    def of_latents(cls, latents: Tensor, n_columns: int) -> Pattern:
        """As many entries in every row: latents of shape (n_rows, k)."""
        n_rows, k = latents.shape
        offsets = torch.arange(n_rows + 1, device=latents.device) * k
        return cls(offsets, latents.sort(dim=-1).values.flatten(), n_columns)

    @classmethod
    def of_entries(cls, rows: Tensor, columns: Tensor, n_rows: int, n_columns: int) -> Pattern:
        """Entries (nnz,) given by row and column, in any order."""
        places = (rows * n_columns + columns).sort().values
        return cls.of_sorted_entries(places // n_columns, places % n_columns, n_rows, n_columns)

    @classmethod
    def of_sorted_entries(
        cls, rows: Tensor, columns: Tensor, n_rows: int, n_columns: int
    ) -> Pattern:
        """Entries (nnz,) given by row and column, in ascending order."""
        counts = torch.bincount(rows, minlength=n_rows)
        offsets = torch.zeros(n_rows + 1, dtype=torch.int64, device=rows.device)
        torch.cumsum(counts, 0, out=offsets[1:])
        return cls(offsets, columns, n_columns)

    @property
    def n_rows(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def rows(self) -> Tensor:
        """The row of every entry, (nnz,), ascending."""
        every_row = torch.arange(self.n_rows, device=self.offsets.device)
        return every_row.repeat_interleave(self.offsets.diff(), output_size=len(self.columns))

    @cached_property
    def _by_column(self) -> tuple[Pattern, Tensor]:
        columns, order = self.columns.sort(stable=True)
        transposed = Pattern.of_sorted_entries(
            columns, self.rows[order], self.n_columns, self.n_rows
        )
        return transposed, order

    @property
    def transposed(self) -> Pattern:
        """The (n_columns, n_rows) pattern; its i-th entry is this one's entry `order[i]`."""
        return self._by_column[0]

    @property
    def order(self) -> Tensor:
        """Where the transposed pattern's entries stand in this one, (nnz,)."""
        return self._by_column[1]

    def column_sums(self, values: Tensor) -> Tensor:
        """Σ values[e] over the entries e of each column, (n_columns,), from values (nnz,).

        Added up in float32 at least, and in a fixed order on every device: a bfloat16 sum stops
        growing at 256 times its terms.
        """
        wide = values[self.order].to(torch.promote_types(values.dtype, torch.float32))
        return torch.segment_reduce(wide, "sum", offsets=self.transposed.offsets)

    def coo(self, values: Tensor) -> Tensor:
        """A torch sparse COO tensor (n_rows, n_columns) of values (nnz,)."""
        return torch.sparse_coo_tensor(
            torch.stack([self.rows, self.columns]),
            values,
            (self.n_rows, self.n_columns),
            check_invariants=False,
            is_coalesced=True,
        )
