"""Small worlds that the papers' statements are tried on: feature vectors, samples of x."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import numpy as np
import torch
from torch import Tensor

ONE = torch.ones(1, 1, dtype=torch.float64)
"""A feature with a dimension of its own."""

DIGON = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
"""Two opposite features in one dimension."""

PRINTED = torch.block_diag(ONE, DIGON)
"""W_pᵀ of the papers' examples and counter-examples: W_p = [[1, 0, 0], [0, 1, −1]]."""

TWO_DIGONS = torch.block_diag(DIGON, DIGON)


def polygon(n_features: int) -> Tensor:
    """The corners of a regular polygon on the unit circle, shape (n_features, 2), float64."""
    angles = 2 * torch.pi * torch.arange(n_features, dtype=torch.float64) / n_features
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def simplex(d_in: int) -> Tensor:
    """d_in + 1 unit vectors with all products −1/d_in, shape (d_in + 1, d_in), float64."""
    centred = torch.eye(d_in + 1, dtype=torch.float64) - 1 / (d_in + 1)
    corners = centred @ torch.linalg.svd(centred).Vh[:d_in].T
    return torch.nn.functional.normalize(corners, dim=1)


def random_features(n_features: int, d_in: int, seed: int) -> Tensor:
    """Unit vectors, uniform on the sphere, shape (n_features, d_in), float64."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(n_features, d_in, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(vectors, dim=1)


def single_features(feature_vectors: Tensor) -> Tensor:
    """x = e_1, …, e_n: what the samples are in the limit S → 1, shape (n_features, n_features)."""
    return torch.eye(len(feature_vectors), dtype=torch.float64)


def binary_features(n_features: int, sparsity: float) -> tuple[Tensor, Tensor]:
    """All x ∈ {0, 1}ⁿ, x_i = 0 with probability S: (2ⁿ, n_features) and probabilities (2ⁿ,)."""
    patterns = torch.tensor(list(product([0.0, 1.0], repeat=n_features)), dtype=torch.float64)
    n_active = patterns.sum(dim=1)
    return patterns, (1 - sparsity) ** n_active * sparsity ** (n_features - n_active)


def uniform_features(n_features: int, sparsity: float, n_samples: int, seed: int) -> Tensor:
    """Samples of x_i = 0 with probability S, else uniform on [0, 1]; float64."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, n_samples, n_features)
    size, chance = torch.rand(shape, generator=generator, dtype=torch.float64)
    return size * (chance >= sparsity)


def exact(*rows: tuple[int | Fraction, ...]) -> np.ndarray:
    """A matrix of fractions, for arithmetic without rounding."""
    return np.array([[Fraction(entry) for entry in row] for row in rows], dtype=object)


def exact_relu(matrix: np.ndarray) -> np.ndarray:
    """ReLU of a matrix of fractions."""
    return matrix * (matrix > 0)


def exact_square(matrix: np.ndarray) -> Fraction:
    """‖·‖_F² of a matrix of fractions."""
    return (matrix**2).sum()


PRINTED_EXACT = exact((1, 0), (0, 1), (0, -1))
"""`PRINTED` as fractions."""

TRIANGLE = polygon(3)

OPPOSITE_TRIANGLE = -math.sqrt(2) * TRIANGLE
"""W_m without loss on the triangle's features, not W_pᵀ: latent j is active on the other two."""

OBTUSE_WORLDS = (DIGON, PRINTED, TRIANGLE, simplex(3))
"""Unit vectors with p_i·p_j ≤ 0."""

CROWDED_WORLDS = tuple(random_features(12, 3, seed) for seed in range(5))
"""More different unit vectors than 2·d_in, so that some have p_i·p_j > 0."""

UNIT_WORLDS = (DIGON, PRINTED, TRIANGLE, TWO_DIGONS, simplex(3), random_features(4, 2, seed=0))
"""Different unit vectors, small enough for exhaustive searches."""
