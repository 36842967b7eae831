from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from wsae_plugin import gamma_from_proxy
from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma import (
    constant,
    effective_dimensions,
    max_over_median,
    shuffled,
)
from wsae_plugin.gamma.weights import NORMALIZATIONS

proxies = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)
alphas = st.floats(-2, 2).filter(lambda a: abs(a) > 1e-3 or a == 0)


def test_the_papers_literal_form() -> None:
    s = torch.tensor([1.0, 4.0, 9.0])
    assert gamma_from_proxy(s, 0.5, normalization="none").tolist() == [1, 2, 3]
    assert gamma_from_proxy(s, -1, normalization="none").tolist() == pytest.approx(
        [1, 1 / 4, 1 / 9]
    )


def test_mean_square_worked_by_hand() -> None:
    # γ = 1, 2, 3 → γ² = 1, 4, 9, mean 14/3.
    gamma = gamma_from_proxy(torch.tensor([1.0, 4.0, 9.0]).double(), 0.5, "mean_square")
    assert gamma.square().tolist() == pytest.approx([3 / 14, 12 / 14, 27 / 14])


def test_total_variance_worked_by_hand() -> None:
    # γ = 1, 2, 3 with variances 3, 1, 1: Σγ²·Var = 3 + 4 + 9 = 16 and ΣVar = 5.
    s, variance = torch.tensor([1.0, 4.0, 9.0]).double(), torch.tensor([3.0, 1.0, 1.0]).double()
    gamma = gamma_from_proxy(s, 0.5, variance=variance)
    assert gamma.square().tolist() == pytest.approx([5 / 16, 20 / 16, 45 / 16])


@given(
    pairs=st.lists(
        st.tuples(st.floats(1e-6, 1e6), st.just(0.0) | st.floats(1e-6, 1e6)),
        min_size=1,
        max_size=40,
    ),
    alpha=alphas,
    clip=st.one_of(st.none(), st.floats(1, 100)),
    seed=st.integers(0, 2**32),
)
def test_whatever_the_proxy_and_alpha_predicting_the_mean_costs_the_same(
    pairs: list[tuple[float, float]], alpha: float, clip: float | None, seed: int
) -> None:
    s, variance = torch.tensor(pairs, dtype=torch.float64).T
    assume(variance.any())
    generator = torch.Generator().manual_seed(seed)
    controls = ((s, alpha), (s, -alpha), (shuffled(s, generator), alpha))
    for proxy, exponent in controls:
        gamma = gamma_from_proxy(proxy, exponent, clip=clip, variance=variance)
        cost = (gamma.square() * variance).sum()
        torch.testing.assert_close(cost, variance.sum(), rtol=1e-9, atol=0)
    ones = gamma_from_proxy(5 * torch.ones_like(s), 1.0, variance=variance)
    torch.testing.assert_close(ones, torch.ones_like(s), rtol=1e-12, atol=0)  # Γ = cI is Γ = I


def test_max_worked_by_hand() -> None:
    gamma = gamma_from_proxy(torch.tensor([1.0, 4.0, 16.0]), 1.0, normalization="max")
    assert gamma.tolist() == [1 / 16, 1 / 4, 1]


def test_clip_limits_the_ratio_to_the_median() -> None:
    s = torch.tensor([1.0, 2.0, 3.0, 4.0, 100.0])
    assert gamma_from_proxy(s, 1.0, "none", clip=2).tolist() == [1, 2, 3, 4, 6]
    for normalization in ("total_variance", "mean_square"):
        gammas = [gamma_from_proxy(s, 1.0, normalization, clip, s) for clip in (2, 1000, None)]
        assert float(max_over_median(gammas[0])) == pytest.approx(2)
        assert gammas[1].tolist() == gammas[2].tolist()


def test_controls_worked_by_hand() -> None:
    gamma = torch.tensor([1.0, 7.0]).double()  # mean γ² is 25
    assert constant(gamma).tolist() == [5, 5]
    # The opposite sign: 1/γ is 1 and 1/7, as 7 is to 1, with a mean square of 25 again.
    assert (5 * gamma_from_proxy(gamma, -1.0, "mean_square")).tolist() == pytest.approx([7, 1])
    assert gamma_from_proxy(gamma, 1.0, "constant").tolist() == [5, 5]
    assert gamma_from_proxy(gamma.square(), 0.5, "constant").tolist() == [5, 5]


