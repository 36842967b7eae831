"""The gap between the SAE's loss and that on the features, and what Γ does to it (v1, §4, §5.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from statistics import fmean
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from wsae_plugin.gamma import gamma_from_proxy
from wsae_plugin.toy.claims.claim import Measured, Numbers
from wsae_plugin.toy.claims.search import best_encoders, superposed_features
from wsae_plugin.toy.claims.worlds import (
    DIGON,
    OBTUSE_WORLDS,
    ONE,
    PRINTED,
    PRINTED_EXACT,
    TRIANGLE,
    exact,
    exact_square,
    polygon,
    random_features,
    single_features,
    uniform_features,
)
from wsae_plugin.toy.metrics import code_sums
from wsae_plugin.toy.theory import (
    LossTerms,
    activation_excess_kurtosis,
    activation_variance,
    effective_features,
    gap_minimising_gamma,
    gap_norm,
    inverse_participation_ratio,
    least_gap_norm,
    loss_terms,
    reconstruction_loss,
    sparse_uniform_moments,
)


def with_printed_sign(terms: LossTerms) -> float:
    """The printed sum, with + 2 E zᵀ(W_m − W_pᵀ)Γ²W_p e."""
    return terms.ground_truth + terms.decoder_mismatch - terms.cross + terms.interference


def corrected(terms: LossTerms) -> float:
    """The sum with the cross term's sign mended."""
    return terms.total


def sum_of_terms(total: Callable[[LossTerms], float], *, weighted: bool) -> Numbers:
    """max |L − sum of the terms| / L over ten random W_m, W_p, Γ and 500 samples of x each."""
    errors: list[float] = []
    errors_at_closed_form: list[float] = []
    gamma = 1.0 + torch.arange(4) if weighted else None
    for seed in range(10):
        vectors = 1.3 * random_features(7, 4, seed)
        features = uniform_features(7, 0.5, 500, seed)
        for encoder, found in (
            (random_features(7, 4, seed + 100), errors),
            (vectors, errors_at_closed_form),
        ):
            loss = reconstruction_loss(encoder, features @ vectors, gamma=gamma)
            terms = loss_terms(encoder, vectors, features, gamma=gamma)
            found.append(abs(total(terms) - loss) / loss)
    return {"error": max(errors), "error_at_closed_form": max(errors_at_closed_form)}


def v1_theorem_3() -> Measured:
    """Theorem 3 of the first version: the loss taken apart."""
    return {
        "printed": sum_of_terms(with_printed_sign, weighted=False),
        "correction": sum_of_terms(corrected, weighted=False),
    }


def v1_theorem_4() -> Measured:
    """Theorem 4 of the first version: the weighted loss taken apart."""
    vectors, features = random_features(7, 4, seed=0), uniform_features(7, 0.5, 500, seed=0)
    terms = loss_terms(vectors, vectors, features, gamma=1.0 + torch.arange(4))
    mismatch = abs(terms.decoder_mismatch) + abs(terms.cross)
    return {
        "printed": sum_of_terms(with_printed_sign, weighted=True),
        "correction": {
            **sum_of_terms(corrected, weighted=True),
            "mismatch_at_closed_form": mismatch,
        },
    }


def limit_terms(feature_vectors: Tensor) -> LossTerms:
    """The terms at W_m = W_pᵀ in the limit S → 1, as means over x = e_1, …, e_n."""
    return loss_terms(feature_vectors, feature_vectors, single_features(feature_vectors))


def limit_gap(feature_vectors: Tensor) -> float:
    """|Σ_u of the gap at x = e_u|, at W_m = W_pᵀ."""
    return abs(limit_terms(feature_vectors).gap) * len(feature_vectors)


def v1_gap_at_the_limit() -> Measured:
    """§4.1, after Theorem 3."""
    return {
        "printed": {"gap_crowded": limit_gap(superposed_features(3, 1))},
        "condition": {
            "gap": max(limit_gap(world) for world in OBTUSE_WORLDS),
            "gap_learned": limit_gap(superposed_features(4, 2)),
        },
    }


def least_gap(feature_vectors: Tensor) -> float:
    """min over Γ of ‖W_pᵀΓ²W_p − I‖_F²."""
    return gap_norm(feature_vectors, gap_minimising_gamma(feature_vectors))


def v1_gap_matrix() -> Measured:
    """§4.2: the Γ for which the last term is 0."""
    worlds = [PRINTED, TRIANGLE, polygon(5), *(random_features(12, 4, seed) for seed in range(5))]
    return {
        "printed": {"least_gap": min(least_gap(world) for world in worlds)},
        "correction": {
            "surplus": min(least_gap(world) - least_gap_norm(*world.shape) for world in worlds)
        },
    }


