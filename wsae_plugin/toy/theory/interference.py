"""How features share the input space: overlaps between features, crowding of dimensions."""

from __future__ import annotations

import torch
from torch import Tensor

from wsae_plugin.errors import BadInputError


def positive_pair_share(feature_vectors: Tensor, tolerance: float = 1e-9) -> float:
    """The share of pairs i < j with p_i·p_j > tolerance · ‖p_i‖‖p_j‖, in [0, 1].

    arXiv 2506.15963 assumes p_i·p_j ≤ 0 for all pairs where σ is ReLU: this is the share that
    violates it. See `least_positive_pair_share` for the least that is possible.

    Args:
        feature_vectors: W_pᵀ, shape (n_features, d_in).
        tolerance: a cosine below which a product counts as zero.

    Raises:
        BadInputError: there are fewer than two features.
    """
    n_features = len(feature_vectors)
    if n_features < 2:
        raise BadInputError(f"feature_vectors has {n_features} rows; pairs need two at least.")
    directions = torch.nn.functional.normalize(feature_vectors.double(), dim=1)
    cosines = directions @ directions.T
    rows, columns = torch.triu_indices(n_features, n_features, offset=1)
    return float((cosines[rows, columns] > tolerance).double().mean())


def least_positive_pair_share(n_features: int, d_in: int) -> float:
    """The smallest share of positive pairs that n_features non-zero vectors in R^d_in can have.

    At most 2·d_in non-zero vectors have pairwise products ≤ 0, so the graph of non-positive pairs
    holds no clique of 2·d_in + 1, and Turán's theorem bounds its edges; copies of ±e_q reach the
    bound. 0 for n_features ≤ 2·d_in; 400 of 19,900 pairs for the papers' 200 features in R²⁰.

    Args:
        n_features: n, at least 2.
        d_in: n_p, at least 1.

    Raises:
        BadInputError: a size is too small.
    """
    if n_features < 2 or d_in < 1:
        raise BadInputError(
            f"n_features is {n_features} and d_in {d_in}; at least 2 features in 1 dimension."
        )
    smaller, n_larger = divmod(n_features, 2 * d_in)
    n_smaller = 2 * d_in - n_larger
    positive = n_smaller * smaller * (smaller - 1) + n_larger * (smaller + 1) * smaller
    return positive / (n_features * (n_features - 1))


def inverse_participation_ratio(feature_vectors: Tensor) -> Tensor:
    """Σ_i W_qi⁴ / (Σ_i W_qi²)² of each dimension q, shape (d_in,), float64.

    1 where one feature alone uses the dimension, 1/m where m use it equally, 0 where none does.

    Args:
        feature_vectors: W_pᵀ, shape (n_features, d_in).
    """
    squares = feature_vectors.double().square()
    energy = squares.sum(dim=0)
    unused = energy == 0
    ratio = squares.square().sum(dim=0) / energy.square().masked_fill(unused, 1.0)
    return ratio.masked_fill(unused, 0.0)


def effective_features(feature_vectors: Tensor) -> Tensor:
    """How polysemantic each dimension is: 1 / `inverse_participation_ratio`, shape (d_in,).

    The number of features that share it, those with small weights counted in part; 0 where none.

    Args:
        feature_vectors: W_pᵀ, shape (n_features, d_in).
    """
    ratio = inverse_participation_ratio(feature_vectors)
    unused = ratio == 0
    return (1 / ratio.masked_fill(unused, 1.0)).masked_fill(unused, 0.0)