@given(s=proxies, alpha=alphas, seed=st.integers(0, 2**32))
def test_controls_keep_the_mean_square(s: torch.Tensor, alpha: float, seed: int) -> None:
    gamma = gamma_from_proxy(s, alpha, "mean_square")
    generator = torch.Generator().manual_seed(seed)
    permuted = shuffled(gamma, generator)
    assert torch.equal(permuted.sort().values, gamma.sort().values)
    for control in (permuted, gamma_from_proxy(s, -alpha, "mean_square"), constant(gamma)):
        assert float(control.square().mean()) == pytest.approx(1)
    inverse = gamma * gamma_from_proxy(s, -alpha, "mean_square")
    torch.testing.assert_close(inverse, inverse[:1].expand_as(inverse))
    torch.testing.assert_close(constant(gamma), torch.ones_like(gamma))


@pytest.mark.parametrize("alpha", [1.0, -1.0])
def test_a_dead_dimension_gets_the_smallest_live_proxy(alpha: float) -> None:
    gamma = gamma_from_proxy(torch.tensor([0.0, 1e-20, 4.0, 16.0]).double(), alpha, "none")
    assert gamma.tolist() == pytest.approx([4**alpha, 4**alpha, 4**alpha, 16**alpha])


@given(s=proxies, normalization=st.sampled_from(NORMALIZATIONS))
def test_alpha_zero_is_ones_exactly(s: torch.Tensor, normalization: str) -> None:
    ones = gamma_from_proxy(s, 0.0, normalization, variance=s)  # type: ignore[arg-type]
    assert torch.equal(ones, torch.ones_like(s))


@given(s=proxies, alpha=alphas, clip=st.one_of(st.none(), st.floats(1, 100)))
def test_mean_square_is_one_and_the_order_is_the_proxys(
    s: torch.Tensor, alpha: float, clip: float | None
) -> None:
    gamma = gamma_from_proxy(s, alpha, "mean_square", clip)
    assert float(gamma.square().mean()) == pytest.approx(1)
    by_proxy = gamma[s.argsort(descending=alpha < 0)]
    assert (by_proxy.diff() >= -1e-12 * by_proxy[:-1]).all()


@given(s=proxies, alpha=alphas, scale=st.floats(1e-3, 1e3))
def test_normalized_weights_do_not_know_the_unit(
    s: torch.Tensor, alpha: float, scale: float
) -> None:
    # At the very threshold below which a dimension is dead, rounding decides.
    assume(((s / s.max() / 1e-12 - 1).abs() > 1e-3).all())
    for normalization in ("total_variance", "mean_square", "max"):
        torch.testing.assert_close(
            gamma_from_proxy(s * scale, alpha, normalization, variance=s * scale),
            gamma_from_proxy(s, alpha, normalization, variance=s),
            rtol=1e-9,
            atol=0,
        )


@given(s=proxies, alpha=alphas, seed=st.integers(0, 2**31))
def test_weights_follow_a_permutation(s: torch.Tensor, alpha: float, seed: int) -> None:
    order = torch.randperm(len(s), generator=torch.Generator().manual_seed(seed))
    permuted = gamma_from_proxy(s[order], alpha, variance=s[order])
    torch.testing.assert_close(permuted, gamma_from_proxy(s, alpha, variance=s)[order])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(proxy=torch.ones(3), alpha=float("nan")), "alpha is nan"),
        (dict(proxy=torch.ones(3), alpha=1.0), "variance is None: .* 'total_variance' needs"),
        (dict(proxy=torch.ones(3), alpha=1.0, variance=torch.ones(2)), r"the variance has shape"),
        (dict(proxy=torch.ones(3), alpha=1.0, variance=torch.zeros(3)), "variance is 0 in every"),
        (dict(proxy=torch.ones(3), alpha=1.0, clip=0.5), "gamma_clip is 0.5"),
        (dict(proxy=torch.ones(3), alpha=1.0, normalization="mean"), "gamma_normalization 'mean'"),
        (dict(proxy=torch.ones(3, 2), alpha=1.0), r"shape \(3, 2\)"),
        (dict(proxy=torch.tensor([1.0, -1.0]), alpha=1.0), "1 negative"),
        (dict(proxy=torch.tensor([1.0, float("inf")]), alpha=1.0), "1 not finite"),
        (dict(proxy=torch.zeros(3), alpha=1.0, normalization="max"), "proxy is 0 in every"),
        (
            dict(proxy=torch.tensor([1e-9, 1.0]).double(), alpha=100.0, normalization="max"),
            "overflow or vanish",
        ),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: dict, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        gamma_from_proxy(**arguments)


def test_effective_dimensions_worked_by_hand() -> None:
    ones = torch.ones(4)
    assert float(effective_dimensions(ones, ones)) == 4
    assert float(effective_dimensions(ones, torch.tensor([1.0, 0, 0, 0]))) == 1
    # shares γ²s = 4, 4, 0, 0 → (8)² / (16 + 16) = 2
    gamma, variance = torch.tensor([1.0, 2.0, 0.0, 1.0]), torch.tensor([4.0, 1.0, 5.0, 0.0])
    assert float(effective_dimensions(gamma, variance)) == 2
