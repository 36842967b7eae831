"""The weight as a full matrix: a metric on activations that says what an error does.

A diagonal Γ weighs dimensions one by one. A metric A weighs directions: δAδᵀ in place of ‖δ‖². With
A made from the Fisher information of a language model's output, it is to second order the KL
divergence that an error δ at a hook causes, KL ≈ ½ δF(x)δᵀ, averaged over x.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from wsae_plugin.errors import BadInputError

MetricName = Literal["fisher", "rotated_fisher", "covariance", "uniform", "file"]


def metric_from(information: Tensor, ridge: float = 1.0) -> Tensor:
    """A = (F̄·d/tr F̄ + εI)/(1 + ε): trace d, and no direction is free.

    A model's LayerNorm makes F̄ singular: moving all dimensions of a residual stream alike changes
    nothing. Without the ridge the SAE would not learn them.

    Args:
        information: F̄, symmetric and positive semi-definite, shape (d_in, d_in).
        ridge: ε ≥ 0, in units of the mean eigenvalue.

    Returns:
        A, shape (d_in, d_in), float64.

    Raises:
        BadInputError: F̄ is none, or the ridge is negative; a singular F̄ needs one above 0.
    """
    if not 0 <= ridge < float("inf"):
        raise BadInputError(f"metric_ridge = {ridge}: must be 0 or more, and finite")
    matrix = information.double()
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise BadInputError(f"a metric of shape {tuple(matrix.shape)}: must be square")
    if not matrix.isfinite().all():
        raise BadInputError("the metric holds NaN or infinity")
    if not torch.allclose(matrix, matrix.T, rtol=1e-6, atol=1e-9 * float(matrix.abs().max())):
        raise BadInputError("the metric is not symmetric")
    d_in, trace = len(matrix), float(matrix.trace())
    if trace <= 0:
        raise BadInputError("the metric is 0: no direction matters to it")
    mixed = matrix * (d_in / trace) + ridge * torch.eye(d_in, dtype=torch.float64)
    return mixed / (1 + ridge)


def square_roots(metric: Tensor) -> tuple[Tensor, Tensor]:
    """M = A^½ and M⁻¹, so that ‖δM‖² = δAδᵀ.

    Args:
        metric: A, symmetric, shape (d_in, d_in), float64.

    Returns:
        Two symmetric matrices of its shape, float64.

    Raises:
        BadInputError: A direction has no weight, or a negative one.
    """
    eigenvalues, eigenvectors = torch.linalg.eigh(metric)
    if (smallest := float(eigenvalues[0])) <= _SINGULAR * float(eigenvalues[-1]):
        raise BadInputError(
            f"the smallest eigenvalue of the metric is {smallest:.3g}: it must be above 0; a "
            "metric_ridge makes it so where none is negative"
        )
    roots = eigenvalues.sqrt()
    return (eigenvectors * roots) @ eigenvectors.T, (eigenvectors / roots) @ eigenvectors.T


_SINGULAR = 1e-12


def rotated(information: Tensor, seed: int) -> Tensor:
    """The control of a metric: its eigenvalues, in random orthogonal directions.

    Args:
        information: Symmetric, shape (d_in, d_in).
        seed: Of the directions, which are uniform over all rotations.

    Returns:
        Of the same shape, float64.
    """
    generator = torch.Generator().manual_seed(seed)
    matrix = information.double().cpu()
    normal = torch.randn(matrix.shape, generator=generator, dtype=torch.float64)
    # Uniform over rotations but for signs, which a symmetric matrix does not have.
    directions, _ = torch.linalg.qr(normal)
    return (directions * torch.linalg.eigvalsh(matrix)) @ directions.T


def directions_that_hold(information: Tensor, share: float = 0.5) -> int:
    """The number of eigenvectors that hold a share of the trace, the largest first."""
    eigenvalues = torch.linalg.eigvalsh(information.double()).flip(0).clamp(min=0)
    held = eigenvalues.cumsum(0) / eigenvalues.sum()
    return int((held < share).sum()) + 1
