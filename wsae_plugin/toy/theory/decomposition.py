"""The SAE's loss taken apart: the loss on the true features, and the three terms of the gap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wsae_plugin.errors import BadInputError


@dataclass(frozen=True)
class LossTerms:
    """L_WSAE = L_GT + gap, term by term; z are the codes and e = x − z.

    Attributes:
        ground_truth: L_GT = E‖x − z‖² (L_Rec in the first version), code j standing for feature j.
        decoder_mismatch: E‖Γ(W_m − W_pᵀ)ᵀz‖².
        cross: −2 E zᵀ(W_m − W_pᵀ)Γ²W_p e. The papers' first version prints a plus.
        interference: E eᵀ(W_pᵀΓ²W_p − I)e.
    """

    ground_truth: float
    decoder_mismatch: float
    cross: float
    interference: float

    @property
    def gap(self) -> float:
        """L_WSAE − L_GT; with Γ = I, L_SAE − L_GT."""
        return self.decoder_mismatch + self.cross + self.interference

    @property
    def total(self) -> float:
        """L_WSAE; with Γ = I, L_SAE."""
        return self.ground_truth + self.gap


def reconstruction_loss(
    encoder: Tensor,
    activations: Tensor,
    *,
    gamma: Tensor | None = None,
    probabilities: Tensor | None = None,
    activation: Callable[[Tensor], Tensor] = torch.relu,
) -> float:
    """L_WSAE = E‖Γ(x_p − W_mᵀσ(W_m x_p))‖², the SAE being tied and without biases.

    Source: arXiv 2506.15963, eq. 14; eq. 6 for Γ = I.

    Args:
        encoder: W_m, shape (d_sae, d_in).
        activations: x_p, shape (n_samples, d_in).
        gamma: γ, shape (d_in,); None is Γ = I.
        probabilities: of the samples, shape (n_samples,); None makes them equal.
        activation: σ.
    """
    encoder, activations = encoder.double(), activations.double()
    residual = activations - activation(activations @ encoder.T) @ encoder
    if gamma is not None:
        residual = residual * gamma.double()
    return _mean(residual.square().sum(dim=1), probabilities)


def loss_terms(
    encoder: Tensor,
    feature_vectors: Tensor,
    features: Tensor,
    *,
    gamma: Tensor | None = None,
    probabilities: Tensor | None = None,
    activation: Callable[[Tensor], Tensor] = torch.relu,
) -> LossTerms:
    """The decompositions of arXiv 2506.15963 (Theorems 3 and 4, first version), one sign mended.

    From x_p − W_mᵀz = W_p e + (W_pᵀ − W_m)ᵀz, weighted by Γ and squared. The terms sum to
    `reconstruction_loss` to rounding, for every W_m and Γ.

    Args:
        encoder: W_m, shape (n_features, d_in): code j stands for feature j.
        feature_vectors: W_pᵀ, shape (n_features, d_in).
        features: x, shape (n_samples, n_features).
        gamma: γ, shape (d_in,); None is Γ = I.
        probabilities: of the samples, shape (n_samples,); None makes them equal.
        activation: σ.

    Raises:
        BadInputError: the encoder has not the shape of the feature vectors.
    """
    if encoder.shape != feature_vectors.shape:
        raise BadInputError(
            f"encoder has shape {tuple(encoder.shape)}; the decomposition compares code j with "
            f"feature j, so it needs that of feature_vectors, {tuple(feature_vectors.shape)}."
        )
    encoder, vectors, x = encoder.double(), feature_vectors.double(), features.double()
    scale = torch.ones(vectors.shape[1]).to(vectors) if gamma is None else gamma.double()
    z = activation(x @ vectors @ encoder.T)
    error = x - z
    projected = (error @ vectors) * scale
    mismatch = (z @ (encoder - vectors)) * scale
    ground_truth = error.square().sum(dim=1)
    return LossTerms(
        ground_truth=_mean(ground_truth, probabilities),
        decoder_mismatch=_mean(mismatch.square().sum(dim=1), probabilities),
        cross=_mean(-2 * (mismatch * projected).sum(dim=1), probabilities),
        interference=_mean(projected.square().sum(dim=1) - ground_truth, probabilities),
    )


def _mean(values: Tensor, probabilities: Tensor | None) -> float:
    return float(values.mean() if probabilities is None else values @ probabilities.double())
