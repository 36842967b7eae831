"""An SAE's codes against the true features: are they the same numbers, and on the same samples?

`feature_acts` is (n_samples, d_sae), what the SAE makes of activations x_p; `features` is
(n_samples, n_features), the x behind them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sae_lens import synthetic
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from wsae_plugin.errors import BadInputError
from wsae_plugin.toy.metrics.matching import assign


def mcc_code(feature_acts: Tensor, features: Tensor) -> float:
    """Mean |Pearson correlation| of the one-to-one matched latents and features.

    In [0, 1], higher is better; 1: each matched pair of columns is affinely the same. The mean
    correlation coefficient of the identifiability literature (nonlinear ICA). A latent or feature
    that never varies correlates with nothing, 0. Chance falls with n_samples, as 1/√n_samples times
    a factor that grows with the number of columns; measure it with the rows of one side shuffled.
    See `assign` for the cost. Not to be mixed up with `mcc_decoder`.

    Args:
        feature_acts: shape (n_samples, d_sae).
        features: shape (n_samples, n_features).
    """
    pairs = assign(_centred(features).T, _centred(feature_acts).T)
    return float(pairs.cosines.abs().mean())


def align_codes(feature_acts: Tensor, features: Tensor) -> Tensor:
    """The latent assigned to each feature, one to one, for the smallest L_GT on these samples.

    The cost of latent j for feature i is E(x_i − z_j)² − E x_i², so that with d_sae < n_features
    the features left without a latent are the ones where that costs least. Up to cubic time, and
    d_sae · n_features numbers in memory.

    Args:
        feature_acts: shape (n_samples, d_sae).
        features: shape (n_samples, n_features).

    Returns:
        Shape (n_features,), int64; −1 for a feature without a latent.
    """
    codes, truth = feature_acts.detach().double(), features.detach().double()
    cost = codes.square().sum(dim=0) - 2 * truth.T @ codes
    rows, columns = linear_sum_assignment(cost.cpu().numpy())
    latents = torch.full((features.shape[1],), -1)
    latents[torch.from_numpy(rows)] = torch.from_numpy(columns)
    return latents.to(features.device)


@dataclass(frozen=True)
class GroundTruthLoss:
    """L_GT in units of E‖x‖²: lower is better, 0 is perfect, predicting zero gives 1.

    Attributes:
        all_dimensions: over all features; more than 1 is possible.
        nonzero_dimensions: only the terms with x_i ≠ 0, over the same E‖x‖². What it leaves out,
            all_dimensions − nonzero_dimensions ≥ 0, are activations where the feature is absent.
    """

    all_dimensions: float
    nonzero_dimensions: float


def ground_truth_loss(
    feature_acts: Tensor, features: Tensor, latent_of_feature: Tensor
) -> GroundTruthLoss:
    """L_GT = E‖x − z‖² over E‖x‖², z being the codes put in the order of the features.

    It compares values, so the codes must be in units of x: where the decoder's norms are free,
    multiply latent j by ‖W_dec[j]‖ / ‖feature_vectors[i]‖ first. Chance, the true values handed to
    the wrong samples, is 2 Var(x) / E‖x‖²: near 2 for sparse features, below 1 for dense ones.
    Source: arXiv 2506.15963 (L_Rec in its first version); relative and aligned here, which the
    paper leaves open.

    Args:
        feature_acts: shape (n_samples, d_sae).
        features: shape (n_samples, n_features), not all zero.
        latent_of_feature: shape (n_features,), of `align_codes` (on these or on other samples) or
            of `align_decoder`; −1 predicts zero.

    Raises:
        BadInputError: all features are zero.
    """
    truth = features.detach().double()
    energy = truth.square().sum()
    if energy == 0:
        raise BadInputError("features are all zero, so L_GT relative to E‖x‖² has no meaning.")
    codes = feature_acts.detach().double()[:, latent_of_feature] * (latent_of_feature >= 0)
    error = (truth - codes).square()
    return GroundTruthLoss(
        all_dimensions=float(error.sum() / energy),
        nonzero_dimensions=float(error[truth != 0].sum() / energy),
    )


@dataclass(frozen=True)
class LatentClassification:
    """Each latent as a detector of its feature; all of shape (d_sae,), in [0, 1], higher is better.

    Attributes:
        feature: the feature with the largest |cosine|, int64; latents may share one.
        precision: share of the latent's firings with the feature on; 0 if it never fires. Chance,
            for a latent that fires at random, is the feature's frequency.
        recall: share of the feature's occurrences with the latent on; 0 if there are none. Chance
            is the latent's firing rate.
        f1: their harmonic mean; 0 if both are 0.
    """

    feature: Tensor
    precision: Tensor
    recall: Tensor
    f1: Tensor


def classify_latents(
    feature_acts: Tensor, features: Tensor, W_dec: Tensor, feature_vectors: Tensor
) -> LatentClassification:
    """Precision, recall and F1 of every latent, from the counts of SAELens's calculator.

    Their means are what `sae_lens.synthetic.compute_classification_metrics` returns; a dead latent
    counts as 0 there. Firing is z ≠ 0, a feature is on where x > 0.

    Args:
        feature_acts: shape (n_samples, d_sae).
        features: shape (n_samples, n_features).
        W_dec: shape (d_sae, d_in).
        feature_vectors: shape (n_features, d_in).
    """
    counts = synthetic.ClassificationMetricsCalculator(W_dec.detach(), feature_vectors.detach())
    counts.add_batch(feature_acts.detach(), features.detach())
    # A count of zero below the line has zero above it, so any divisor gives SAELens's 0.
    precision = counts.tp / (counts.tp + counts.fp).clamp(min=1)
    recall = counts.tp / (counts.tp + counts.fn).clamp(min=1)
    f1 = 2 * counts.tp / (2 * counts.tp + counts.fp + counts.fn).clamp(min=1)
    return LatentClassification(counts.best_matches, precision, recall, f1)


def latent_variance(feature_acts: Tensor) -> Tensor:
    """Var(z_j) of each latent, shape (d_sae,), activation units², ≥ 0.

    ArXiv 2506.15963 (Figure 3d) reads higher as better. It grows with the square of the codes'
    scale, so compare it only between SAEs whose decoders have the same norms. Population variance.

    Args:
        feature_acts: shape (n_samples, d_sae).
    """
    return feature_acts.detach().double().var(dim=0, correction=0)


def l0(feature_acts: Tensor) -> float:
    """Mean number of latents with z ≠ 0 a sample, in [0, d_sae]; the data's own L0 is the goal.

    Source: `sae_lens.synthetic.L0Calculator`.

    Args:
        feature_acts: shape (n_samples, d_sae).
    """
    calculator = synthetic.L0Calculator()
    calculator.add_batch(feature_acts.detach())
    return calculator.compute()


def dead_latents(feature_acts: Tensor) -> int:
    """How many latents are 0 in every sample, in [0, d_sae]; lower is better.

    Falls with n_samples. Source: `sae_lens.synthetic.DeadLatentsCalculator`.

    Args:
        feature_acts: shape (n_samples, d_sae).
    """
    calculator = synthetic.DeadLatentsCalculator(feature_acts.shape[1])
    calculator.add_batch(feature_acts.detach())
    return calculator.compute()


def _centred(columns: Tensor) -> Tensor:
    columns = columns.detach().double()
    # The mean of a constant column may be off by a rounding error, which would look like a signal.
    varies = (columns != columns[:1]).any(dim=0)
    return (columns - columns.mean(dim=0)) * varies
