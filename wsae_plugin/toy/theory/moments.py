"""Moments in closed form: of sparse features, and of the input dimensions that they make."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from wsae_plugin.errors import BadInputError
from wsae_plugin.toy.theory.interference import inverse_participation_ratio


@dataclass(frozen=True)
class FeatureMoments:
    """Of one feature x_i.

    Attributes:
        mean: E x_i.
        variance: E(x_i − E x_i)².
        excess_kurtosis: E(x_i − E x_i)⁴ / variance² − 3.
    """

    mean: float
    variance: float
    excess_kurtosis: float


def sparse_uniform_moments(sparsity: float) -> FeatureMoments:
    """The moments of x_i = 0 with probability S, else uniform on [0, 1].

    E x_i^k = (1 − S)/(k + 1), centred.

    Args:
        sparsity: S, in [0, 1).

    Raises:
        BadInputError: S is not in [0, 1).
    """
    if not 0 <= sparsity < 1:
        raise BadInputError(
            f"sparsity is {sparsity}; S is the probability of a zero, at least 0 and below 1."
        )
    first, second, third, fourth = ((1 - sparsity) / (k + 1) for k in range(1, 5))
    variance = second - first**2
    centred_fourth = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
    return FeatureMoments(first, variance, centred_fourth / variance**2 - 3)


def activation_variance(feature_vectors: Tensor, feature_variance: float) -> Tensor:
    """Var(x_p[q]) = Var(x_i) Σ_i W_qi², for independent features of equal variance.

    The energy of a row of W_p: a dimension that m features use equally has m times the variance
    of one that a single feature uses.

    Args:
        feature_vectors: W_pᵀ, shape (n_features, d_in).
        feature_variance: Var(x_i).

    Returns:
        Shape (d_in,), float64, activation units².
    """
    return feature_variance * feature_vectors.double().square().sum(dim=0)


def activation_excess_kurtosis(feature_vectors: Tensor, feature_excess_kurtosis: float) -> Tensor:
    """κ_q = κ_x Σ_i W_qi⁴ / (Σ_i W_qi²)², for independent features of equal distribution.

    Fourth cumulants of independent terms add. It falls as more features share the dimension.

    Args:
        feature_vectors: W_pᵀ, shape (n_features, d_in).
        feature_excess_kurtosis: κ_x.

    Returns:
        Shape (d_in,), float64.
    """
    return feature_excess_kurtosis * inverse_participation_ratio(feature_vectors)
