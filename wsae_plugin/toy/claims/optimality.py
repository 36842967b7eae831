"""Is W_m = (W_p, 0)ᵀ a minimiser as S → 1, and where does the gradient vanish (Theorem 1)?"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wsae_plugin.toy.batched.activation import top_k
from wsae_plugin.toy.claims.claim import Claim, Evidence, Statement
from wsae_plugin.toy.claims.search import best_encoders, limit_loss, superposed_features
from wsae_plugin.toy.claims.worlds import OPPOSITE_TRIANGLE, PRINTED, TRIANGLE, random_features
from wsae_plugin.toy.theory import positive_pair_share


def excess_over_search(encoder: Tensor, feature_vectors: Tensor, n_starts: int) -> float:
    """The ReLU limit loss of an encoder less the least that a search finds; ≤ 0 for a minimiser."""
    best = best_encoders(feature_vectors, len(encoder), n_starts)[0].loss
    return limit_loss(encoder, feature_vectors) - best


def superposition_limit(feature_vectors: Tensor) -> Tensor:
    """‖ReLU(W_pᵀW_p) − I‖_F², the limit S → 1 of L_Sup / ((1 − S) E[x_u² | x_u > 0])."""
    products = feature_vectors @ feature_vectors.T
    return (products.relu() - torch.eye(len(products)).to(products)).square().sum()


def stationarity_error(feature_vectors: Tensor) -> float:
    """max |¼∇L_Sup − (W_pReLU(W_pᵀW_p) − W_p)| in the limit S → 1, at any W_p."""
    vectors = feature_vectors.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(superposition_limit(vectors), vectors)
    residual = (feature_vectors @ feature_vectors.T).relu() @ feature_vectors - feature_vectors
    return float((gradient / 4 - residual).abs().max())


def theorem_1() -> Claim:
    """Theorem 1 of the first version."""
    sizes = [(2, 1), (3, 1), (4, 2), (5, 2), (7, 3)]
    learned = [superposed_features(n, d_in) for n, d_in in sizes]
    crowded = [world for world in learned if len(world) > 2 * world.shape[1]]
    random = [(0.5 + seed) * random_features(6, 3, seed) for seed in range(5)]
    shared, rival = torch.tensor(
        [[[0.5**0.5], [0.5**0.5], [-1]], [[1], [0], [-1]]], dtype=torch.float64
    )
    return Claim(
        version=1,
        source="Theorem 1 (Optimality), §3.2.1",
        printed=Statement(
            "σ a sparse activation (ReLU, Top-k), n_m ≥ n and S → 1: W_m* = (W_p, 0)ᵀ minimises "
            "L_SAE. W_p is the minimiser W_p* of E‖x − ReLU(W_pᵀW_px)‖² (§3.1).",
            (
                Evidence(
                    "relu_excess",
                    max(excess_over_search(world, world, n_starts=5) for world in learned),
                    "ReLU: largest excess over the best encoder found, five W_p* with n_p = 1 to 3",
                    at_most=1e-9,
                ),
                Evidence(
                    "superposition_excess",
                    float(superposition_limit(shared) - superposition_limit(learned[1])),
                    "L_Sup of W_p = (√½, √½, −1) less the least found: it is a W_p* of n = 3",
                    at_most=1e-9,
                ),
                Evidence(
                    "top_1_excess",
                    limit_loss(shared, shared, top_k(1)) - limit_loss(rival, shared, top_k(1)),
                    "Top-1, that W_p*: limit loss of W_pᵀ less that of W_m = (1, 0, −1)ᵀ",
                    at_most=1e-9,
                ),
            ),
        ),
        condition=Statement(
            "σ = ReLU. Then every W_p that is stationary for L_Sup as S → 1 will do, since "
            "¼∇L_Sup = W_pReLU(W_pᵀW_p) − W_p is the SAE's residual. The proof's own hypothesis, "
            "p_i·p_j ≤ 0, is not needed, and cannot hold for n > 2n_p.",
            (
                Evidence(
                    "identity_error",
                    max(stationarity_error(world) for world in random),
                    "largest |¼∇L_Sup − (W_pReLU(W_pᵀW_p) − W_p)| over five random W_p",
                    at_most=1e-9,
                ),
                Evidence(
                    "relu_loss",
                    max(limit_loss(world, world) for world in learned),
                    "largest limit loss of W_m = W_pᵀ over five W_p*",
                    at_most=1e-12,
                ),
                Evidence(
                    "positive_pairs",
                    min(positive_pair_share(world) for world in crowded),
                    "least share of pairs with p_i·p_j > 0 among the W_p* with n > 2n_p",
                ),
            ),
        ),
    )


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


def stationary_point() -> Claim:
    """Appendix A.1, eqs. 23–25: where the gradient vanishes."""
    dead_latent = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    worlds = [random_features(5, 3, seed) for seed in range(5)]
    encoders = [1.5 * random_features(5, 3, seed) for seed in range(5, 10)]
    without_loss = [(PRINTED, PRINTED), (TRIANGLE, TRIANGLE), (OPPOSITE_TRIANGLE, TRIANGLE)]
    return Claim(
        version=1,
        source="Appendix A.1, equations 23 to 25",
        printed=Statement(
            "∂L_u/∂W_m = 0 for all entries if and only if W_mᵀσ(W_mp_u) = p_u.",
            (
                Evidence(
                    "formula_error",
                    max(
                        float((printed_gradient(*pair) - limit_gradient(*pair)).abs().max())
                        for pair in zip(encoders, worlds, strict=True)
                    ),
                    "largest |eq. 23's last line − automatic differentiation|, five random W_m",
                    at_most=1e-10,
                ),
                Evidence(
                    "gradient",
                    float(limit_gradient(dead_latent, PRINTED).norm()),
                    "the gradient's norm at W_m = (e_1, e_2, 0)ᵀ, W_p of the examples",
                    at_most=1e-12,
                ),
                Evidence(
                    "residual",
                    limit_loss(dead_latent, PRINTED) ** 0.5,
                    "‖W_p − W_mᵀReLU(W_mW_p)‖_F at W_m = (e_1, e_2, 0)ᵀ, where the gradient is 0",
                    at_most=1e-9,
                ),
            ),
        ),
        correction=Statement(
            "If W_mᵀσ(W_mp_u) = p_u for all u the gradient vanishes; the converse fails, since a "
            "latent that answers nothing gets no gradient.",
            (
                Evidence(
                    "gradient_without_loss",
                    max(float(limit_gradient(*pair).norm()) for pair in without_loss),
                    "largest gradient at three encoders without loss",
                    at_most=1e-12,
                ),
            ),
        ),
    )


CLAIMS: dict[str, Callable[[], Claim]] = {
    "v1-theorem-1": theorem_1,
    "v1-equation-24": stationary_point,
}
