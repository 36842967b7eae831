"""A decoder against the true directions: which features it found, and how many latents found one.

A decoder W_dec is (d_sae, d_in), the truth `feature_vectors` (n_features, d_in); neither's norms
matter. Chance is the level of a decoder of random directions. With F(t) = P(cosine ≤ t), where
(cosine + 1)/2 ~ Beta((d_in − 1)/2, (d_in − 1)/2), the best of m random directions stays below t
with probability F(t)^m.
"""

from __future__ import annotations

import torch
from sae_lens import synthetic
from torch import Tensor

from wsae_plugin.toy.metrics.matching import assign, best_matches


def mcc_decoder(W_dec: Tensor, feature_vectors: Tensor) -> float:
    """Mean |cosine| of the one-to-one matched latents and features; SAELens's "MCC".

    In [0, 1], higher is better, 1: every feature (or, with d_sae < n_features, every latent) has
    a partner with its direction or the opposite one. What the larger side has left over is not
    counted, so chance rises with d_sae; for 128 random latents and features in 42 dimensions it
    is 0.40. Source: `sae_lens.synthetic.mean_correlation_coefficient` (arXiv 2505.20254). It holds
    all d_sae · n_features cosines; see `assign` for the cost. Not to be mixed up with `mcc_code`.

    Args:
        W_dec: shape (d_sae, d_in).
        feature_vectors: shape (n_features, d_in).
    """
    # In float64, so that equal dictionaries score 1 to its rounding, not to float32's.
    return synthetic.mean_correlation_coefficient(
        W_dec.detach().double(), feature_vectors.detach().double()
    )


def mmcs(vectors: Tensor, candidates: Tensor) -> float:
    """Mean over the vectors of the largest signed cosine with any candidate.

    In [−1, 1], higher is better. mmcs(feature_vectors, W_dec) is recall-like: was each feature
    found? mmcs(W_dec, feature_vectors) is precision-like: is each latent a feature? The two differ,
    and the first never falls when latents are added. Chance with m candidates is
    1 − ∫ F(t)^m dt over [−1, 1], F as above: 0.39 for m = 128 in 42 dimensions. Source: MMCS in
    arXiv 2309.08600. Needs a block of cosines, so it suits any d_sae.

    Args:
        vectors: shape (n, d_in).
        candidates: shape (m, d_in).
    """
    return float(best_matches(vectors, candidates)[0].mean())


def feature_recovery_rate(W_dec: Tensor, feature_vectors: Tensor, threshold: float) -> float:
    """FRR(τ): share of the features v_i with max_m cos(w_m, v_i) ≥ τ, signed.

    In [0, 1], higher is better; never rises with τ, never falls when latents are added. Chance is
    1 − F(τ)^d_sae, F as above: 8e-9 for τ = 0.8 and 128 latents in 42 dimensions. Source:
    arXiv 2506.14002. Needs a block of cosines, so it suits any d_sae.

    Args:
        W_dec: shape (d_sae, d_in).
        feature_vectors: shape (n_features, d_in).
        threshold: τ, a cosine.
    """
    cosines, _ = best_matches(feature_vectors, W_dec)
    return float((cosines >= threshold).double().mean())


def feature_uniqueness(W_dec: Tensor, feature_vectors: Tensor) -> float:
    """Number of features that are some latent's best |cosine| match, over d_sae.

    In (0, min(1, n_features/d_sae)], higher is better: 1 means that no two latents follow the same
    feature. It does not ask how good the matches are, so chance is high: n/d · (1 − (1 − 1/n)^d)
    for d = d_sae random latents and n features, 0.63 when they are equally many. Source:
    `sae_lens.synthetic.feature_uniqueness`.

    Args:
        W_dec: shape (d_sae, d_in).
        feature_vectors: shape (n_features, d_in).
    """
    return synthetic.feature_uniqueness(W_dec.detach(), feature_vectors.detach())


def align_decoder(W_dec: Tensor, feature_vectors: Tensor) -> Tensor:
    """The latent assigned to each feature, one to one, for the largest sum of |cosine|.

    Args:
        W_dec: shape (d_sae, d_in).
        feature_vectors: shape (n_features, d_in).

    Returns:
        Shape (n_features,), int64; −1 where d_sae < n_features left a feature without a latent.
    """
    pairs = assign(feature_vectors, W_dec)
    latents = torch.full((len(feature_vectors),), -1, device=feature_vectors.device)
    latents[pairs.first] = pairs.second
    return latents
