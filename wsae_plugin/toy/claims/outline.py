"""The second version, of which an outline is public: the abstract, and theorems by their titles."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

from wsae_plugin.toy.batched.activation import RELU, Activation, top_k
from wsae_plugin.toy.claims.claim import Measured
from wsae_plugin.toy.claims.closed_form import excess_over_search, farthest_rivals
from wsae_plugin.toy.claims.necessity import LEVELS, closed_form_error, irreducible_error
from wsae_plugin.toy.claims.reweighting import corrected, limit_terms, sum_of_terms
from wsae_plugin.toy.claims.search import binary_loss, limit_loss, superposed_features
from wsae_plugin.toy.claims.worlds import (
    DIGON,
    ONE,
    PRINTED,
    TRIANGLE,
    TWO_DIGONS,
    polygon,
    uniform_features,
)
from wsae_plugin.toy.theory import closed_form_encoder, reconstruction_loss, zero_loss_encoder


def binary_excess(feature_vectors: Tensor, rival: Tensor) -> float:
    """L_SAE of (W_p, 0)ᵀ less that of a rival of the same shape; x ∈ {0, 1}ⁿ, S = ½."""
    encoder = closed_form_encoder(feature_vectors, len(rival))
    return binary_loss(encoder, feature_vectors, 0.5) - binary_loss(rival, feature_vectors, 0.5)


def uniform_excess(feature_vectors: Tensor, rival: Tensor) -> float:
    """The same with x_i uniform on [0, 1] or 0, over 20,000 samples."""
    activations = uniform_features(len(feature_vectors), 0.5, 20_000, seed=0) @ feature_vectors
    own = reconstruction_loss(feature_vectors, activations)
    return own - reconstruction_loss(rival, activations)


def worst_residual(feature_vectors: Tensor, activation: Activation) -> float:
    """max over 3,000 x ≥ 0 (S = 0, 0.5, 0.9) of ‖x_p − W_mᵀσ(W_mx_p)‖² at W_m = (W_p, 0)ᵀ."""
    n_features = len(feature_vectors)
    features = torch.cat(
        [uniform_features(n_features, sparsity, 1_000, seed=0) for sparsity in (0.0, 0.5, 0.9)]
    )
    activations = features @ feature_vectors
    encoder = closed_form_encoder(feature_vectors, n_features + 2)
    residual = activations - activation(activations @ encoder.T) @ encoder
    return float(residual.square().sum(dim=1).max())


def v2_theorem_1() -> Measured:
    """The closed form at every sparsity, as far as the outline prints it."""
    # S = 0, x uniform: |x_1 − x_2| has density 2(1 − t). Top-1 on the axes keeps max(u², v²), on
    # the diagonals (|u| + |v|)²/2, of a total of u² + v² with mean 1/3.
    axes = Fraction(1, 3) - Fraction(4, 15)
    diagonals = Fraction(1, 3) - (Fraction(1, 6) + Fraction(1, 9))
    plane = torch.eye(2, dtype=torch.float64)
    digons = (DIGON, PRINTED, TWO_DIGONS, torch.block_diag(ONE, DIGON, DIGON))
    relu_loss = max(worst_residual(world, RELU) for world in digons)
    return {
        "printed": {
            "triangle_excess": binary_excess(TRIANGLE, math.sqrt(1.2) * TRIANGLE),
            "triangle_excess_uniform": uniform_excess(TRIANGLE, math.sqrt(1.1) * TRIANGLE),
            "wide_triangle_excess": binary_excess(TRIANGLE, zero_loss_encoder(plane, 4)),
            "pentagon_excess": binary_excess(polygon(5), zero_loss_encoder(plane, 5)),
            "pentagon_limit_loss": limit_loss(polygon(5), polygon(5)),
            "top_1_excess": axes - diagonals,
            "digon_loss": relu_loss,
        },
        "condition": {
            "relu_loss": relu_loss,
            "top_k_loss": max(worst_residual(world, top_k(world.shape[1])) for world in digons),
        },
    }


def closed_form_codes(*features: float) -> Tensor:
    """ReLU(W_pᵀW_px) for W_p of the first version's examples, shape (3,)."""
    return (torch.tensor(features, dtype=torch.float64) @ PRINTED @ PRINTED.T).relu()


def v2_example_1() -> Measured:
    """Feature shrinking."""
    return {"correction": {"shrunk_code": float(closed_form_codes(0, 1, 0.5)[1])}}


def v2_example_2() -> Measured:
    """Feature vanishing."""
    return {
        "correction": {
            "vanished_code": float(closed_form_codes(0, 1, 0.5)[2]),
            "vanished_codes": float(closed_form_codes(0, 1, 1).max()),
        }
    }


def v2_theorem_2() -> Measured:
    """Optimality under extreme sparsity: read as the first version's Theorem 1."""
    learned = [superposed_features(n, d_in) for n, d_in in ((4, 2), (5, 2), (7, 3))]
    excess = max(excess_over_search(world.flip(0), world) for world in learned)
    return {"correction": {"relu_excess": excess}}


def v2_theorem_3() -> Measured:
    """Uniqueness: read as the first version's Theorem 2, up to order."""
    worlds = {"a_digon": DIGON, "a_triangle": TRIANGLE, "two_digons": TWO_DIGONS}
    return {"correction": farthest_rivals(worlds)}


def v2_theorem_4() -> Measured:
    """The gap between L_SAE and L_GT: read as the first version's Theorem 3, sign mended."""
    return {"correction": sum_of_terms(corrected, weighted=False)}


def v2_theorem_5() -> Measured:
    """The gap between L_WSAE and L_GT: read as the first version's Theorem 4, sign mended."""
    return {"correction": sum_of_terms(corrected, weighted=True)}


def limit_error(n_features: int, d_in: int) -> float:
    """L_GT / E‖x‖² of W_m = W_p*ᵀ and ReLU in the limit S → 1."""
    return limit_terms(superposed_features(n_features, d_in)).ground_truth


def v2_abstract() -> Measured:
    """When SAEs recover the features."""
    return {
        "printed": {
            "least_error": min(irreducible_error(sparsity) for sparsity in LEVELS),
            "limit_error_crowded": limit_error(5, 2),
            "closed_form_error": closed_form_error(Fraction(9, 10)),
        },
        "condition": {
            "limit_error": max(limit_error(*size) for size in ((2, 1), (3, 2), (4, 2), (6, 3)))
        },
    }