def gap_terms(feature_vectors: Tensor, gamma: Tensor | None = None) -> LossTerms:
    """The terms at W_m = W_pᵀ over 5,000 samples, S = 0.5."""
    features = uniform_features(len(feature_vectors), 0.5, 5_000, seed=0)
    return loss_terms(feature_vectors, feature_vectors, features, gamma=gamma)


def last_term(feature_vectors: Tensor, gamma: Tensor | None = None) -> float:
    """|E eᵀ(W_pᵀΓ²W_p − I)e| there."""
    return abs(gap_terms(feature_vectors, gamma).interference)


def closing_gamma(feature_vectors: Tensor) -> Tensor:
    """The Γ = cI, c > 0, that makes the last term 0 there; γ, shape (d_in,)."""
    terms = gap_terms(feature_vectors)
    scale = (terms.ground_truth / (terms.ground_truth + terms.interference)) ** 0.5
    return torch.full(feature_vectors.shape[1:], scale, dtype=torch.float64)


def random_gamma(d_in: int, seed: int) -> Tensor:
    """γ, uniform on [0.1, 1.1], shape (d_in,)."""
    return 0.1 + torch.rand(d_in, generator=torch.Generator().manual_seed(seed)).double()


def share_widened(n_features: int, d_in: int) -> float:
    """The share of 30 random worlds in which Γ* makes |the last term| larger than Γ = I does."""
    worlds = [random_features(n_features, d_in, seed) for seed in range(30)]
    widened = [last_term(world, gap_minimising_gamma(world)) > last_term(world) for world in worlds]
    return sum(widened) / len(widened)


def v1_gap_narrowed() -> Measured:
    """§4.2: a Γ that narrows the last term."""
    candidates = [gap_minimising_gamma(PRINTED), *(random_gamma(2, seed) for seed in range(20))]
    before = last_term(PRINTED)
    return {
        "printed": {
            "narrowed": max(before - last_term(PRINTED, gamma) for gamma in candidates),
            "before": before,
            "norm_narrowed": gap_norm(PRINTED, torch.ones(2)) - least_gap(PRINTED),
        },
        "condition": {
            "uniform": last_term(TRIANGLE, closing_gamma(TRIANGLE)),
            "uniform_before": last_term(TRIANGLE),
            "share_widened_3_2": share_widened(3, 2),
            "share_widened_40_10": share_widened(40, 10),
        },
    }


def best_aligned_error(
    feature_vectors: Tensor, gamma: Tensor | None, sparsity: float, seed: int
) -> float:
    """L_GT / E‖x‖² of the best W_m found for L_WSAE on 1,000 samples, n_m = n, latents in order.

    Measured on 20,000 other samples.
    """
    n_features = len(feature_vectors)
    inputs = uniform_features(n_features, sparsity, 1_000, seed) @ feature_vectors
    encoder = best_encoders(inputs, n_features, n_starts=12, gamma=gamma)[0].matrix
    features = uniform_features(n_features, sparsity, 20_000, seed + 1_000)
    codes = (features @ feature_vectors @ encoder.T).relu()
    return float(code_sums(codes, features).ground_truth_loss().all_dimensions)


def gains(feature_vectors: Tensor, gamma: Tensor, sparsity: float) -> list[float]:
    """By how much Γ lowers `best_aligned_error`, on two draws of samples."""
    return [
        best_aligned_error(feature_vectors, None, sparsity, seed)
        - best_aligned_error(feature_vectors, gamma, sparsity, seed)
        for seed in range(2)
    ]


def v1_gap_and_recovery() -> Measured:
    """§4.2 and the abstract: a narrower gap means better features."""
    helped, hurt = torch.block_diag(ONE, TRIANGLE), random_features(4, 3, seed=1)
    weighted = [
        reconstruction_loss(
            PRINTED,
            uniform_features(3, 0.5, 2_000, seed) @ PRINTED,
            gamma=random_gamma(2, seed),
        )
        for seed in range(5)
    ]
    return {
        "printed": {"gain_of_a_closed_gap": max(gains(TRIANGLE, closing_gamma(TRIANGLE), 0.5))},
        "correction": {
            "weighted_loss": max(weighted),
            "helped": min(gains(helped, gap_minimising_gamma(helped), 0.3)),
            "hurt": max(gains(hurt, gap_minimising_gamma(hurt), 0.7)),
        },
    }


def v1_equation_16() -> Measured:
    """§4.3: the entries of W_pᵀΓ²W_p, for p_1 = (3/5, 4/5), p_2 = (0, 1), p_3 = (1, 0)."""
    vectors = exact((Fraction(3, 5), Fraction(4, 5)), (0, 1), (1, 0))
    squares = exact((4, 9))
    true = (vectors * squares) @ vectors.T
    printed = squares.T * (vectors @ vectors.T)[:2]
    by_sum = sum(squares[0, q] * np.outer(vectors[:, q], vectors[:, q]) for q in range(2))
    return {
        "printed": {
            "deviation": exact_square(true[:2] - printed),
            "asymmetry": abs(printed[0, 1] - printed[1, 0]),
        },
        "correction": {"deviation": exact_square(true - by_sum)},
    }


