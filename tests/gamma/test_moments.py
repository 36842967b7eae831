from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from wsae_plugin.errors import RunFailedError
from wsae_plugin.gamma import moments
from wsae_plugin.gamma.moments import Moments, merge, moments_of, no_samples


def skewed_sample(n: int, d: int, seed: int, offset: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64).exp()
    return offset + x * torch.logspace(-2, 2, d, dtype=torch.float64)


def test_four_numbers_worked_by_hand() -> None:
    # 0, 0, 2, 6: mean 2; centred -2, -2, 0, 4; squares 4, 4, 0, 16; cubes -8, -8, 0, 64;
    # fourth powers 16, 16, 0, 256.
    found = moments_of(torch.tensor([[0.0], [0.0], [2.0], [6.0]]))
    assert [float(m) for m in found] == [4, 2, 24, 48, 288]
    assert float(found.variance) == 6
    assert float(found.excess_kurtosis) == 4 * 288 / 24**2 - 3


def test_the_excess_kurtosis_of_a_constant_is_0() -> None:
    # Beside it ±½, of fourth moment 1/16 and variance 1/4, so that Σ(x − mean)² is 1.
    x = torch.tensor([[7.0, 0.5], [7.0, -0.5], [7.0, 0.5], [7.0, -0.5]])
    assert moments_of(x).excess_kurtosis.tolist() == [0, -2]


def test_variance_and_kurtosis_are_scipys() -> None:
    x = skewed_sample(5000, 7, seed=0, offset=3.0)
    found = moments_of(x)
    np.testing.assert_allclose(found.variance, np.var(x.numpy(), axis=0), rtol=1e-12)
    np.testing.assert_allclose(
        found.excess_kurtosis, stats.kurtosis(x.numpy(), axis=0), rtol=1e-11, atol=1e-11
    )


@settings(max_examples=60)
@given(
    cuts=st.lists(st.integers(1, 299), max_size=12, unique=True),
    seed=st.integers(0, 2**31),
    offset=st.sampled_from([0.0, 1.0, -300.0]),
)
def test_any_split_into_batches_gives_the_same(cuts: list[int], seed: int, offset: float) -> None:
    x = skewed_sample(300, 5, seed, offset)
    whole = moments_of(x)
    parts = [moments_of(part) for part in x.tensor_split(sorted(cuts))]
    for streamed, expected in zip(reduce(merge, parts), whole, strict=True):
        torch.testing.assert_close(streamed, expected, rtol=1e-10, atol=0)


@given(seed=st.integers(0, 2**31))
@settings(max_examples=30)
def test_merge_does_not_depend_on_the_order(seed: int) -> None:
    a, b, c = (moments_of(part) for part in skewed_sample(90, 4, seed, 5.0).split([10, 50, 30]))
    for left, right in zip(merge(merge(a, b), c), merge(b, merge(c, a)), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


def test_no_samples_is_neutral() -> None:
    alone = moments_of(skewed_sample(20, 3, 0, 0.0))
    for merged in (merge(alone, no_samples(3)), merge(no_samples(3), alone)):
        assert all(torch.equal(m, e) for m, e in zip(merged, alone, strict=True))
    assert torch.equal(merge(no_samples(3), no_samples(3)).variance, torch.zeros(3).double())


@pytest.mark.parametrize(("n", "d", "largest"), [(64, 6, 30), (8, 20, 60), (8, 20, 15)])
def test_wide_batches_are_taken_in_pieces(
    n: int, d: int, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = skewed_sample(n, d, 0, 1.0)
    whole = moments_of(x)
    sizes: list[int] = []

    def counted(rows: torch.Tensor) -> Moments:
        sizes.append(rows.numel())
        return moments_of_rows(rows)

    moments_of_rows = moments._moments_of_rows
    monkeypatch.setattr(moments, "_moments_of_rows", counted)
    monkeypatch.setattr(moments, "_ELEMENTS_AT_A_TIME", largest)
    for pieces, expected in zip(moments_of(x), whole, strict=True):
        torch.testing.assert_close(pieces, expected, rtol=1e-12, atol=0)
    assert max(sizes) == max(largest // d, 1) * d


def test_scaled_is_the_moments_of_the_scaled_sample() -> None:
    x = skewed_sample(50, 4, 0, 2.0)
    factor = torch.tensor([0.5, -2.0, 3.0, 1.0], dtype=torch.float64)
    for scaled, expected in zip(moments_of(x).scaled(factor), moments_of(x * factor), strict=True):
        torch.testing.assert_close(scaled, expected, rtol=1e-10, atol=1e-12)


def test_float32_input_with_a_large_mean_keeps_its_digits() -> None:
    generator = torch.Generator().manual_seed(0)
    x = 1000 + torch.randn(4000, 1, generator=generator)
    expected = np.var(x.double().numpy())
    assert float(moments_of(x).variance) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_not_finite_is_named(bad: float, dtype: torch.dtype) -> None:
    x = torch.randn(10, 6).to(dtype)
    x[3, 4] = bad
    x[7, 5] = bad
    with pytest.raises(RunFailedError, match=r"batch 17 has 1 of 10 values .* in dimension 4"):
        moments_of(x, batch_index=17)
    with pytest.raises(RunFailedError, match="batch 0 has"):
        moments_of(x)
