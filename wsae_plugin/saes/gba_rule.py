"""The rule of Group Bias Adaptation: which frequencies to aim for, and how far to move the biases.

Pure functions of what was counted since the last update; source: arXiv 2506.14002.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def target_frequencies(n_groups: int, highest: float, lowest: float) -> Tensor:
    """p_k, the share of inputs that a latent of group k may fire on, shape (n_groups,), float64.

    Geometric from `highest` to `lowest`; one group aims for `highest` (Bias Adaptation).
    """
    steps = torch.arange(n_groups, dtype=torch.float64) / max(n_groups - 1, 1)
    return highest * (lowest / highest) ** steps


def groups_of_latents(d_sae: int, n_groups: int) -> Tensor:
    """The group of each latent, shape (d_sae,), int64: neighbours, in groups of equal size (±1)."""
    return torch.arange(d_sae) * n_groups // d_sae


def adapted_bias(
    bias: Tensor,
    firings: Tensor,
    n_samples: Tensor,
    largest: Tensor,
    groups: Tensor,
    targets: Tensor,
    step_size: float,
    lowest_bias: Tensor,
    over_all: Callable[[Tensor], Tensor] = lambda sums: sums,
) -> Tensor:
    """The biases after one update.

    With p the share of samples a latent fired on and r = max(0, its largest pre-activation with the
    bias in it): where p is above the target, the bias falls by step_size · r, to `lowest_bias` at
    most; where the latent never fired, it rises by step_size times the mean of the positive r in
    its group, to 0 at most; elsewhere it stays. The target is a ceiling, with a floor for the dead.

    Args:
        bias: b ≤ 0, shape (d_sae,), activation units.
        firings: samples each latent fired on, shape (d_sae,), int64.
        n_samples: samples seen, shape ().
        largest: the largest w · (x − b_pre) of each latent, without the bias, shape (d_sae,).
        groups: the group of each latent, shape (d_sae,).
        targets: the target frequency of each group, shape (n_groups,).
        step_size: share of r that a bias moves by.
        lowest_bias: shape (), negative.
        over_all: adds up sums over a group's latents, where others than these belong to it.

    Returns:
        Shape (d_sae,), in [lowest_bias, 0].
    """
    reach = (largest + bias).clamp(min=0)
    lowered = torch.maximum(bias - step_size * reach, lowest_bias)
    raised = (bias + step_size * _mean_of_positive(reach, groups, len(targets), over_all)).clamp(
        max=0
    )
    is_above_target = firings > targets[groups] * n_samples
    return torch.where(is_above_target, lowered, torch.where(firings == 0, raised, bias))


def _mean_of_positive(
    reach: Tensor, groups: Tensor, n_groups: int, over_all: Callable[[Tensor], Tensor]
) -> Tensor:
    """The mean of the positive entries in each latent's group, 0 without any, shape (d_sae,)."""
    # A one-hot product where index_add would do: on a GPU that one adds in no fixed order.
    member = (groups == torch.arange(n_groups, device=groups.device).unsqueeze(1)).to(reach.dtype)
    total, count = over_all(torch.stack([member @ reach, member @ (reach > 0).to(reach.dtype)]))
    return (total / count.clamp(min=1))[groups]
