"""How the directions of a tied SAE find features: a loss of their own, apart from reconstruction.

Trained on the reconstruction error, the directions of latents that fire together share it out among
themselves, and what reconstructs best are mixtures of features. Scales that stay small keep latents
from explaining each other away, and then directions find features, but reconstruct little. So here
a direction sees what small scales leave of the input, while the scales learn from reconstruction.

What is left points away from a latent that was given too much, and then the latent turns away from
the input by as much: the derivative of relu(w · r)², which leaves it where it is, lets the latents
of some worlds end in what all inputs share.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from typing_extensions import override


def direction_loss(directions: Tensor, feature_acts: Tensor, left: Tensor) -> Tensor:
    """−½ mean_x Σ_m 1[z_m > 0] (w_m · r)|w_m · r|: how far what is left points along the latents.

    Args:
        directions: w, unit rows, shape (d_sae, d_in); nothing else gets a gradient.
        feature_acts: z ≥ 0, shape (..., d_sae).
        left: r, what the reconstruction leaves of the input, shape (..., d_in), activation units.

    Returns:
        A scalar, activation units².
    """
    return _DirectionLoss.apply(directions, feature_acts.flatten(0, -2), left.flatten(0, -2))


class _DirectionLoss(torch.autograd.Function):
    # Written out, since autograd passes over (batch, d_sae) twice as often.
    @override
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, directions: Tensor, feature_acts: Tensor, left: Tensor
    ) -> Tensor:
        size = (left @ directions.T).abs_().mul_(feature_acts.sign())
        gradient = size.T @ left / -len(left)
        ctx.save_for_backward(gradient)
        # By Euler: the loss is homogeneous of degree 2 in the directions.
        return (directions * gradient).sum() / 2

    @override
    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad_output: Tensor
    ) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return grad_output * gradient, None, None
