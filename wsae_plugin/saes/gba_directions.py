"""How the directions of a tied SAE find features: a loss of their own, apart from reconstruction.

Trained on the reconstruction error, the directions of latents that fire together share it out among
themselves, and what reconstructs best are mixtures of features. Scales that stay small keep latents
from explaining each other away, and then directions find features, but reconstruct little. So here
a direction sees what small scales leave of the input, while the scales learn from reconstruction.
"""

from __future__ import annotations

from torch import Tensor


def direction_loss(directions: Tensor, is_active: Tensor, left: Tensor) -> Tensor:
    """−½ mean_x Σ_m 1[m fires on x] relu(w_m · r)²: how far what is left points along the latents.

    Args:
        directions: w, unit rows, shape (d_sae, d_in); nothing else gets a gradient.
        is_active: which latents fire, shape (batch, d_sae), bool.
        left: r, what the reconstruction leaves of the input, shape (batch, d_in), activation units.

    Returns:
        A scalar, at most 0, activation units².
    """
    along = (left.detach() @ directions.T).relu() * is_active
    return -0.5 * along.square().sum(dim=-1).mean()
