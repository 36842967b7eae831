"""Places of a sparse matrix, and of its transpose."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from wsae_plugin.kernels.pattern import Pattern


def test_by_hand() -> None:
    pattern = Pattern.of_latents(torch.tensor([[3, 0], [1, 3]]), n_columns=5)
    assert pattern.rows.tolist() == [0, 0, 1, 1]
    assert pattern.columns.tolist() == [0, 3, 1, 3]
    transposed = pattern.transposed
    assert transposed.offsets.tolist() == [0, 1, 2, 2, 4, 4]
    assert transposed.columns.tolist() == [0, 1, 0, 1]
    assert pattern.order.tolist() == [0, 2, 1, 3]


def test_entries_of_the_transpose_ascend() -> None:
    # More than a sort that is not stable happens to leave in order.
    mask = torch.rand(60, 5, generator=torch.Generator().manual_seed(0)) < 0.5
    transposed = Pattern.of_sorted_entries(*mask.nonzero(as_tuple=True), 60, 5).transposed
    assert torch.equal(torch.stack([transposed.rows, transposed.columns], dim=1), mask.T.nonzero())


def test_rows_without_entries() -> None:
    pattern = Pattern.of_sorted_entries(torch.tensor([1, 1, 3]), torch.tensor([0, 2, 1]), 5, 3)
    assert pattern.offsets.tolist() == [0, 0, 2, 2, 3, 3]
    assert pattern.rows.tolist() == [1, 1, 3]


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9))
def test_transposed_and_coo_are_the_same_matrix(seed: int, n_rows: int, n_columns: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(n_rows, n_columns, generator=generator) < 0.4
    rows, columns = mask.nonzero(as_tuple=True)
    values = torch.randn(len(rows), generator=generator)
    dense = torch.zeros(n_rows, n_columns).index_put((rows, columns), values)
    pattern = Pattern.of_sorted_entries(rows, columns, n_rows, n_columns)
    assert torch.equal(pattern.rows, rows)
    coo = pattern.coo(values)
    assert coo.is_coalesced() and torch.equal(coo.to_dense(), dense)
    assert torch.equal(coo.indices(), coo.clone().coalesce().indices())
    assert torch.equal(pattern.transposed.coo(values[pattern.order]).to_dense(), dense.T)
    torch.testing.assert_close(pattern.column_sums(values), dense.sum(0))


def test_column_sums_of_bfloat16_are_added_up_in_float32() -> None:
    pattern = Pattern.of_latents(torch.tensor([[0]] * 1000), n_columns=3)
    sums = pattern.column_sums(torch.ones(1000, dtype=torch.bfloat16))
    assert sums.dtype == torch.float32 and sums.tolist() == [1000, 0, 0]
