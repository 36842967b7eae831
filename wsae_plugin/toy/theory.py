"""The WSAE theory as pure float64 functions of `feature_vectors` = W_pᵀ (arXiv 2506.15963).

In order: the loss taken apart into the loss on the true features and the terms of the gap; the
encoders that the theory names; the matrix behind the gap's last term and the Γ that makes it
smallest; how features share the input space; moments of sparse features in closed form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma.moments import no_samples
from wsae_plugin.gamma.proxies import ProxyEvidence, interference


class LossTerms(NamedTuple):
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


def positive_pair_share(feature_vectors: Tensor, tolerance: float = 1e-9) -> float:
    """The share of pairs i < j with p_i·p_j > tolerance · ‖p_i‖‖p_j‖, in [0, 1].

    arXiv 2506.15963 assumes p_i·p_j ≤ 0 for all pairs where σ is ReLU: this is the share that
    violates it. No more than 2·d_in vectors can be without such a pair.

    Args:
        feature_vectors: W_pᵀ, shape (n_features, d_in).
        tolerance: a cosine below which a product counts as zero.

    Raises:
        BadInputError: there are fewer than two features.
    """
    n_features = len(feature_vectors)
    if n_features < 2:
        raise BadInputError(f"feature_vectors has {n_features} rows; pairs need two at least.")
    directions = torch.nn.functional.normalize(feature_vectors.double(), dim=1)
    cosines = directions @ directions.T
    rows, columns = torch.triu_indices(n_features, n_features, offset=1)
    return float((cosines[rows, columns] > tolerance).double().mean())


def inverse_participation_ratio(feature_vectors: Tensor) -> Tensor:
    """Σ_i W_qi⁴ / (Σ_i W_qi²)² of each dimension q, shape (d_in,), float64.

    1 where one feature alone uses the dimension, 1/m where m use it equally, 0 where none does.

    Args:
        feature_vectors: W_pᵀ, shape (n_features, d_in).
    """
    squares = feature_vectors.double().square()
    energy = squares.sum(dim=0)
    unused = energy == 0
    ratio = squares.square().sum(dim=0) / energy.square().masked_fill(unused, 1.0)
    return ratio.masked_fill(unused, 0.0)


def effective_features(feature_vectors: Tensor) -> Tensor:
    """How polysemantic each dimension is: 1 / `inverse_participation_ratio`, shape (d_in,).

    The number of features that share it, those with small weights counted in part; 0 where none.

    Args:
        feature_vectors: W_pᵀ, shape (n_features, d_in).
    """
    ratio = inverse_participation_ratio(feature_vectors)
    unused = ratio == 0
    return (1 / ratio.masked_fill(unused, 1.0)).masked_fill(unused, 0.0)


class FeatureMoments(NamedTuple):
    """Of one feature x_i.

    Attributes:
        mean: E x_i.
        variance: E(x_i − E x_i)².
        excess_kurtosis: E(x_i − E x_i)⁴ / variance² − 3.
    """

    mean: float
    variance: float
    excess_kurtosis: float


def sparse_uniform_moments(sparsity: float) -> FeatureMoments:
    """The moments of x_i = 0 with probability S, else uniform on [0, 1].

    E x_i^k = (1 − S)/(k + 1), centred.

    Args:
        sparsity: S, in [0, 1).

    Raises:
        BadInputError: S is not in [0, 1).
    """
    if not 0 <= sparsity < 1:
        raise BadInputError(
            f"sparsity is {sparsity}; S is the probability of a zero, at least 0 and below 1."
        )
    first, second, third, fourth = ((1 - sparsity) / (k + 1) for k in range(1, 5))
    variance = second - first**2
    centred_fourth = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
    return FeatureMoments(first, variance, centred_fourth / variance**2 - 3)


def activation_variance(feature_vectors: Tensor, feature_variance: float) -> Tensor:
    """Var(x_p[q]) = Var(x_i) Σ_i W_qi², for independent features of equal variance.

    The energy of a row of W_p: a dimension that m features use equally has m times the variance
    of one that a single feature uses.

    Args:
        feature_vectors: W_pᵀ, shape (n_features, d_in).
        feature_variance: Var(x_i).

    Returns:
        Shape (d_in,), float64, activation units².
    """
    return feature_variance * feature_vectors.double().square().sum(dim=0)


def activation_excess_kurtosis(feature_vectors: Tensor, feature_excess_kurtosis: float) -> Tensor:
    """κ_q = κ_x Σ_i W_qi⁴ / (Σ_i W_qi²)², for independent features of equal distribution.

    Fourth cumulants of independent terms add. It falls as more features share the dimension.

    Args:
        feature_vectors: W_pᵀ, shape (n_features, d_in).
        feature_excess_kurtosis: κ_x.

    Returns:
        Shape (d_in,), float64.
    """
    return feature_excess_kurtosis * inverse_participation_ratio(feature_vectors)
