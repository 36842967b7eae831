"""One feature at a time: its codes under W_m = (W_p, 0)ᵀ, and the loss as S → 1."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from wsae_plugin.toy.batched.activation import RELU, top_k
from wsae_plugin.toy.claims.claim import Claim, Evidence, Statement
from wsae_plugin.toy.claims.exact import PRINTED_EXACT, exact, exact_square
from wsae_plugin.toy.claims.worlds import DIGON, PRINTED, TRIANGLE, random_features, simplex


def recovery_error(feature_vectors: Tensor, activation: Callable[[Tensor], Tensor]) -> float:
    """max over u and latents of |σ(W_pᵀp_u) − e_u|: how far single features are from recovered."""
    codes = activation(feature_vectors @ feature_vectors.T)
    return float((codes - torch.eye(len(codes)).to(codes)).abs().max())


def recovery_of_single_features() -> Claim:
    """§3.2.1, eq. 10: the closed form's codes of one feature."""
    sparsity, n = 1 - Fraction(1, 10**9), 200
    one_given_any = n * sparsity ** (n - 1) * (1 - sparsity) / (1 - sparsity**n)
    long_digon, parallel = 2 * DIGON, torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    obtuse = [DIGON, PRINTED, TRIANGLE, simplex(3)]
    overlapping = [random_features(12, 3, seed) for seed in range(5)]
    return Claim(
        version=1,
        source="§3.2.1, equation 10 and the text around it",
        printed=Statement(
            "Given x ≠ 0, one feature alone is active with probability nSⁿ⁻¹(1−S)/(1−Sⁿ) → 1. Then "
            "W_m = (W_p, 0)ᵀ recovers it: ReLU(W_mW_p x_i e_i) = x_i(e_i, 0)ᵀ if p_i·p_j ≤ 0 for "
            "all j ≠ i, and Top-k(W_mW_p x_i e_i) = x_i(e_i, 0)ᵀ for a proper k whatever p_i·p_j.",
            (
                Evidence(
                    "probability_of_several_features",
                    float(1 - one_given_any),
                    "1 − that probability at n = 200, S = 1 − 10⁻⁹",
                    at_most=1e-6,
                ),
                Evidence(
                    "relu_error_long_digon",
                    recovery_error(long_digon, RELU),
                    "largest error of ReLU's code of e_1 for W_p = (2, −2), where p_1·p_2 ≤ 0",
                    at_most=1e-12,
                ),
                Evidence(
                    "top_k_error_parallel",
                    min(recovery_error(parallel, top_k(k)) for k in (1, 2)),
                    "largest error of Top-k's codes for W_p = (1, 2), best k",
                    at_most=1e-12,
                ),
            ),
        ),
        condition=Statement(
            "All ‖p_i‖ = 1 and the p_i differ; k = 1.",
            (
                Evidence(
                    "relu_error_unit_norm",
                    max(recovery_error(world, RELU) for world in obtuse),
                    "largest error of ReLU's codes, four worlds with unit p_i and p_i·p_j ≤ 0",
                    at_most=1e-12,
                ),
                Evidence(
                    "top_1_error_unit_norm",
                    max(recovery_error(world, top_k(1)) for world in overlapping),
                    "largest error of Top-1's codes, 12 random unit vectors in R³, five draws",
                    at_most=1e-12,
                ),
            ),
        ),
    )


def limit_ratio(factor: Callable[[int], int]) -> Fraction:
    """L_SAE over factor(n)·Sⁿ⁻¹(1−S)Σ_u L_u at S = 1 − 10⁻⁶, exactly.

    For the printed W_p, W_m = 0 and x ∈ {0, 1}ⁿ, so that L_u = ‖p_u‖² and L_SAE = E‖x_p‖².
    """
    vectors = PRINTED_EXACT
    n = len(vectors)
    sparsity = 1 - Fraction(1, 10**6)
    loss = Fraction(0)
    for pattern in np.ndindex(*[2] * n):
        activation = exact(pattern) @ vectors
        n_active = sum(pattern)
        chance = (1 - sparsity) ** n_active * sparsity ** (n - n_active)
        loss += chance * exact_square(activation)
    return loss / (factor(n) * sparsity ** (n - 1) * (1 - sparsity) * exact_square(vectors))


def limit_of_the_loss() -> Claim:
    """Appendix A.1, eqs. 19 and 21: the loss to first order in 1 − S."""
    return Claim(
        version=1,
        source="Appendix A.1, equations 19 and 21",
        printed=Statement(
            "As S → 1, L_SAE = nSⁿ⁻¹(1−S) Σ_u E L_u + o(1−S), L_u being the loss at x = x_u e_u; "
            "eq. 19's last line has L_u = ‖p_u − W_pᵀσ(W_pᵀp_u)‖².",
            (
                Evidence(
                    "ratio_error",
                    float(abs(limit_ratio(lambda n: n) - 1)),
                    "|L_SAE / printed − 1| at S = 1 − 10⁻⁶, W_p of the examples, W_m = 0",
                    at_most=1e-4,
                ),
            ),
        ),
        correction=Statement(
            "L_SAE = Sⁿ⁻¹(1−S) Σ_u E L_u + o(1−S): the sum over u already counts the n events. "
            "The last line has W_p, not W_pᵀ, before σ (n_p × n against n × 1), and x_u² beside "
            "the norm. None of it moves a minimiser.",
            (
                Evidence(
                    "ratio_error",
                    float(abs(limit_ratio(lambda _: 1) - 1)),
                    "|L_SAE / corrected − 1| at S = 1 − 10⁻⁶, W_p of the examples, W_m = 0",
                    at_most=1e-4,
                ),
            ),
        ),
    )


CLAIMS: dict[str, Callable[[], Claim]] = {
    "v1-equation-10": recovery_of_single_features,
    "v1-equation-19": limit_of_the_loss,
}
