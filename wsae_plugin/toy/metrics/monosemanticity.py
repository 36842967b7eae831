"""How many features a latent answers to when they come one at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wsae_plugin.errors import BadInputError


def activated_features(
    encode: Callable[[Tensor], Tensor],
    features: Tensor,
    feature_vectors: Tensor,
    threshold: float = 0.1,
) -> Tensor:
    """For each latent, how many features activate it alone (arXiv 2506.15963, Section 5.1).

    Every sample is encoded n_features times, each time with one feature kept. M_ij is the mean of
    latent j over the samples that have feature i, and j counts i if M_ij > threshold · max_i M_ij.
    The paper takes a sum over all samples and an absolute threshold that it does not print; a mean
    over the samples with x_i > 0 and a relative threshold grow neither with the sample, nor with a
    feature's frequency, nor with a latent's scale.

    Args:
        encode: activations (n, d_in) → codes (n, d_sae). One that looks at its whole batch, such
            as a training BatchTopK's, sees a batch of one feature's samples here.
        features: x ≥ 0, shape (n_samples, n_features).
        feature_vectors: shape (n_features, d_in).
        threshold: in [0, 1), relative to the latent's largest M.

    Returns:
        Shape (d_sae,), int64, in [0, n_features]: 0 for a latent that no feature activates, 1 for
        a monosemantic one. One call of `encode` for each feature that occurs.

    Raises:
        BadInputError: no feature occurs, or the threshold is out of range.
    """
    if not 0 <= threshold < 1:
        raise BadInputError(f"threshold is {threshold}; a share of the largest M, in [0, 1).")
    means: list[Tensor] = []
    with torch.no_grad():
        for feature, vector in zip(features.T, feature_vectors, strict=True):
            values = feature[feature > 0]
            if len(values):
                means.append(encode(values.unsqueeze(1) * vector).double().mean(dim=0))
    if not means:
        raise BadInputError("features has no value above 0, so no feature can activate anything.")
    responses = torch.stack(means)
    return (responses > threshold * responses.amax(dim=0).clamp(min=0)).sum(dim=0)


def average_activated_features(
    encode: Callable[[Tensor], Tensor],
    features: Tensor,
    feature_vectors: Tensor,
    threshold: float = 0.1,
) -> float | None:
    """Figure 2's "average activated features": the mean of `activated_features`.

    In [1, n_features], lower is better, 1 is monosemantic. Latents that no feature activates are
    left out, since they would make an SAE better by dying; None if all are such. A latent that
    responds to everything alike has n_features; those of a random linear encoder have about 0.4
    n_features for 200 features in 20 dimensions, and with a ReLU as many.

    Args:
        encode: activations (n, d_in) → codes (n, d_sae).
        features: x ≥ 0, shape (n_samples, n_features).
        feature_vectors: shape (n_features, d_in).
        threshold: in [0, 1), relative to the latent's largest M.
    """
    counts = activated_features(encode, features, feature_vectors, threshold)
    active = counts[counts > 0]
    return float(active.double().mean()) if len(active) else None
