"""How the directions of a tied SAE find features: a loss of their own, apart from reconstruction.

Trained on the reconstruction error, the directions of latents that fire together share it out among
themselves, and what reconstructs best are mixtures of features. Scales that stay small keep latents
from explaining each other away, and then directions find features, but reconstruct little. So here
a direction sees what small scales leave of the input, while the scales learn from reconstruction.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from typing_extensions import override


def direction_loss(directions: Tensor, feature_acts: Tensor, left: Tensor) -> Tensor:
    """−½ mean_x Σ_m 1[z_m > 0] relu(w_m · r)²: how far what is left points along the latents.

    Args:
        directions: w, unit rows, shape (d_sae, d_in); nothing else gets a gradient.
        feature_acts: z ≥ 0, shape (..., d_sae).
        left: r, what the reconstruction leaves of the input, shape (..., d_in), activation units.

    Returns:
        A scalar, at most 0, activation units².
    """
    return _DirectionLoss.apply(directions, feature_acts.flatten(0, -2), left.flatten(0, -2))


class _DirectionLoss(torch.autograd.Function):
    # Written out, since autograd passes over (batch, d_sae) twice as often.
    @override
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, directions: Tensor, feature_acts: Tensor, left: Tensor
    ) -> Tensor:
        along = (left @ directions.T).relu_().mul_(feature_acts.sign())
        ctx.save_for_backward(along.T @ left / -len(left))
        return -(torch.linalg.vector_norm(along) / (2 * len(left)) ** 0.5).square()

    @override
    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad_output: Tensor
    ) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return grad_output * gradient, None, None
