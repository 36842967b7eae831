"""The latents chosen without the dense matrix are those of the dense matrix."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wsae_plugin.kernels import blocks, selection
from wsae_plugin.kernels import screen as screening
from wsae_plugin.kernels.cpu import CPUBackend
from wsae_plugin.kernels.encoder import Encoder
from wsae_plugin.kernels.screen import screen
from wsae_plugin.kernels.selection import Product, batch_top_k, top_k

BACKEND = CPUBackend()
every_product = pytest.mark.parametrize("product", ["exact", "screened"])


def world(
    seed: int, n: int = 40, d_in: int = 24, d_sae: int = 200, scaled: bool = True
) -> tuple[Tensor, Encoder]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d_in, generator=generator)
    weight = torch.randn(d_sae, d_in, generator=generator)
    bias = torch.randn(d_sae, generator=generator)
    scale = torch.rand(d_sae, generator=generator) + 0.5 if scaled else None
    return x, Encoder(weight, bias, scale)


def dense_scores(x: Tensor, encoder: Encoder, dtype: torch.dtype = torch.float32) -> Tensor:
    scores = x.to(dtype) @ encoder.weight.to(dtype).T + encoder.bias.to(dtype)
    return scores if encoder.scale is None else scores * encoder.scale.to(dtype)


def active(x: Tensor, encoder: Encoder, k: int, product: Product) -> Tensor:
    pattern = top_k(x, encoder, k, BACKEND, product)
    return pattern.columns.view(len(x), k)


@every_product
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("k", [1, 7, 100, 200])
def test_top_k_is_that_of_the_dense_matrix(product: Product, scaled: bool, k: int) -> None:
    x, encoder = world(0, scaled=scaled)
    expected = dense_scores(x, encoder, torch.float64).topk(k).indices.sort().values
    assert torch.equal(active(x, encoder, k, product), expected)


@every_product
@pytest.mark.parametrize("k", [0.5, 1.0, 7.3, 60.0])
def test_batch_top_k_is_that_of_the_dense_matrix(product: Product, k: float) -> None:
    x, encoder = world(1)
    x[3] *= 100  # a row that takes more than its share
    total = int(k * len(x))
    scores = dense_scores(x, encoder, torch.float64).relu()
    chosen = torch.zeros_like(scores, dtype=torch.bool).flatten()
    chosen[scores.flatten().topk(total).indices] = True
    expected = (chosen.view_as(scores) & (scores > 0)).nonzero()
    pattern = batch_top_k(x, encoder, total, BACKEND, product)
    assert torch.equal(torch.stack([pattern.rows, pattern.columns], dim=1), expected)


@every_product
def test_batch_top_k_with_fewer_positive_scores_than_asked_for(product: Product) -> None:
    x, encoder = world(2)
    encoder = Encoder(encoder.weight, encoder.bias - 12, encoder.scale)
    positive = dense_scores(x, encoder) > 0
    assert 0 < positive.sum() < 400
    pattern = batch_top_k(x, encoder, 400, BACKEND, product)
    assert torch.equal(torch.stack([pattern.rows, pattern.columns], dim=1), positive.nonzero())


@every_product
def test_the_latent_at_the_boundary_is_kept_though_products_round_differently(
    product: Product,
) -> None:
    # One row takes most of the batch's latents, so that it is computed once more.
    for seed in range(50):
        x, encoder = world(seed, n=4, d_in=300, d_sae=60)
        x[0] *= 3
        scores = dense_scores(x, encoder, torch.float64)
        pattern = batch_top_k(x, encoder, 4, BACKEND, product)
        chosen = scores[pattern.rows, pattern.columns].sort().values
        torch.testing.assert_close(
            chosen, scores.flatten().topk(4).values.sort().values, rtol=1e-5, atol=0
        )


@every_product
def test_batch_top_k_of_nothing(product: Product) -> None:
    pattern = batch_top_k(*world(1), 0, BACKEND, product)
    assert (pattern.n_rows, pattern.n_columns, len(pattern.columns)) == (40, 200, 0)


def test_rows_are_computed_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, encoder = world(3, n=130)
    whole = active(x, encoder, 5, "exact")
    monkeypatch.setattr(blocks, "_ELEMENTS_A_BLOCK", 1)
    sizes = [len(block) for _, block in blocks.row_blocks(x, encoder.weight)]
    assert sizes == [64, 64, 2]
    assert torch.equal(active(x, encoder, 5, "exact"), whole)
    assert torch.equal(active(x, encoder, 5, "screened"), whole)


def test_a_batch_of_nothing() -> None:
    x, encoder = world(4)
    assert len(top_k(x[:0], encoder, 3, BACKEND, "exact").columns) == 0


# --- the screen ----------------------------------------------------------------------------------


def spread(generator: torch.Generator, shape: tuple[int, ...], decades: float) -> Tensor:
    """Numbers of both signs whose magnitudes differ by orders of magnitude."""
    exponents = (torch.rand(shape, generator=generator) - 0.5) * 2 * decades
    return torch.randn(shape, generator=generator) * 10**exponents


@settings(max_examples=200)
@given(
    seed=st.integers(0, 2**32 - 1),
    d_in=st.integers(1, 70),
    decades=st.floats(0, 6),
    offset=st.floats(-100, 100),
)
def test_no_other_latent_exceeds_the_ceiling(
    seed: int, d_in: int, decades: float, offset: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = spread(generator, (10, d_in), decades) + offset
    encoder = Encoder(
        spread(generator, (60, d_in), decades),
        spread(generator, (60,), decades),
        spread(generator, (60,), 1).abs(),
    )
    candidates, ceiling = screen(x, encoder, 8, BACKEND)
    others = dense_scores(x, encoder, torch.float64).scatter(1, candidates, -torch.inf)
    assert (others <= ceiling[:, None]).all()
    in_float32 = dense_scores(x, encoder).scatter(1, candidates, -torch.inf)
    assert (in_float32 <= ceiling[:, None]).all()


@pytest.mark.parametrize("size", [1.0, 1e-15, 1e-20, 1e-23, 1e-26, 1e-30, 1e-38, 1e-41])
@pytest.mark.parametrize("seed", range(5))
def test_the_ceiling_holds_where_squares_underflow(size: float, seed: int) -> None:
    # Latents that bfloat16 cannot tell apart, whose common part is orthogonal to the activations:
    # what decides is all in the parts of the bound that are made of norms.
    x, encoder = world(seed, n=6, d_sae=300, scaled=False)
    common = encoder.weight[0]
    x = x - (x @ common / common.square().sum())[:, None] * common
    encoder = Encoder(common + 1e-4 * encoder.weight, encoder.bias * 0)
    for inputs, latents in ((x * size, encoder), (x, Encoder(encoder.weight * size, encoder.bias))):
        candidates, ceiling = screen(inputs, latents, 3, BACKEND)
        scores = dense_scores(inputs, latents, torch.float64)
        others = scores.scatter(1, candidates, -torch.inf)
        assert (others <= ceiling[:, None]).all()


def test_the_bounding_vectors_keep_the_reserve_that_they_promise() -> None:
    x, encoder = world(8, n=30, d_in=59, d_sae=80)
    bounding_x = screening._bounding_rows(x).double()
    bounding_weight = screening._bounding_weight(encoder).double()
    x, scale = x.double(), encoder.scale.double()[:, None]  # type: ignore[union-attr]
    weight, bias = encoder.weight.double() * scale, encoder.bias.double() * scale[:, 0]
    # Every sum of so many float32 terms, in any order, is within this share of its terms.
    accumulation = 2.0**-21 * 64
    lost_x = (x - bounding_x[:, :59]).norm(dim=1) + accumulation * x.norm(dim=1)
    lost_weight = (weight - bounding_weight[:, :59]).norm(dim=1)
    products = [
        (bounding_x[:, 62], lost_x),
        (bounding_x[:, 63], bounding_x[:, :59].norm(dim=1)),
        (bounding_weight[:, 62], weight.norm(dim=1)),
        (bounding_weight[:, 63], lost_weight),
        (bounding_weight[:, 61], bias.abs() * (accumulation + 2.0**-16)),
    ]
    for kept, needed in products:
        # Above what is needed after rounding to bfloat16, and no more than two roundings above.
        assert (kept >= needed * (1 + 2.0**-9)).all() and (kept <= needed * (1 + 2.0**-6)).all()
    assert (bounding_x[:, 59:62] == 1).all()
    bias_parts = bounding_weight[:, 59:61].sum(dim=1)
    assert ((bias_parts - bias).abs() <= bias.abs() * 2.0**-16).all()
    assert (bounding_x[:, 64:] == 0).all() and (bounding_weight[:, 64:] == 0).all()


def test_the_ceiling_is_above_the_rounding_of_the_product() -> None:
    x, encoder = world(9)
    lowest: list[Tensor] = []

    class Watching(CPUBackend):
        def row_top_k(self, scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
            bounds, latents = super().row_top_k(scores, k)
            lowest.append(bounds.amin(dim=-1).double())
            return bounds, latents

    for inputs in (x, x * 0):
        _, ceiling = screen(inputs, Encoder(encoder.weight, encoder.bias), 7, Watching())
        bound = lowest.pop()
        # bfloat16 has 8 bits: what was rounded to `bound` may have been half a unit above it.
        assert (ceiling >= bound + bound.abs() * 2.0**-8 * (1 - 1e-6)).all()
        assert (ceiling > bound).all()


@pytest.mark.parametrize("before", [(True, True), (False, True), (False, False)])
def test_the_setting_for_reduced_precision_is_put_back(before: tuple[bool, bool]) -> None:
    matmul = torch.backends.cuda.matmul
    name = "allow_bf16_reduced_precision_reduction"

    def setting() -> tuple[bool, bool]:
        return getattr(matmul, name), getattr(matmul, f"{name}_split_k")

    at_start = setting()
    try:
        setattr(matmul, name, before)
        with pytest.raises(KeyError), screening._float32_accumulation(torch.device("cuda")):
            assert setting() == (False, before[1])
            raise KeyError
        assert setting() == before
    finally:
        setattr(matmul, name, at_start)


@pytest.mark.parametrize("before", [True, False])
def test_an_older_torch_has_one_setting_for_reduced_precision(
    before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    matmul = SimpleNamespace(allow_bf16_reduced_precision_reduction=before)
    monkeypatch.setattr(torch.backends.cuda, "matmul", matmul)
    with screening._float32_accumulation(torch.device("cuda")):
        assert matmul.allow_bf16_reduced_precision_reduction is False
    assert vars(matmul) == {"allow_bf16_reduced_precision_reduction": before}


@settings(max_examples=100)
@given(seed=st.integers(0, 2**32 - 1), decades=st.floats(0, 4), k=st.integers(1, 12))
def test_screened_top_k_scores_as_high_as_the_dense_one(seed: int, decades: float, k: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = spread(generator, (10, 20), decades)
    encoder = Encoder(spread(generator, (60, 20), decades), spread(generator, (60,), decades))
    scores = dense_scores(x, encoder, torch.float64)
    chosen = scores.gather(1, active(x, encoder, k, "screened")).sort().values
    best = scores.topk(k).values.sort().values
    rounding = 1e-5 * (x.norm(dim=1, keepdim=True) * encoder.weight.norm(dim=1).max())
    assert ((best - chosen).abs() <= rounding + 1e-5 * encoder.bias.abs().max()).all()


def nearly_equal_latents(x: Tensor, encoder: Encoder) -> tuple[Tensor, Encoder]:
    # Differences far below what bfloat16 can tell.
    weight = encoder.weight[:1] * (1 + 1e-5 * torch.arange(encoder.d_sae)[:, None])
    return x, Encoder(weight, torch.zeros(encoder.d_sae))


def equal_latents(x: Tensor, encoder: Encoder) -> tuple[Tensor, Encoder]:
    return x, Encoder(encoder.weight[:1].expand_as(encoder.weight).contiguous(), encoder.bias * 0)


def not_finite(x: Tensor, encoder: Encoder) -> tuple[Tensor, Encoder]:
    x = x.clone()
    x[0, 0], x[1, 0], x[2, 0] = torch.nan, torch.inf, 3e38
    return x, encoder


def nothing(x: Tensor, encoder: Encoder) -> tuple[Tensor, Encoder]:
    return x * 0, Encoder(encoder.weight, encoder.bias * 0, encoder.scale)


@pytest.mark.parametrize("hard", [nearly_equal_latents, equal_latents, not_finite, nothing])
def test_rows_that_cannot_be_screened_are_computed_whole(
    hard: Callable[[Tensor, Encoder], tuple[Tensor, Encoder]], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, encoder = hard(*world(5))
    computed: list[int] = []
    dense_top_k = selection._dense_top_k

    def counting(x: Tensor, *args: object) -> tuple[Tensor, Tensor]:
        computed.append(len(x))
        return dense_top_k(x, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(selection, "_dense_top_k", counting)
    chosen = active(x, encoder, 6, "screened")
    assert computed and computed[0] >= 3
    scores = dense_scores(x, encoder)
    torch.testing.assert_close(
        scores.gather(1, chosen).sort().values,
        scores.topk(6).values.sort().values,
        equal_nan=True,
        rtol=1e-5,
        atol=1e-6,
    )


def test_screening_is_rarely_in_doubt_on_gaussian_activations() -> None:
    x, encoder = world(6, n=256, d_in=256, d_sae=4096)
    k = 16
    candidates, ceiling = screen(x, encoder, 2 * k, BACKEND)
    kth = dense_scores(x, encoder).topk(k).values.amin(dim=1)
    assert (ceiling < kth).float().mean() > 0.98


def test_bfloat16_chooses_from_the_bfloat16_product() -> None:
    x, encoder = world(7)
    both = Encoder(encoder.weight * encoder.scale[:, None], encoder.bias * encoder.scale)  # type: ignore[index]
    expected = x.bfloat16() @ both.weight.bfloat16().T + both.bias.bfloat16()
    chosen = active(x, encoder, 7, "bfloat16")
    kth = expected.topk(7).values.amin(dim=1, keepdim=True)
    assert (expected.gather(1, chosen) >= kth).all()
