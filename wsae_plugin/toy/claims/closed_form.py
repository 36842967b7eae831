"""Is W_m = I*(W_p, 0)ᵀ a minimiser at every sparsity (second version, Theorem 1)?"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor

from wsae_plugin.toy.batched.activation import RELU, Activation, top_k
from wsae_plugin.toy.claims.claim import Claim, Evidence, Statement
from wsae_plugin.toy.claims.search import limit_loss
from wsae_plugin.toy.claims.worlds import (
    DIGON,
    ONE,
    PRINTED,
    TRIANGLE,
    TWO_DIGONS,
    binary_features,
    polygon,
    uniform_features,
)
from wsae_plugin.toy.theory import closed_form_encoder, reconstruction_loss, zero_loss_encoder


def binary_excess(feature_vectors: Tensor, rival: Tensor, sparsity: float = 0.5) -> float:
    """L_SAE of (W_p, 0)ᵀ less that of a rival of the same shape; x ∈ {0, 1}ⁿ, enumerated."""
    features, probabilities = binary_features(len(feature_vectors), sparsity)
    activations = features @ feature_vectors
    encoder = closed_form_encoder(feature_vectors, len(rival))
    own, other = (
        reconstruction_loss(matrix, activations, probabilities=probabilities)
        for matrix in (encoder, rival)
    )
    return own - other


def uniform_excess(feature_vectors: Tensor, rival: Tensor, sparsity: float = 0.5) -> float:
    """The same with x_i uniform on [0, 1] or 0, over 20,000 samples."""
    features = uniform_features(len(feature_vectors), sparsity, 20_000, seed=0)
    activations = features @ feature_vectors
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


def theorem_1() -> Claim:
    """Theorem 1 of the second version, as far as the outline prints it."""
    # S = 0, x uniform: |x_1 − x_2| has density 2(1 − t). Top-1 on the axes keeps max(u², v²), on
    # the diagonals (|u| + |v|)²/2, of a total of u² + v² with mean 1/3.
    axes = Fraction(1, 3) - Fraction(4, 15)
    diagonals = Fraction(1, 3) - (Fraction(1, 6) + Fraction(1, 9))
    plane = torch.eye(2, dtype=torch.float64)
    digons = (DIGON, PRINTED, TWO_DIGONS, torch.block_diag(ONE, DIGON, DIGON))
    return Claim(
        version=2,
        source="Theorem 1 (Closed-form solution), outline; cut off after 'L_SAE(W_m;'",
        printed=Statement(
            "σ a sparse activation, n_m ≥ n, the columns of W_p within the superposed dimensions "
            "form digons or polygons: W_m* = I*(W_p, 0)ᵀ minimises L_SAE (nothing is asked of S).",
            (
                Evidence(
                    "triangle_excess",
                    binary_excess(TRIANGLE, math.sqrt(1.2) * TRIANGLE),
                    "ReLU, unit triangle, n_m = n = 3, S = ½, x ∈ {0, 1}³: L_SAE of W_pᵀ less "
                    "that of √1.2·W_pᵀ (3/32 − 3/40)",
                    at_most=1e-12,
                ),
                Evidence(
                    "triangle_excess_uniform",
                    uniform_excess(TRIANGLE, math.sqrt(1.1) * TRIANGLE),
                    "the same with x uniform, 20,000 samples, less that of √1.1·W_pᵀ",
                    at_most=1e-6,
                ),
                Evidence(
                    "wide_triangle_excess",
                    binary_excess(TRIANGLE, zero_loss_encoder(plane, 4)),
                    "the same with n_m = 4, x ∈ {0, 1}³, less that of (I; −I), which has no loss",
                    at_most=1e-12,
                ),
                Evidence(
                    "pentagon_excess",
                    binary_excess(polygon(5), zero_loss_encoder(plane, 5)),
                    "ReLU, unit pentagon, n_m = n = 5, S = ½: L_SAE of W_pᵀ less that of "
                    "(I; −I; 0), which has no loss",
                    at_most=1e-12,
                ),
                Evidence(
                    "pentagon_limit_loss",
                    limit_loss(polygon(5), polygon(5)),
                    "the same as S → 1: limit loss of W_pᵀ, which is 0 for a W_p* only",
                    at_most=1e-12,
                ),
                Evidence(
                    "top_1_excess",
                    axes - diagonals,
                    "Top-1, two digons, S = 0, x uniform: L_SAE of W_pᵀ less that of W_pᵀ turned "
                    "by 45° (1/15 − 1/18)",
                    at_most=0,
                ),
                Evidence(
                    "digon_loss",
                    max(worst_residual(world, RELU) for world in digons),
                    "ReLU, four worlds of unit digons and axes: largest squared error of any x",
                    at_most=1e-20,
                ),
            ),
        ),
        condition=Statement(
            "W_p is made of unit digons and single axes, orthogonal to each other, and σ is ReLU, "
            "or Top-k with k = n_p. Then L_SAE = 0 at every x ≥ 0, so at every S.",
            (
                Evidence(
                    "relu_loss",
                    max(worst_residual(world, RELU) for world in digons),
                    "ReLU: largest squared error of 3,000 x ≥ 0, n_m = n + 2, four such worlds",
                    at_most=1e-20,
                ),
                Evidence(
                    "top_k_loss",
                    max(worst_residual(world, top_k(world.shape[1])) for world in digons),
                    "Top-n_p: the same",
                    at_most=1e-20,
                ),
            ),
        ),
    )


CLAIMS: dict[str, Callable[[], Claim]] = {"v2-theorem-1": theorem_1}
