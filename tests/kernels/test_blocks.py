"""The encoder's product, block by block."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from wsae_plugin.kernels import blocks


class Products(TorchDispatchMode):
    """Notes the sizes of all matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket is torch.ops.aten.mm:
            self.sizes.append((*args[0].shape, args[1].shape[1]))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("n_rows", "n_columns"), [(0, 5), (1, 1), (130, 100), (150, 1025)])
def test_blocks_are_the_product(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, n_rows: int, n_columns: int
) -> None:
    monkeypatch.setattr(blocks, "_ELEMENTS_A_BLOCK", 2**13)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n_rows, 16, generator=generator).to(dtype)
    weight = torch.randn(n_columns, 16, generator=generator).to(dtype)
    found = [(rows, product.clone()) for rows, product in blocks.row_blocks(x, weight)]
    places = [place for rows, _ in found for place in range(rows.start, rows.stop)]
    assert places == list(range(n_rows))
    assert all(product.shape == (rows.stop - rows.start, n_columns) for rows, product in found)
    product = torch.cat([x.new_empty(0, n_columns), *(product for _, product in found)])
    torch.testing.assert_close(product, x @ weight.T)


def test_16_bit_products_on_a_cpu_have_few_sizes() -> None:
    """oneDNN keeps memory for every size, and the number of dead latents differs in every step."""
    weight = torch.randn(2049, 8, dtype=torch.bfloat16)
    x = torch.randn(2049, 8, dtype=torch.bfloat16)
    with Products() as products:
        for n in range(1025, 2049, 3):
            list(blocks.row_blocks(x[:16], weight[:n]))
            list(blocks.row_blocks(x[:n], weight[:16]))
    assert len(products.sizes) > 600
    assert len(set(products.sizes)) == 16
    rows, _, columns = max(products.sizes)
    assert (rows, columns) == (2048, 16)
