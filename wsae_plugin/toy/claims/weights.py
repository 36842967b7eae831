"""Which dimensions are to get the larger weights, and does the variance give them (§4.3, §5.2)?"""

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
from wsae_plugin.toy.claims.claim import Check, Measured
from wsae_plugin.toy.claims.worlds import (
    DIGON,
    PRINTED,
    PRINTED_EXACT,
    exact,
    exact_square,
    random_features,
)
from wsae_plugin.toy.theory import (
    activation_excess_kurtosis,
    activation_variance,
    effective_features,
    gap_minimising_gamma,
    inverse_participation_ratio,
    sparse_uniform_moments,
)


def equation_16() -> Measured:
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


def polysemantic_level() -> Measured:
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


def example_1() -> Measured:
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


def weight_principle() -> Measured:
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


def equation_17() -> Measured:
    """§5.2.1: s is the variance."""
    moments = sparse_uniform_moments(0.9)

    def variance(world: Tensor) -> Tensor:
        return activation_variance(world, moments.variance)

    def ratio(proxy: Tensor, alpha: float) -> float:
        gamma = gamma_from_proxy(proxy, alpha)
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


CHECKS: dict[str, Check] = {
    "v1-equation-16": equation_16,
    "v1-polysemantic-level": polysemantic_level,
    "v1-example-1": example_1,
    "v1-weight-principle": weight_principle,
    "v1-equation-17": equation_17,
}
