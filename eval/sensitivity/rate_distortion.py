"""What a metric can gain, from rate–distortion theory, before any SAE is trained.

A Gaussian source of covariance C, described with R nats, is at best reconstructed with an error
whose eigenvalues are min(θ, λ) in C's directions: reverse water-filling (Cover and Thomas, Elements
of Information Theory, theorem 10.3.3). Under a metric A = MM the same holds of xM. An SAE is no
such code, but it, too, spends an equal budget where its loss asks for it.
"""

from __future__ import annotations

from math import exp, lgamma, log

import torch
from torch import Tensor

from wsae_plugin.gamma.metric import metric_from, square_roots

_HALVINGS = 100
_LEAST = 1e-12
"""Of the largest variance: less is rounding."""


def nats_of_choice(d_sae: int, k: int) -> float:
    """ln(d_sae choose k): what it takes to say which latents are active.

    Args:
        d_sae: How many there are.
        k: How many are active, from 0 to d_sae.
    """
    return lgamma(d_sae + 1) - lgamma(k + 1) - lgamma(d_sae - k + 1)


def best_error(covariance: Tensor, nats: float) -> Tensor:
    """Covariance of the smallest error at a rate.

    Args:
        covariance: Of the source, symmetric, shape (d_in, d_in).
        nats: The rate of one sample, 0 or more.

    Returns:
        Shape (d_in, d_in), float64; its trace is the mean squared error.
    """
    variances, directions = torch.linalg.eigh(covariance.double())
    variances = variances.clamp(min=_LEAST * float(variances[-1]))
    low, high = log(variances[0]) - 2 * nats, log(variances[-1])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        needed = float((variances.log() - middle).clamp(min=0).sum()) / 2
        low, high = (middle, high) if needed > nats else (low, middle)
    return (directions * variances.clamp(max=exp(high))) @ directions.T


def predicted_change(
    information: Tensor, covariance: Tensor, nats: float, ridge: float = 1.0
) -> float:
    """How much less an error costs where the code is made for the metric, not for ‖δ‖².

    Args:
        information: F̄, so that δF̄δᵀ/2 is what an error δ costs; shape (d_in, d_in).
        covariance: Of the activations, shape (d_in, d_in).
        nats: The rate of both codes, such as `nats_of_choice`.
        ridge: ε of the metric.

    Returns:
        The relative change of the mean cost: −0.1 for a tenth less.

    Raises:
        BadInputError: see `metric_from`.
    """
    information = information.double()
    root, inverse = square_roots(metric_from(information, ridge))
    usual = best_error(covariance, nats)
    under = inverse @ best_error(root @ covariance.double() @ root, nats) @ inverse
    return float((information * under).sum() / (information * usual).sum()) - 1
