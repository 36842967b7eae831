"""SAEs against a known truth: their codes, their decoder, and what a single feature activates.

What concerns codes is batch-first: any leading dimensions are replicas, and none is one SAE. The
sums over samples are all that the metrics of codes need, so samples may come a chunk at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from wsae_plugin.errors import BadInputError
from wsae_plugin.measures.matching import best_matches

# The midpoints of 16 bins of [0, 1], on which a feature that fires is uniform.
_MAGNITUDES = (torch.arange(16) + 0.5) / 16


class GroundTruthLoss(NamedTuple):
    """L_GT in units of E‖x‖² of every replica: 0 is perfect, predicting zero gives 1.

    Attributes:
        all_dimensions: over all features, shape (...); more than 1 is possible.
        nonzero_dimensions: only the terms with x_i ≠ 0, over the same E‖x‖². What it leaves out,
            all_dimensions − nonzero_dimensions ≥ 0, are activations where the feature is absent.
    """

    all_dimensions: Tensor
    nonzero_dimensions: Tensor


@dataclass(frozen=True)
class CodeSums:
    """Sums over samples of features x and codes z, float64; add those of other samples with +.

    Attributes:
        n_samples: how many.
        xx: Σ x_i², shape (..., n_features).
        xz: Σ x_i z_j, shape (..., n_features, d_sae).
        zz: Σ z_j², shape (..., d_sae).
        zz_on: Σ z_j² over the samples in which x_i > 0, shape (..., n_features, d_sae).
        z: Σ z_j, shape (..., d_sae).
        firings: samples in which z_j is not 0, shape (..., d_sae).
    """

    n_samples: Tensor
    xx: Tensor
    xz: Tensor
    zz: Tensor
    zz_on: Tensor
    z: Tensor
    firings: Tensor

    def __add__(self, other: CodeSums) -> CodeSums:
        each = (getattr(self, field.name) + getattr(other, field.name) for field in fields(self))
        return CodeSums(*each)

    @property
    def alignment(self) -> Tensor:
        """The latent of each feature, one to one, for the smallest L_GT, (..., n_features), int64.

        −1 is a feature without a latent: with d_sae < n_features those where that costs least. The
        cost of latent j for feature i is E(x_i − z_j)² − E x_i². Up to cubic time.
        """
        return _assigned(self.zz.unsqueeze(-2) - 2 * self.xz)

    def ground_truth_loss(self, latent_of_feature: Tensor | None = None) -> GroundTruthLoss:
        """L_GT = E‖x − z‖² over E‖x‖², z being the codes put in the order of the features.

        It compares values, so the codes must be in units of x: where the decoder's norms are free,
        multiply latent j by ‖W_dec[j]‖ first. Chance, the true values handed to the wrong samples,
        is 2 Var(x) / E‖x‖²: near 2 for sparse features, below 1 for dense ones. Source:
        arXiv 2506.15963, eq. 12 (L_Rec in its first version); relative and aligned here, which the
        paper leaves open.

        Args:
            latent_of_feature: shape (..., n_features), of `alignment` on other samples; −1 predicts
                zero. None is `alignment` on these.

        Raises:
            BadInputError: all features are zero.
        """
        total = self.xx.sum(dim=-1)
        if (total == 0).any():
            raise BadInputError("features are all zero, so L_GT relative to E‖x‖² has no meaning.")
        latents = self.alignment if latent_of_feature is None else latent_of_feature
        change = self.zz.unsqueeze(-2) - 2 * self.xz
        nonzero = self.zz_on - 2 * self.xz
        return GroundTruthLoss(
            1 + _picked(change, latents) / total, 1 + _picked(nonzero, latents) / total
        )

    @property
    def scaled_loss(self) -> Tensor:
        """L_GT with the best factor for each latent and an assignment of its own, at most 1."""
        gain = self.xz.clamp(min=0).square() / self.zz.unsqueeze(-2).clamp(min=1e-30)
        return 1 - _picked(gain, _assigned(-gain)) / self.xx.sum(dim=-1)

    @property
    def latent_variance(self) -> Tensor:
        """Var(z_j), shape (..., d_sae), activation units², ≥ 0; population variance.

        ArXiv 2506.15963 (Figure 3d) reads higher as better. It grows with the square of the codes'
        scale, so compare it only between SAEs whose decoders have the same norms.
        """
        return self.zz / self.n_samples - (self.z / self.n_samples).square()

    @property
    def l0(self) -> Tensor:
        """Mean number of latents with z ≠ 0 a sample, shape (...); the data's own is the goal."""
        return self.firings.sum(dim=-1) / self.n_samples

    @property
    def dead(self) -> Tensor:
        """Share of the latents that are 0 in every sample, shape (...); it falls with n_samples."""
        return (self.firings == 0).double().mean(dim=-1)


