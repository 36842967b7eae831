"""The toy model of superposition, learned: many W_p at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm.auto import tqdm

from wsae_plugin.errors import BadInputError
from wsae_plugin.toy.batched.data import FeatureStream
from wsae_plugin.toy.streams import stream


def learn_superposition(
    sparsities: Sequence[float],
    seeds: Sequence[int],
    n_features: int,
    d_in: int,
    *,
    n_steps: int = 3000,
    batch_size: int = 256,
    lr: float = 3e-3,
) -> Tensor:
    """Minimise E‖x − ReLU(W_pᵀW_p x)‖² without a bias (arXiv 2506.15963, eqs. 1–3).

    Args:
        sparsities: S of each model, in [0, 1).
        seeds: of each model's data and initial weights.
        n_features: n.
        d_in: n_p, less than n.
        n_steps: Adam steps; the learning rate falls linearly to 0 over the second half.
        batch_size: samples in a step.
        lr: Adam's learning rate.

    Returns:
        W_pᵀ of each model, shape (n_models, n_features, d_in).

    Raises:
        BadInputError: there is nothing to superpose, or S is not in [0, 1).
    """
    if not 0 < d_in < n_features:
        raise BadInputError(
            f"d_in is {d_in} and n_features {n_features}; superposition needs 0 < d_in and more "
            "features than that."
        )
    if any(not 0 <= sparsity < 1 for sparsity in sparsities):
        raise BadInputError(f"sparsity is {list(sparsities)}; each is at least 0 and below 1.")
    firing = torch.tensor([[1 - sparsity] for sparsity in sparsities]).expand(-1, n_features)
    features = FeatureStream(firing, [stream("learning", seed) for seed in seeds])
    weights = torch.stack([_initial(seed, n_features, d_in) for seed in seeds]).requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=lr, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, 2 - 2 * step / n_steps)
    )
    for _ in tqdm(range(n_steps), "learning W_p", unit="step"):
        superposition_loss(weights, features.sample(batch_size)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return weights.detach()


def superposition_loss(feature_vectors: Tensor, features: Tensor) -> Tensor:
    """E‖x − ReLU(W_pᵀW_p x)‖², shape (n_models,) (arXiv 2506.15963, eq. 3).

    Args:
        feature_vectors: W_pᵀ, shape (n_models, n_features, d_in).
        features: x, shape (n_models, n_samples, n_features).
    """
    activations = torch.bmm(features, feature_vectors)
    outputs = torch.bmm(activations, feature_vectors.transpose(1, 2)).relu()
    return (features - outputs).square().sum(dim=-1).mean(dim=-1)


def _initial(seed: int, n_features: int, d_in: int) -> Tensor:
    drawn = torch.randn(n_features, d_in, generator=stream("directions", seed))
    return drawn / n_features**0.5
