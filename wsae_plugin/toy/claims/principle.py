"""Which dimensions are to get the larger weights, and does the variance give them (§4.3, §5.2)?"""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor

from wsae_plugin.gamma import gamma_from_proxy
from wsae_plugin.toy.claims.claim import Claim, Evidence, Statement
from wsae_plugin.toy.claims.worlds import DIGON, PRINTED, random_features
from wsae_plugin.toy.theory import (
    activation_excess_kurtosis,
    activation_variance,
    effective_features,
    gap_minimising_gamma,
    inverse_participation_ratio,
    sparse_uniform_moments,
)


def axis_world(*features_per_dimension: int) -> Tensor:
    """W_pᵀ with ±1 entries: dimension q is shared by that many features, of alternating sign."""
    blocks = [DIGON.repeat(n // 2 + 1, 1)[:n] for n in features_per_dimension]
    return torch.block_diag(*blocks)


RANDOM_WORLDS = [random_features(40, 10, seed) for seed in range(50)]
AXIS_WORLDS = (PRINTED, axis_world(1, 1, 2, 3, 5), axis_world(*[1] * 10, *[19] * 10))


def rank_correlation(feature_vectors: Tensor, of: Tensor) -> float:
    """Spearman's correlation, over dimensions, of γ*² (the Γ with the narrowest gap) with `of`."""
    weights = gap_minimising_gamma(feature_vectors).square()
    correlation: Any = spearmanr(weights.numpy(), of.numpy())[0]
    return float(correlation)


def share_against(worlds: list[Tensor]) -> float:
    """The share of worlds in which γ* falls, by rank, as dimensions become more monosemantic."""
    correlations = [rank_correlation(world, inverse_participation_ratio(world)) for world in worlds]
    return sum(correlation < 0 for correlation in correlations) / len(correlations)


def weight_principle() -> Claim:
    """§4.3: the principle of weight selection."""
    products = [
        gap_minimising_gamma(world).square() * effective_features(world) for world in AXIS_WORLDS
    ]
    return Claim(
        version=1,
        source="§4.3, the principle of weight selection (also the second version's abstract)",
        printed=Statement(
            "To narrow the last gap term, give monosemantic dimensions larger weights and "
            "polysemantic ones smaller weights.",
            (
                Evidence(
                    "share_against",
                    share_against(RANDOM_WORLDS),
                    "share of 50 random W_p (40 features, 10 dimensions) in which the Γ that "
                    "narrows ‖W_pᵀΓ²W_p − I‖_F most ranks dimensions the other way round",
                    at_most=0,
                ),
                Evidence(
                    "mean_correlation",
                    fmean(
                        rank_correlation(world, inverse_participation_ratio(world))
                        for world in RANDOM_WORLDS
                    ),
                    "mean rank correlation of γ*² with monosemanticity (inverse participation "
                    "ratio) there",
                ),
            ),
        ),
        condition=Statement(
            "Each feature lies on one axis, ‖p_i‖ = 1. Then γ*² = 1/m exactly for a dimension with "
            "m features.",
            (
                Evidence(
                    "product_error",
                    max(float((product - 1).abs().max()) for product in products),
                    "largest |γ*²·m − 1| over three such worlds, 1 to 19 features a dimension",
                    at_most=1e-7,
                ),
            ),
        ),
    )


def variance_as_proxy() -> Claim:
    """Equation 17 with s the variance."""
    moments = sparse_uniform_moments(0.9)
    variance = activation_variance(PRINTED, moments.variance)
    kurtosis = activation_excess_kurtosis(PRINTED, moments.excess_kurtosis)
    ratios = {
        name: gamma_from_proxy(proxy, alpha)
        for name, proxy, alpha in (
            ("variance", variance, 1.0),
            ("whitening", variance, -0.5),
            ("kurtosis", kurtosis, 1.0),
        )
    }
    ratio = {name: float(gamma[1] / gamma[0]) for name, gamma in ratios.items()}
    whitening_error = 0.0
    for world in AXIS_WORLDS:
        whitening = activation_variance(world, moments.variance).rsqrt()
        quotient = gap_minimising_gamma(world) / whitening
        whitening_error = max(whitening_error, float(quotient.max() / quotient.min() - 1))
    return Claim(
        version=1,
        source="Equation 17, §5.2.1",
        printed=Statement(
            "γ_q = s_q^α, α > 0, s_q the variance, gives the monosemantic dimensions the larger "
            "weights, as §4.3 asks (the text speaks of the variance of latent i, but Γ has n_p "
            "entries, one for each input dimension).",
            (
                Evidence(
                    "variance_ratio",
                    ratio["variance"],
                    "γ_2 / γ_1 at α = 1 for W_p of Example 1, which asks for γ_2 < γ_1",
                    at_most=0.99,
                ),
            ),
        ),
        correction=Statement(
            "For independent features Var(x_p[q]) = Var(x_i)Σ_iW_qi² grows with the number of "
            "features in q: α < 0 follows the principle, and with features on axes α = −½ is the "
            "Γ with the narrowest gap, up to scale. Or s the excess kurtosis, α > 0.",
            (
                Evidence(
                    "whitening_ratio",
                    ratio["whitening"],
                    "γ_2 / γ_1 at α = −½, s the variance, for W_p of Example 1",
                    at_most=0.99,
                ),
                Evidence(
                    "kurtosis_ratio",
                    ratio["kurtosis"],
                    "γ_2 / γ_1 at α = 1, s the excess kurtosis, for W_p of Example 1",
                    at_most=0.99,
                ),
                Evidence(
                    "whitening_error",
                    whitening_error,
                    "largest deviation of γ* from Var^(−½) up to scale, three worlds on axes",
                    at_most=1e-7,
                ),
                Evidence(
                    "mean_correlation",
                    fmean(
                        rank_correlation(world, activation_variance(world, moments.variance))
                        for world in RANDOM_WORLDS
                    ),
                    "mean rank correlation of γ*² with the variance, 50 random W_p (40 features, "
                    "10 dimensions)",
                    at_most=-0.5,
                ),
            ),
        ),
    )


CLAIMS: dict[str, Callable[[], Claim]] = {
    "v1-weight-principle": weight_principle,
    "v1-equation-17": variance_as_proxy,
}
