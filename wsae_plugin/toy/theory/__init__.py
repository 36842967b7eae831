"""The WSAE theory as pure float64 functions of `feature_vectors` = W_pᵀ (arXiv 2506.15963)."""

from wsae_plugin.toy.theory.closed_form import (
    closed_form_encoder,
    distance_to_closed_form,
    zero_loss_encoder,
)
from wsae_plugin.toy.theory.decomposition import LossTerms, loss_terms, reconstruction_loss
from wsae_plugin.toy.theory.gap import gap_minimising_gamma, gap_norm, least_gap_norm
from wsae_plugin.toy.theory.interference import (
    effective_features,
    inverse_participation_ratio,
    least_positive_pair_share,
    positive_pair_share,
)
from wsae_plugin.toy.theory.moments import (
    FeatureMoments,
    activation_excess_kurtosis,
    activation_variance,
    sparse_uniform_moments,
)

__all__ = [
    "FeatureMoments",
    "LossTerms",
    "activation_excess_kurtosis",
    "activation_variance",
    "closed_form_encoder",
    "distance_to_closed_form",
    "effective_features",
    "gap_minimising_gamma",
    "gap_norm",
    "inverse_participation_ratio",
    "least_gap_norm",
    "least_positive_pair_share",
    "loss_terms",
    "positive_pair_share",
    "reconstruction_loss",
    "sparse_uniform_moments",
    "zero_loss_encoder",
]
