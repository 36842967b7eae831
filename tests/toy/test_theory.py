from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma import moments_of
from wsae_plugin.toy.theory import (
    activation_excess_kurtosis,
    activation_variance,
    closed_form_encoder,
    distance_to_closed_form,
    effective_features,
    gap_minimising_gamma,
    gap_norm,
    inverse_participation_ratio,
    least_gap_norm,
    loss_terms,
    positive_pair_share,
    reconstruction_loss,
    sparse_uniform_moments,
    zero_loss_encoder,
)

# W_p = [[1, 0, 0], [0, 1, −1]], the papers' example.
EXAMPLE = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)

seeds = st.integers(0, 2**31)


def gaussian(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def unit_rows(seed: int, n_features: int, d_in: int) -> Tensor:
    return torch.nn.functional.normalize(gaussian(seed, n_features, d_in), dim=1)


# The loss and its terms.


def test_terms_worked_by_hand() -> None:
    # x = (0, 1, 1): x_p = 0, z = 0, e = x, so L_GT = 2, W_p e = 0 and the last term is −‖e‖² = −2.
    terms = loss_terms(EXAMPLE, EXAMPLE, torch.tensor([[0.0, 1.0, 1.0]]))
    assert (terms.ground_truth, terms.decoder_mismatch, terms.cross) == (2, 0, 0)
    assert (terms.interference, terms.gap, terms.total) == (-2, -2, 0)
    # W_m = 2W_pᵀ, x = (1, 0, 0): z = (2, 0, 0), e = (−1, 0, 0); (W_m − W_pᵀ)ᵀz = (2, 0); W_p e =
    # (−1, 0). Terms: 1, 4, −2·2·(−1) = 4, 0. Loss: ‖(1, 0) − 4(1, 0)‖² = 9.
    x = torch.tensor([[1.0, 0.0, 0.0]])
    terms = loss_terms(2 * EXAMPLE, EXAMPLE, x)
    assert (terms.ground_truth, terms.decoder_mismatch, terms.cross) == (1, 4, 4)
    assert (terms.interference, terms.total) == (0, 9)
    # γ_1² = 4 multiplies all but L_GT, whose share of the last term is −1.
    terms = loss_terms(2 * EXAMPLE, EXAMPLE, x, gamma=torch.tensor([2.0, 1.0]))
    assert (terms.decoder_mismatch, terms.cross, terms.interference) == (16, 16, 3)
    assert terms.total == 36


@given(seed=seeds, n_features=st.integers(1, 6), d_in=st.integers(1, 5), weighted=st.booleans())
def test_the_terms_sum_to_the_loss(seed: int, n_features: int, d_in: int, weighted: bool) -> None:
    encoder, vectors = gaussian(seed, 2, n_features, d_in)
    features = gaussian(seed + 1, 7, n_features).clamp(min=0)
    gamma = gaussian(seed + 2, d_in).abs() if weighted else None
    chances = gaussian(seed + 3, 7).softmax(dim=0)
    terms = loss_terms(encoder, vectors, features, gamma=gamma, probabilities=chances)
    loss = reconstruction_loss(encoder, features @ vectors, gamma=gamma, probabilities=chances)
    scale = sum(
        abs(term)
        for term in (terms.ground_truth, terms.decoder_mismatch, terms.cross, terms.interference)
    )
    assert abs(terms.total - loss) <= 1e-12 * max(1.0, scale)


def test_uniform_probabilities_are_the_mean() -> None:
    features = gaussian(0, 5, 3).clamp(min=0)
    equal = torch.full((5,), 0.2, dtype=torch.float64)
    assert reconstruction_loss(
        0.7 * EXAMPLE, features @ EXAMPLE, probabilities=equal
    ) == pytest.approx(reconstruction_loss(0.7 * EXAMPLE, features @ EXAMPLE))


def test_the_decomposition_needs_a_code_for_each_feature() -> None:
    with pytest.raises(BadInputError, match=r"encoder has shape \(4, 2\).*\(3, 2\)"):
        loss_terms(torch.zeros(4, 2), EXAMPLE, torch.zeros(1, 3))


# Encoders.


def test_closed_form_is_padded_and_at_distance_zero_in_any_order() -> None:
    encoder = closed_form_encoder(EXAMPLE, 5)
    assert encoder.shape == (5, 2)
    assert torch.equal(encoder[:3], EXAMPLE)
    assert distance_to_closed_form(encoder[[4, 2, 0, 3, 1]], EXAMPLE) == 0
    # The nearest permutation of −W_pᵀ differs in the first row alone: ‖(−1, 0) − (1, 0)‖ = 2.
    assert distance_to_closed_form(-EXAMPLE, EXAMPLE) == pytest.approx(2)
    with pytest.raises(BadInputError, match="d_sae is 2;.*3 features"):
        closed_form_encoder(EXAMPLE, 2)


@given(seed=seeds, d_in=st.integers(1, 5), spare=st.integers(0, 2))
def test_a_rotation_and_its_negative_lose_nothing(seed: int, d_in: int, spare: int) -> None:
    rotation = torch.linalg.qr(gaussian(seed, d_in, d_in)).Q
    encoder = zero_loss_encoder(rotation, 2 * d_in + spare)
    assert reconstruction_loss(encoder, gaussian(seed + 1, 9, d_in)) < 1e-24


def test_zero_loss_encoder_refuses_what_would_lose() -> None:
    with pytest.raises(BadInputError, match="d_sae is 3;.*2·d_in = 4"):
        zero_loss_encoder(torch.eye(2), 3)
    with pytest.raises(BadInputError, match="an orthogonal matrix"):
        zero_loss_encoder(2 * torch.eye(2), 4)


# Interference.


def test_positive_pairs_worked_by_hand() -> None:
    assert positive_pair_share(EXAMPLE) == 0
    # (1, 0), (1, 1), (0, 1): products 1, 0, 1.
    vectors = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    assert positive_pair_share(vectors) == pytest.approx(2 / 3)
    with pytest.raises(BadInputError, match="1 rows"):
        positive_pair_share(vectors[:1])


@given(seed=seeds, n_features=st.integers(2, 14), d_in=st.integers(1, 3))
def test_only_twice_as_many_features_as_dimensions_can_be_without_positive_pairs(
    seed: int, n_features: int, d_in: int
) -> None:
    axes = torch.cat([torch.eye(d_in), -torch.eye(d_in)])
    copies = axes[torch.arange(n_features) % (2 * d_in)]
    share, fewest = (
        positive_pair_share(gaussian(seed, n_features, d_in)),
        positive_pair_share(copies),
    )
    # Turán: copies of the axes and their opposites have as few as there can be.
    assert share >= fewest - 1e-12
    assert (fewest > 0) == (n_features > 2 * d_in)


def test_participation_worked_by_hand() -> None:
    # Columns: one feature; two equal ones; 3 and 4 → (81 + 256)/625; none.
    vectors = torch.tensor([[2.0, 1.0, 3.0, 0.0], [0.0, -1.0, 4.0, 0.0]])
    expected = [1, 1 / 2, 337 / 625, 0]
    assert inverse_participation_ratio(vectors).tolist() == pytest.approx(expected)
    assert effective_features(vectors).tolist() == pytest.approx([1, 2, 625 / 337, 0])


# Moments.


def test_sparse_uniform_moments_worked_by_hand() -> None:
    # S = 0 is the uniform distribution: variance 1/12, excess kurtosis −6/5.
    uniform = sparse_uniform_moments(0.0)
    assert (uniform.mean, uniform.variance) == pytest.approx((1 / 2, 1 / 12))
    assert uniform.excess_kurtosis == pytest.approx(-6 / 5)
    # S = 0.9: E x = .05, E x² = 1/30, so the variance is 1/30 − 1/400 = 37/1200.
    sparse = sparse_uniform_moments(0.9)
    assert sparse.variance == pytest.approx(37 / 1200)
    assert sparse.excess_kurtosis == pytest.approx(13.284, abs=1e-3)
    with pytest.raises(BadInputError, match="sparsity is 1"):
        sparse_uniform_moments(1)


def test_variance_orders_dimensions_by_crowding_and_kurtosis_against_it() -> None:
    # 10 dimensions with one feature each, 10 with 19: variances v and 19v, kurtoses κ and κ/19.
    blocks = [torch.ones(1, 1)] * 10 + [torch.ones(19, 1)] * 10
    vectors = torch.block_diag(*blocks)
    moments = sparse_uniform_moments(0.9)
    variance = activation_variance(vectors, moments.variance)
    kurtosis = activation_excess_kurtosis(vectors, moments.excess_kurtosis)
    assert variance[:10].tolist() == pytest.approx([37 / 1200] * 10)
    assert variance[10:].tolist() == pytest.approx([19 * 37 / 1200] * 10)
    assert kurtosis[:10].tolist() == pytest.approx([13.284] * 10, abs=1e-3)
    assert kurtosis[10:].tolist() == pytest.approx([13.284 / 19] * 10, abs=1e-3)


def test_closed_moments_match_samples() -> None:
    vectors, sparsity, n_samples = unit_rows(0, 6, 3), 0.7, 400_000
    generator = torch.Generator().manual_seed(1)
    size, chance = torch.rand(2, n_samples, 6, generator=generator, dtype=torch.float64)
    sample = moments_of(size * (chance >= sparsity) @ vectors)
    expected = sparse_uniform_moments(sparsity)
    variance = activation_variance(vectors, expected.variance)
    # Five standard errors: √((κ + 2)/N) of a variance; a kurtosis has about √(24/N) or more.
    bound = 5 * math.sqrt((expected.excess_kurtosis + 2) / n_samples)
    assert ((sample.variance / variance - 1).abs() < bound).all()
    kurtosis = activation_excess_kurtosis(vectors, expected.excess_kurtosis)
    assert ((sample.excess_kurtosis - kurtosis).abs() < 0.1).all()


# The gap's matrix.


def test_best_weights_of_the_example_worked_by_hand() -> None:
    # ‖diag(g_1) ⊕ g_2[[1, −1], [−1, 1]] − I‖² = (g_1 − 1)² + 2(g_2 − 1)² + 2g_2²: g = (1, 1/2).
    gamma = gap_minimising_gamma(EXAMPLE)
    assert gamma.square().tolist() == pytest.approx([1, 1 / 2])
    assert gap_norm(EXAMPLE, torch.ones(2)) == pytest.approx(2)
    assert gap_norm(EXAMPLE, gamma) == pytest.approx(1) == least_gap_norm(3, 2)


@given(seed=seeds, n_features=st.integers(1, 12), d_in=st.integers(1, 6))
def test_no_weights_have_a_smaller_gap(seed: int, n_features: int, d_in: int) -> None:
    vectors = unit_rows(seed, n_features, d_in)
    best = gap_norm(vectors, gap_minimising_gamma(vectors))
    gamma = gaussian(seed + 1, d_in)
    direct = vectors @ gamma.square().diag() @ vectors.T - torch.eye(n_features)
    assert gap_norm(vectors, gamma) == pytest.approx(float(direct.square().sum()), rel=1e-9)
    assert best <= gap_norm(vectors, gamma) + 1e-6
    assert best >= least_gap_norm(n_features, d_in) - 1e-6


def test_best_weights_ask_for_unit_norms() -> None:
    with pytest.raises(BadInputError, match="norms from 2 to 2"):
        gap_minimising_gamma(2 * EXAMPLE)
