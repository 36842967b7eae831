"""The matrix behind the last term of the gap, W_pᵀΓ²W_p − I, and the Γ that makes it smallest."""

from __future__ import annotations

import torch
from torch import Tensor

from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma.moments import no_samples
from wsae_plugin.gamma.proxies import ProxyEvidence, interference


def gap_norm(feature_vectors: Tensor, gamma: Tensor) -> float:
    """‖W_pᵀΓ²W_p − I‖_F² (arXiv 2506.15963, eq. 15, last term, without its error e).

    With K = W_pW_pᵀ and g = γ² it is gᵀ(K∘K)g − 2gᵀdiag(K) + n, so only d_in² numbers are held.

    Args:
        feature_vectors: W_pᵀ, shape (n_features, d_in).
        gamma: γ, shape (d_in,).
    """
    vectors, g = feature_vectors.double(), gamma.double().square()
    gram = vectors.T @ vectors
    return float(g @ gram.square() @ g - 2 * g @ gram.diagonal()) + len(vectors)


def least_gap_norm(n_features: int, d_in: int) -> int:
    """n − n_p: no matrix of rank n_p is closer to the identity of R^n, so the gap cannot vanish."""
    return max(0, n_features - d_in)


def gap_minimising_gamma(feature_vectors: Tensor) -> Tensor:
    """The γ ≥ 0 that minimise `gap_norm`: the weights that the theory itself asks for.

    The non-negative least squares problem of `wsae_plugin.gamma.proxies.interference`, with the
    true features in place of a decoder.

    Args:
        feature_vectors: W_pᵀ, shape (n_features, d_in), rows of unit norm.

    Returns:
        γ, shape (d_in,), float64; not normalized.

    Raises:
        BadInputError: a row has not unit norm.
    """
    norms = feature_vectors.double().norm(dim=1)
    if not torch.allclose(norms, torch.ones_like(norms), rtol=0, atol=1e-6):
        raise BadInputError(
            f"feature_vectors has rows with norms from {float(norms.min()):.4g} to "
            f"{float(norms.max()):.4g}; unit norms are needed: divide each row by its norm (and "
            "multiply the feature by it)."
        )
    d_in = feature_vectors.shape[1]
    evidence = ProxyEvidence(
        activations=no_samples(d_in),
        latents=no_samples(len(feature_vectors)),
        decoder=feature_vectors.double,
        file=None,
        seed=0,
    )
    return interference(evidence)
