"""Is W_m = (W_p, 0)ᵀ right on one feature at a time, and a minimiser as S → 1 (Theorem 1)?"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from wsae_plugin.toy.batched.activation import RELU, top_k
from wsae_plugin.toy.claims.claim import Check, Measured
from wsae_plugin.toy.claims.search import best_encoders, limit_loss, superposed_features
from wsae_plugin.toy.claims.worlds import (
    CROWDED_WORLDS,
    DIGON,
    OBTUSE_WORLDS,
    OPPOSITE_TRIANGLE,
    PRINTED,
    PRINTED_EXACT,
    TRIANGLE,
    exact,
    exact_relu,
    exact_square,
    random_features,
    single_features,
)
from wsae_plugin.toy.theory import closed_form_encoder, positive_pair_share


def recovery_error(feature_vectors: Tensor, activation: Callable[[Tensor], Tensor]) -> float:
    """max over u and latents of |σ(W_pᵀp_u) − e_u|: how far single features are from recovered."""
    codes = activation(feature_vectors @ feature_vectors.T)
    return float((codes - single_features(feature_vectors)).abs().max())


def equation_10() -> Measured:
    """§3.2.1: the closed form's codes of one feature."""
    sparsity, n = 1 - Fraction(1, 10**9), 200
    one_given_any = n * sparsity ** (n - 1) * (1 - sparsity) / (1 - sparsity**n)
    parallel = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    return {
        "printed": {
            "probability_of_several_features": float(1 - one_given_any),
            "relu_error_long_digon": recovery_error(2 * DIGON, RELU),
            "top_k_error_parallel": min(recovery_error(parallel, top_k(k)) for k in (1, 2)),
        },
        "condition": {
            "relu_error_unit_norm": max(recovery_error(world, RELU) for world in OBTUSE_WORLDS),
            "top_1_error_unit_norm": max(
                recovery_error(world, top_k(1)) for world in CROWDED_WORLDS
            ),
        },
    }


def limit_ratio(factor: int) -> Fraction:
    """L_SAE over factor·Sⁿ⁻¹(1−S)Σ_u L_u at S = 1 − 10⁻⁶, exactly.

    For the printed W_p, W_m = 0 and x ∈ {0, 1}ⁿ, so that L_u = ‖p_u‖² and L_SAE = E‖x_p‖².
    """
    n = len(PRINTED_EXACT)
    sparsity = 1 - Fraction(1, 10**6)
    loss = Fraction(0)
    for pattern in np.ndindex(*[2] * n):
        n_active = sum(pattern)
        chance = (1 - sparsity) ** n_active * sparsity ** (n - n_active)
        loss += chance * exact_square(exact(pattern) @ PRINTED_EXACT)
    return loss / (factor * sparsity ** (n - 1) * (1 - sparsity) * exact_square(PRINTED_EXACT))


def equation_19() -> Measured:
    """Appendix A.1, eqs. 19 and 21: the loss to first order in 1 − S."""
    return {
        "printed": {"ratio_error": float(abs(limit_ratio(len(PRINTED)) - 1))},
        "correction": {"ratio_error": float(abs(limit_ratio(1) - 1))},
    }


def excess_over_search(encoder: Tensor, feature_vectors: Tensor) -> float:
    """The ReLU limit loss less the least of a search from 5 starts; ≤ 0 for a minimiser."""
    best = best_encoders(feature_vectors, len(encoder), n_starts=5)[0].loss
    return limit_loss(encoder, feature_vectors) - best


def superposition_limit(feature_vectors: Tensor) -> Tensor:
    """‖ReLU(W_pᵀW_p) − I‖_F², the limit S → 1 of L_Sup / ((1 − S) E[x_u² | x_u > 0])."""
    products = feature_vectors @ feature_vectors.T
    return (products.relu() - single_features(feature_vectors)).square().sum()


def stationarity_error(feature_vectors: Tensor) -> float:
    """max |¼∇L_Sup − (W_pReLU(W_pᵀW_p) − W_p)| in the limit S → 1, at any W_p."""
    vectors = feature_vectors.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(superposition_limit(vectors), vectors)
    residual = (feature_vectors @ feature_vectors.T).relu() @ feature_vectors - feature_vectors
    return float((gradient / 4 - residual).abs().max())


