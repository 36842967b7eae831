"""The processor's products against their dense definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wsae_plugin.kernels import buffers
from wsae_plugin.kernels.cpu import CPUBackend
from wsae_plugin.kernels.pattern import Pattern
from wsae_plugin.kernels.reference import ReferenceBackend

cpu, reference = CPUBackend(), ReferenceBackend()


def some_pattern(
    n_rows: int, n_columns: int, share: float, generator: torch.Generator
) -> tuple[Pattern, torch.Tensor]:
    mask = torch.rand(n_rows, n_columns, generator=generator) < share
    mask[:, :1] = True  # a latent that is active in every row
    rows, columns = mask.nonzero(as_tuple=True)
    values = torch.randn(len(rows), generator=generator, dtype=torch.float64)
    return Pattern.of_sorted_entries(rows, columns, n_rows, n_columns), values


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 20), st.integers(1, 40))
def test_products(seed: int, n_rows: int, n_columns: int, d: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    pattern, values = some_pattern(n_rows, n_columns, 0.3, generator)
    left = torch.randn(n_rows, d, generator=generator, dtype=torch.float64)
    right = torch.randn(n_columns, d, generator=generator, dtype=torch.float64)
    by_column = values[pattern.order]
    for product, expected in (
        (cpu.spmm(pattern, values, right), reference.spmm(pattern, values, right)),
        (
            cpu.spmm(pattern.transposed, by_column, left),
            reference.spmm(pattern.transposed, by_column, left),
        ),
        (cpu.sddmm(pattern, left, right), reference.sddmm(pattern, left, right)),
    ):
        torch.testing.assert_close(product, expected, rtol=1e-12, atol=1e-12)


def test_large_products_of_16_bit_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """MKL has no sparse product for them."""
    monkeypatch.setattr(buffers, "_LEAST_BYTES", 1)
    pattern, values = some_pattern(50, 30, 0.1, torch.Generator().manual_seed(0))
    dense = torch.randn(30, 16, dtype=torch.bfloat16)
    product = cpu.spmm(pattern, values, dense)
    torch.testing.assert_close(product, reference.spmm(pattern, values, dense))


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="needs MKL's sparse product")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_products_use_memory_again(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(buffers, "_LEAST_BYTES", 1)
    monkeypatch.setattr(buffers, "_free", {})
    pattern, values = some_pattern(50, 30, 0.1, torch.Generator().manual_seed(0))
    dense = torch.randn(30, 16, dtype=dtype)
    used = buffers.take((50, 16), dtype, dense.device).fill_(torch.nan)
    place = used.data_ptr()
    del used
    product = cpu.spmm(pattern, values, dense)
    assert product.data_ptr() == place
    torch.testing.assert_close(product, reference.spmm(pattern, values, dense))