def negative_products(feature_vectors: Tensor, n_others: int) -> list[int]:
    """For i = 1, 2: how many of p_i·p_k, k = 1..n_others, are negative."""
    products = feature_vectors[:2] @ feature_vectors[:n_others].T
    return (products < -1e-9).sum(dim=1).tolist()


def v1_polysemantic_level() -> Measured:
    """§4.3: how the level of a dimension is read off W_p."""
    # Two features that share dimension 1 with the same sign, one feature alone in dimension 2.
    shared = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    printed, opposite = negative_products(PRINTED, 2), negative_products(shared, 3)
    levels, shared_levels = effective_features(PRINTED), effective_features(shared)
    return {
        "printed": {
            "difference": printed[1] - printed[0],
            "difference_positive": opposite[0] - opposite[1],
        },
        "correction": {
            "difference": float(levels[1] - levels[0]),
            "difference_positive": float(shared_levels[0] - shared_levels[1]),
        },
    }


def v1_example_1() -> Measured:
    """Example 1 of the first version."""
    weights = gap_minimising_gamma(PRINTED).square()
    products = PRINTED_EXACT @ PRINTED_EXACT.T
    return {
        "printed": {
            "weight_ratio": float(weights[1] / weights[0]),
            "activation_error": exact_square(exact((5, 3, 7)) @ PRINTED_EXACT - exact((5, 3 - 7))),
            "product_error": exact_square(products - exact((1, 0, 0), (0, 1, -1), (0, -1, 1))),
        }
    }


def axis_world(*features_per_dimension: int) -> Tensor:
    """W_pᵀ with ±1 entries: dimension q is shared by that many features, of alternating sign."""
    return torch.block_diag(*(DIGON.repeat(n // 2 + 1, 1)[:n] for n in features_per_dimension))


RANDOM_WORLDS = [random_features(40, 10, seed) for seed in range(50)]
AXIS_WORLDS = (PRINTED, axis_world(1, 1, 2, 3, 5), axis_world(*[1] * 10, *[19] * 10))


def rank_correlations(worlds: Sequence[Tensor], of: Callable[[Tensor], Tensor]) -> list[float]:
    """Spearman's, over a world's dimensions, of γ*² (the Γ with the narrowest gap) with `of`."""
    found: list[Any] = [
        spearmanr(gap_minimising_gamma(world).square().numpy(), of(world).numpy())
        for world in worlds
    ]
    return [float(correlation) for correlation, _ in found]


def share_against(worlds: Sequence[Tensor]) -> float:
    """The share of worlds in which γ* falls, by rank, as dimensions become more monosemantic."""
    correlations = rank_correlations(worlds, inverse_participation_ratio)
    return sum(correlation < 0 for correlation in correlations) / len(correlations)


def v1_weight_principle() -> Measured:
    """§4.3: the principle of weight selection."""
    products = [
        gap_minimising_gamma(world).square() * effective_features(world) for world in AXIS_WORLDS
    ]
    return {
        "printed": {
            "share_against": share_against(RANDOM_WORLDS),
            "mean_correlation": fmean(
                rank_correlations(RANDOM_WORLDS, inverse_participation_ratio)
            ),
        },
        "condition": {
            "product_error": max(float((product - 1).abs().max()) for product in products)
        },
    }


def v1_equation_17() -> Measured:
    """§5.2.1: s is the variance."""
    moments = sparse_uniform_moments(0.9)

    def variance(world: Tensor) -> Tensor:
        return activation_variance(world, moments.variance)

    def ratio(proxy: Tensor, alpha: float) -> float:
        gamma = gamma_from_proxy(proxy, alpha, "mean_square")
        return float(gamma[1] / gamma[0])

    kurtosis = activation_excess_kurtosis(PRINTED, moments.excess_kurtosis)
    quotients = [gap_minimising_gamma(world) / variance(world).rsqrt() for world in AXIS_WORLDS]
    return {
        "printed": {"variance_ratio": ratio(variance(PRINTED), 1.0)},
        "correction": {
            "whitening_ratio": ratio(variance(PRINTED), -0.5),
            "kurtosis_ratio": ratio(kurtosis, 1.0),
            "whitening_error": max(
                float(quotient.max() / quotient.min() - 1) for quotient in quotients
            ),
            "mean_correlation": fmean(rank_correlations(RANDOM_WORLDS, variance)),
        },
    }