def theorem_1() -> Measured:
    """Theorem 1 of the first version."""
    sizes = [(2, 1), (3, 1), (4, 2), (5, 2), (7, 3)]
    learned = [superposed_features(n, d_in) for n, d_in in sizes]
    crowded = [world for world in learned if len(world) > 2 * world.shape[1]]
    random = [(0.5 + seed) * random_features(6, 3, seed) for seed in range(5)]
    shared, rival = torch.tensor(
        [[[0.5**0.5], [0.5**0.5], [-1]], [[1], [0], [-1]]], dtype=torch.float64
    )
    return {
        "printed": {
            "relu_excess": max(excess_over_search(world, world) for world in learned),
            "superposition_excess": float(
                superposition_limit(shared) - superposition_limit(learned[1])
            ),
            "top_1_excess": limit_loss(shared, shared, top_k(1))
            - limit_loss(rival, shared, top_k(1)),
        },
        "condition": {
            "identity_error": max(stationarity_error(world) for world in random),
            "relu_loss": max(limit_loss(world, world) for world in learned),
            "positive_pairs": min(positive_pair_share(world) for world in crowded),
        },
    }


def limit_gradient(encoder: Tensor, feature_vectors: Tensor) -> Tensor:
    """∂/∂W_m of the ReLU limit loss, by automatic differentiation, shape (d_sae, d_in)."""
    parameter = encoder.clone().requires_grad_()
    codes = (feature_vectors @ parameter.T).relu()
    loss = (feature_vectors - codes @ parameter).square().sum()
    return torch.autograd.grad(loss, parameter)[0]


def printed_gradient(encoder: Tensor, feature_vectors: Tensor) -> Tensor:
    """Eq. 23's last line: 2Σ_u H(w_k·p_u)(w_k·d_u)p_u + ReLU(w_k·p_u)d_u, d = x̃_p − x_p."""
    codes = (feature_vectors @ encoder.T).relu()
    difference = codes @ encoder - feature_vectors
    active = (codes > 0).to(codes)
    slopes = (active * (difference @ encoder.T)).T @ feature_vectors
    return 2 * (slopes + codes.T @ difference)


def equation_24() -> Measured:
    """Appendix A.1, eqs. 23–25: where the gradient vanishes."""
    dead_latent = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    pairs = [
        (1.5 * random_features(5, 3, seed + 5), random_features(5, 3, seed)) for seed in range(5)
    ]
    without_loss = [(PRINTED, PRINTED), (TRIANGLE, TRIANGLE), (OPPOSITE_TRIANGLE, TRIANGLE)]
    return {
        "printed": {
            "formula_error": max(
                float((printed_gradient(*pair) - limit_gradient(*pair)).abs().max())
                for pair in pairs
            ),
            "gradient": float(limit_gradient(dead_latent, PRINTED).norm()),
            "residual": limit_loss(dead_latent, PRINTED) ** 0.5,
        },
        "correction": {
            "gradient_without_loss": max(
                float(limit_gradient(*pair).norm()) for pair in without_loss
            )
        },
    }


def theorem_1_top_k() -> Measured:
    """Appendix A.1, the proof of Theorem 1: which k recover single features."""
    vectors = exact((1, 0), (Fraction(3, 5), Fraction(4, 5)), (0, 1))
    world = torch.from_numpy(vectors.astype(float))
    gram = vectors @ vectors.T
    # Top-2 keeps 1 and 3/5 of p_1's products (1, 3/5, 0); no product is negative, so p = 0.
    reconstruction = exact_relu(gram[:1, :2]) @ vectors[:2]
    identity = closed_form_encoder(torch.eye(2), 3)
    worlds = (world, PRINTED, TRIANGLE, *CROWDED_WORLDS)
    return {
        "printed": {
            "top_2_loss": exact_square(vectors[:1] - reconstruction),
            "top_2_least_loss": limit_loss(identity, world, top_k(2)),
            "top_2_loss_printed_world": limit_loss(PRINTED, PRINTED, top_k(2)),
        },
        "correction": {
            "top_1_error": max(recovery_error(world, top_k(1)) for world in worlds),
            "top_1_loss": max(limit_loss(world, world, top_k(1)) for world in worlds),
        },
    }


CHECKS: dict[str, Check] = {
    "v1-equation-10": equation_10,
    "v1-equation-19": equation_19,
    "v1-theorem-1": theorem_1,
    "v1-equation-24": equation_24,
    "v1-theorem-1-top-k": theorem_1_top_k,
}
