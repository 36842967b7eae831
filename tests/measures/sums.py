"""Sums over held-out batches that were made up."""

from __future__ import annotations

import torch
from torch import Tensor

from wsae_plugin.measures.sums import HeldOutSums


def sums_of(batches: list[tuple[Tensor, Tensor]]) -> HeldOutSums:
    """The sums for batches of (x, x̂); the model's losses are made up."""
    n = len(batches)
    return HeldOutSums(
        tokens=torch.tensor([float(len(x)) for x, _ in batches], dtype=torch.float64),
        x=torch.stack([x.double().sum(dim=0) for x, _ in batches]),
        x_squared=torch.stack([x.double().square().sum(dim=0) for x, _ in batches]),
        squared_error=torch.stack([(x - y).double().square().sum(dim=0) for x, y in batches]),
        active_latents=torch.tensor([4.0 * len(x) for x, _ in batches], dtype=torch.float64),
        predictions=torch.full((n,), 10.0, dtype=torch.float64),
        ce_loss=torch.full((n,), 20.0, dtype=torch.float64),
        ce_loss_with_sae=torch.full((n,), 25.0, dtype=torch.float64),
        ce_loss_with_ablation=torch.full((n,), 70.0, dtype=torch.float64),
        kl_divergence=torch.tensor([0.5 * len(x) for x, _ in batches], dtype=torch.float64),
        kl_divergence_with_ablation=torch.tensor(
            [2.0 * len(x) for x, _ in batches], dtype=torch.float64
        ),
        norm_ratio=torch.tensor([0.75 * len(x) for x, _ in batches], dtype=torch.float64),
        cosine_similarity=torch.tensor([0.25 * len(x) for x, _ in batches], dtype=torch.float64),
        firings=torch.tensor([[3.0, 0.0]] + [[0.0, 0.0]] * (n - 1), dtype=torch.float64),
    )


def once(sums: HeldOutSums) -> Tensor:
    """Every batch counted once."""
    return torch.ones_like(sums.tokens)
