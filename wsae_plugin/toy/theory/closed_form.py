"""Encoders that the theory names: its closed form, and the family that has no loss at all."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from wsae_plugin.errors import BadInputError


def closed_form_encoder(feature_vectors: Tensor, d_sae: int) -> Tensor:
    """W_m* = (W_p, 0)ᵀ, the features themselves above rows of zeros (arXiv 2506.15963, Theorem 1).

    The second version's I*(W_p, 0)ᵀ is any permutation of these rows.

    Args:
        feature_vectors: W_pᵀ, shape (n_features, d_in).
        d_sae: n_m, at least n_features.

    Returns:
        W_m, shape (d_sae, d_in), float64.

    Raises:
        BadInputError: d_sae is smaller than n_features.
    """
    n_features, d_in = feature_vectors.shape
    if d_sae < n_features:
        raise BadInputError(
            f"d_sae is {d_sae}; the closed form has a row for each of the {n_features} features, "
            f"so at least {n_features} are needed."
        )
    padding = feature_vectors.new_zeros(d_sae - n_features, d_in)
    return torch.cat([feature_vectors, padding]).double()


def distance_to_closed_form(encoder: Tensor, feature_vectors: Tensor) -> float:
    """min over permutations I* of ‖W_m − I*(W_p, 0)ᵀ‖_F, by the Hungarian assignment.

    0 exactly for the encoders that the second version of arXiv 2506.15963 calls the solution.

    Args:
        encoder: W_m, shape (d_sae, d_in), d_sae at least n_features.
        feature_vectors: W_pᵀ, shape (n_features, d_in).

    Raises:
        BadInputError: the encoder has fewer rows than there are features.
    """
    target = closed_form_encoder(feature_vectors, len(encoder))
    differences = encoder.double().unsqueeze(1) - target
    squares = differences.square().sum(dim=-1)
    rows, columns = linear_sum_assignment(squares.cpu().numpy())
    return float(squares[rows, columns].sum().sqrt())


def zero_loss_encoder(rotation: Tensor, d_sae: int) -> Tensor:
    """W_m = (Q; −Q; 0): ReLU(t) − ReLU(−t) = t gives W_mᵀReLU(W_m x_p) = QᵀQ x_p = x_p for all x_p.

    So with d_sae ≥ 2·d_in a tied ReLU SAE without a bias has no loss, whatever the features and
    their sparsity, and its loss identifies nothing.

    Args:
        rotation: Q, an orthogonal matrix, shape (d_in, d_in).
        d_sae: n_m, at least 2·d_in.

    Returns:
        W_m, shape (d_sae, d_in), float64.

    Raises:
        BadInputError: Q is not orthogonal, or d_sae is smaller than 2·d_in.
    """
    q = rotation.double()
    d_in = q.shape[-1]
    deviation = float((q.T @ q - torch.eye(d_in).to(q)).abs().max())
    if q.shape != (d_in, d_in) or deviation > 1e-9:
        raise BadInputError(
            f"rotation has shape {tuple(q.shape)} and max |QᵀQ − I| = {deviation:.2g}; an "
            "orthogonal matrix is needed, such as torch.linalg.qr(...).Q."
        )
    if d_sae < 2 * d_in:
        raise BadInputError(
            f"d_sae is {d_sae}; (Q; −Q) alone has 2·d_in = {2 * d_in} rows, so at least that many."
        )
    return torch.cat([q, -q, q.new_zeros(d_sae - 2 * d_in, d_in)])