def code_sums(feature_acts: Tensor, features: Tensor) -> CodeSums:
    """Sum over samples what the metrics of codes need.

    Args:
        feature_acts: what the SAE makes of the activations, shape (..., n_samples, d_sae).
        features: the x ≥ 0 behind them, shape (..., n_samples, n_features).
    """
    z, x = feature_acts.detach(), features.detach()
    xt = x.transpose(-1, -2)
    sums = (
        x.square().sum(dim=-2),
        xt @ z,
        z.square().sum(dim=-2),
        (xt > 0).to(z) @ z.square(),
        z.sum(dim=-2),
        (z != 0).sum(dim=-2),
    )
    return CodeSums(torch.tensor(x.shape[-2]), *(one.double() for one in sums))


def feature_recovery_rate(W_dec: Tensor, feature_vectors: Tensor, threshold: float) -> float:
    """Compute FRR(τ): the share of the features v_i with max_m cos(w_m, v_i) ≥ τ, signed.

    In [0, 1], higher is better; never rises with τ, never falls when latents are added. With
    F(t) = P(cosine ≤ t), where (cosine + 1)/2 ~ Beta((d_in − 1)/2, (d_in − 1)/2), chance is
    1 − F(τ)^d_sae: 8e-9 for τ = 0.8 and 128 latents in 42 dimensions. Source:
    arXiv 2506.14002. Needs a block of cosines, so it suits any d_sae.

    Args:
        W_dec: shape (d_sae, d_in).
        feature_vectors: shape (n_features, d_in).
        threshold: τ, a cosine.
    """
    cosines, _ = best_matches(feature_vectors, W_dec)
    return float((cosines >= threshold).double().mean())


@torch.no_grad()
def activated_features(
    encode: Callable[[Tensor], Tensor], feature_vectors: Tensor, threshold: float = 0.1
) -> Tensor:
    """Count the features that activate each latent when they are alone (Figure 2's metric).

    M^i_j is the mean activation of latent j over the samples in which feature i is not 0 and all
    others are removed. Latent j counts feature i if M^i_j > threshold · max_i M^i_j. The paper
    (arXiv 2506.15963, Section 5.1) takes a sum over all samples and an absolute threshold that it
    does not print; this one grows neither with the sample, nor with a feature's frequency, nor with
    a latent's scale. The mean over x_i, uniform on [0, 1], is taken at 16 midpoints: a bias-free
    SAE has it exactly. A latent of a random linear encoder counts about 0.4 n_features, for 200
    features in 20 dimensions, and with a ReLU as many.

    Args:
        encode: activations (..., n_samples, d_in) → codes (..., n_samples, d_sae).
        feature_vectors: shape (..., n_features, d_in).
        threshold: in [0, 1), relative to the latent's largest M.

    Returns:
        Shape (..., d_sae), int64, in [0, n_features]: 0 for a latent that no feature activates, 1
        for a monosemantic one. One call of `encode`, of 16 · n_features samples.

    Raises:
        BadInputError: the threshold is out of range.
    """
    if not 0 <= threshold < 1:
        raise BadInputError(f"threshold is {threshold}; a share of the largest M, in [0, 1).")
    alone = feature_vectors.unsqueeze(-2) * _MAGNITUDES.to(feature_vectors).unsqueeze(-1)
    codes = encode(alone.flatten(-3, -2))
    response = codes.unflatten(-2, (feature_vectors.shape[-2], -1)).mean(dim=-2)
    strongest = response.amax(dim=-2, keepdim=True)
    return ((response > threshold * strongest) & (response > 0)).sum(dim=-2)


def _assigned(cost: Tensor) -> Tensor:
    """The column of each row in the cheapest assignment, (..., n_rows); −1 where it has none."""
    columns = torch.full((cost.shape[:-2].numel(), cost.shape[-2]), -1)
    for found, one in zip(columns, cost.reshape(-1, *cost.shape[-2:]).cpu().numpy(), strict=True):
        rows, chosen = linear_sum_assignment(one)
        found[rows] = torch.from_numpy(chosen)
    return columns.view(cost.shape[:-1]).to(cost.device)


def _picked(table: Tensor, columns: Tensor) -> Tensor:
    """The sum over the rows of (..., n_rows, n_columns) of what stands in these columns.

    All replicas have as many rows without one.
    """
    has = columns >= 0
    values = table.gather(-1, columns.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return values[has].view(*columns.shape[:-1], -1).sum(dim=-1)
