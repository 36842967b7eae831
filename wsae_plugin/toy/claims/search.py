"""Searches: many starts of Levenberg–Marquardt, and all assignments where there are few."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import Tensor

from wsae_plugin.toy.batched.activation import top_k
from wsae_plugin.toy.claims.worlds import binary_features
from wsae_plugin.toy.theory import reconstruction_loss

ZERO = 1e-16
"""A loss that counts as none: where the search converges to one it reaches 1e-25."""


class Found(NamedTuple):
    """Where one start ended.

    Attributes:
        loss: the sum of the squared residuals.
        matrix: what was searched for, float64.
    """

    loss: float
    matrix: Tensor


def minimise(
    residuals: Callable[[Tensor], Tensor], shape: tuple[int, int], n_starts: int, seed: int = 0
) -> list[Found]:
    """Minima of Σ residuals(matrix)² from Gaussian starts, the best first.

    Runs end alike but for a few starts: the derivatives are exact, since those by differences
    enlarge rounding until a start ends elsewhere, and the entries are copied to where torch places
    a tensor, since the rounding of a product depends on where in memory its factors begin. That of
    scipy's own sums depends on it too.

    Args:
        residuals: matrix of `shape`, float64 → at least as many residuals as it has entries.
        shape: of the matrix.
        n_starts: how many.
        seed: of the starts.
    """
    generator = np.random.default_rng(seed)

    def flat(entries: Tensor) -> Tensor:
        return residuals(entries.view(shape)).flatten()

    def values(entries: np.ndarray) -> np.ndarray:
        return flat(torch.tensor(entries)).numpy()

    def derivatives(entries: np.ndarray) -> np.ndarray:
        return torch.func.jacfwd(flat)(torch.tensor(entries)).numpy()

    # scipy's types know no function here.
    options: dict[str, Any] = {"jac": derivatives, "xtol": 1e-14, "ftol": 1e-14, "max_nfev": 4000}

    found: list[Found] = []
    for _ in range(n_starts):
        start = generator.normal(size=shape).ravel()
        end = least_squares(values, start, method="lm", **options)
        found.append(Found(2 * float(end.cost), torch.from_numpy(end.x).view(shape)))
    return sorted(found, key=lambda one: one.loss)


def best_encoders(
    activations: Tensor,
    d_sae: int,
    n_starts: int,
    *,
    gamma: Tensor | None = None,
    probabilities: Tensor | None = None,
) -> list[Found]:
    """Minima of the ReLU SAE's loss over W_m, shape (d_sae, d_in), the best first.

    Args:
        activations: x_p, shape (n_samples, d_in); the feature vectors themselves for the limit
            S → 1, in which each sample holds one feature.
        d_sae: n_m.
        n_starts: how many.
        gamma: γ, shape (d_in,); None is Γ = I.
        probabilities: of the samples; None gives each the weight 1, not 1/n_samples.
    """
    inputs = activations.double()
    scale = torch.ones_like(inputs)
    if gamma is not None:
        scale = scale * gamma.double()
    if probabilities is not None:
        scale = scale * probabilities.double().sqrt().unsqueeze(1)

    def residuals(encoder: Tensor) -> Tensor:
        return (inputs - (inputs @ encoder.T).relu() @ encoder) * scale

    return minimise(residuals, (d_sae, inputs.shape[1]), n_starts)


def limit_loss(
    encoder: Tensor, feature_vectors: Tensor, activation: Callable[[Tensor], Tensor] = torch.relu
) -> float:
    """Σ_u ‖p_u − W_mᵀσ(W_m p_u)‖², the limit S → 1 of L_SAE / ((1 − S) E[x_u² | x_u > 0])."""
    loss = reconstruction_loss(encoder, feature_vectors, activation=activation)
    return loss * len(feature_vectors)


def binary_loss(encoder: Tensor, feature_vectors: Tensor, sparsity: float) -> float:
    """L_SAE of the ReLU SAE over all x ∈ {0, 1}ⁿ, x_i = 0 with probability S."""
    features, probabilities = binary_features(len(feature_vectors), sparsity)
    return reconstruction_loss(encoder, features @ feature_vectors, probabilities=probabilities)


@cache
def superposed_features(n_features: int, d_in: int) -> Tensor:
    """W_p* of eq. 3 in the limit S → 1, where L_Sup is ‖ReLU(W_pᵀW_p) − I‖_F².

    Returns:
        W_p*ᵀ, the best of ten starts, shape (n_features, d_in), float64.
    """

    def residuals(vectors: Tensor) -> Tensor:
        return (vectors @ vectors.T).relu() - torch.eye(n_features, dtype=torch.float64)

    return minimise(residuals, (n_features, d_in), n_starts=10)[0].matrix


def top_one_solutions(feature_vectors: Tensor) -> list[Tensor]:
    """All W_m with n_m = n that Top-1 (and ReLU) gives no loss at one feature at a time.

    Exhaustive over which latent is active on which feature: w_jw_jᵀp_u = p_u with w_j·p_u > 0
    forces w_j = p_u for unit p_u, so latent j can be active on two features only if they are the
    same. The rows of dead latents are zero here.

    Args:
        feature_vectors: W_pᵀ, shape (n_features, d_in), rows of unit norm.
    """
    n_features = len(feature_vectors)
    solutions: list[Tensor] = []
    for latents in product(range(n_features), repeat=n_features):
        encoder = torch.zeros_like(feature_vectors)
        encoder[list(latents)] = feature_vectors
        if limit_loss(encoder, feature_vectors, top_k(1)) < ZERO:
            solutions.append(encoder)
    return solutions
