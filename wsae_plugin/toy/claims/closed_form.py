"""Is W_m = (W_p, 0)ᵀ right as S → 1, a minimiser and the only one (v1, §3.2.1, appendix A.1)?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from wsae_plugin.toy.batched.activation import RELU, top_k
from wsae_plugin.toy.claims.claim import Measured, Numbers
from wsae_plugin.toy.claims.search import (
    ZERO,
    best_encoders,
    binary_loss,
    limit_loss,
    superposed_features,
    top_one_solutions,
)
from wsae_plugin.toy.claims.worlds import (
    CROWDED_WORLDS,
    DIGON,
    OBTUSE_WORLDS,
    ONE,
    OPPOSITE_TRIANGLE,
    PRINTED,
    PRINTED_EXACT,
    TRIANGLE,
    TWO_DIGONS,
    UNIT_WORLDS,
    binary_features,
    exact,
    exact_relu,
    exact_square,
    random_features,
    simplex,
    single_features,
)
from wsae_plugin.toy.metrics import code_sums
from wsae_plugin.toy.theory import (
    closed_form_encoder,
    distance_to_closed_form,
    positive_pair_share,
    zero_loss_encoder,
)


def recovery_error(feature_vectors: Tensor, activation: Callable[[Tensor], Tensor]) -> float:
    """max over u and latents of |σ(W_pᵀp_u) − e_u|: how far single features are from recovered."""
    codes = activation(feature_vectors @ feature_vectors.T)
    return float((codes - single_features(feature_vectors)).abs().max())


def v1_equation_10() -> Measured:
    """§3.2.1: the closed form's codes of one feature."""
    sparsity, n = 1 - Fraction(1, 10**9), 200
    one_given_any = n * sparsity ** (n - 1) * (1 - sparsity) / (1 - sparsity**n)
    parallel = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    return {
        "printed": {
            "probability_of_several_features": float(1 - one_given_any),
            "relu_error_long_digon": recovery_error(2 * DIGON, RELU),
            "top_k_error_parallel": min(recovery_error(parallel, top_k(k)) for k in (1, 2)),
        },
        "condition": {
            "relu_error_unit_norm": max(recovery_error(world, RELU) for world in OBTUSE_WORLDS),
            "top_1_error_unit_norm": max(
                recovery_error(world, top_k(1)) for world in CROWDED_WORLDS
            ),
        },
    }


def limit_ratio(factor: int) -> Fraction:
    """L_SAE over factor·Sⁿ⁻¹(1−S)Σ_u L_u at S = 1 − 10⁻⁶, exactly.

    For the printed W_p, W_m = 0 and x ∈ {0, 1}ⁿ, so that L_u = ‖p_u‖² and L_SAE = E‖x_p‖².
    """
    n = len(PRINTED_EXACT)
    sparsity = 1 - Fraction(1, 10**6)
    loss = Fraction(0)
    for pattern in np.ndindex(*[2] * n):
        n_active = sum(pattern)
        chance = (1 - sparsity) ** n_active * sparsity ** (n - n_active)
        loss += chance * exact_square(exact(pattern) @ PRINTED_EXACT)
    return loss / (factor * sparsity ** (n - 1) * (1 - sparsity) * exact_square(PRINTED_EXACT))


def v1_equation_19() -> Measured:
    """Appendix A.1, eqs. 19 and 21: the loss to first order in 1 − S."""
    return {
        "printed": {"ratio_error": float(abs(limit_ratio(len(PRINTED)) - 1))},
        "correction": {"ratio_error": float(abs(limit_ratio(1) - 1))},
    }


def excess_over_search(encoder: Tensor, feature_vectors: Tensor) -> float:
    """The ReLU limit loss less the least of a search from 5 starts; ≤ 0 for a minimiser."""
    best = best_encoders(feature_vectors, len(encoder), n_starts=5)[0].loss
    return limit_loss(encoder, feature_vectors) - best


def superposition_limit(feature_vectors: Tensor) -> Tensor:
    """‖ReLU(W_pᵀW_p) − I‖_F², the limit S → 1 of L_Sup / ((1 − S) E[x_u² | x_u > 0])."""
    products = feature_vectors @ feature_vectors.T
    return (products.relu() - single_features(feature_vectors)).square().sum()


def stationarity_error(feature_vectors: Tensor) -> float:
    """max |¼∇L_Sup − (W_pReLU(W_pᵀW_p) − W_p)| in the limit S → 1, at any W_p."""
    vectors = feature_vectors.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(superposition_limit(vectors), vectors)
    residual = (feature_vectors @ feature_vectors.T).relu() @ feature_vectors - feature_vectors
    return float((gradient / 4 - residual).abs().max())


def v1_theorem_1() -> Measured:
    """Theorem 1 of the first version."""
    sizes = [(2, 1), (3, 1), (4, 2), (5, 2), (7, 3)]
    learned = [superposed_features(n, d_in) for n, d_in in sizes]
    crowded = [world for world in learned if len(world) > 2 * world.shape[1]]
    random = [(0.5 + seed) * random_features(6, 3, seed) for seed in range(5)]
    shared, rival = torch.tensor(
        [[[0.5**0.5], [0.5**0.5], [-1]], [[1], [0], [-1]]], dtype=torch.float64
    )
    return {
        "printed": {
            "relu_excess": max(excess_over_search(world, world) for world in learned),
            "superposition_excess": float(
                superposition_limit(shared) - superposition_limit(learned[1])
            ),
            "top_1_excess": limit_loss(shared, shared, top_k(1))
            - limit_loss(rival, shared, top_k(1)),
        },
        "condition": {
            "identity_error": max(stationarity_error(world) for world in random),
            "relu_loss": max(limit_loss(world, world) for world in learned),
            "positive_pairs": min(positive_pair_share(world) for world in crowded),
        },
    }


def limit_gradient(encoder: Tensor, feature_vectors: Tensor) -> Tensor:
    """∂/∂W_m of the ReLU limit loss, by automatic differentiation, shape (d_sae, d_in)."""
    parameter = encoder.clone().requires_grad_()
    codes = (feature_vectors @ parameter.T).relu()
    loss = (feature_vectors - codes @ parameter).square().sum()
    return torch.autograd.grad(loss, parameter)[0]


def printed_gradient(encoder: Tensor, feature_vectors: Tensor) -> Tensor:
    """Eq. 23's last line: 2Σ_u H(w_k·p_u)(w_k·d_u)p_u + ReLU(w_k·p_u)d_u, d = x̃_p − x_p."""
    codes = (feature_vectors @ encoder.T).relu()
    difference = codes @ encoder - feature_vectors
    active = (codes > 0).to(codes)
    slopes = (active * (difference @ encoder.T)).T @ feature_vectors
    return 2 * (slopes + codes.T @ difference)


def v1_equation_24() -> Measured:
    """Appendix A.1, eqs. 23–25: where the gradient vanishes."""
    dead_latent = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    pairs = [
        (1.5 * random_features(5, 3, seed + 5), random_features(5, 3, seed)) for seed in range(5)
    ]
    without_loss = [(PRINTED, PRINTED), (TRIANGLE, TRIANGLE), (OPPOSITE_TRIANGLE, TRIANGLE)]
    return {
        "printed": {
            "formula_error": max(
                float((printed_gradient(*pair) - limit_gradient(*pair)).abs().max())
                for pair in pairs
            ),
            "gradient": float(limit_gradient(dead_latent, PRINTED).norm()),
            "residual": limit_loss(dead_latent, PRINTED) ** 0.5,
        },
        "correction": {
            "gradient_without_loss": max(
                float(limit_gradient(*pair).norm()) for pair in without_loss
            )
        },
    }


def v1_theorem_1_top_k() -> Measured:
    """Appendix A.1, the proof of Theorem 1: which k recover single features."""
    vectors = exact((1, 0), (Fraction(3, 5), Fraction(4, 5)), (0, 1))
    world = torch.from_numpy(vectors.astype(float))
    gram = vectors @ vectors.T
    # Top-2 keeps 1 and 3/5 of p_1's products (1, 3/5, 0); no product is negative, so p = 0.
    reconstruction = exact_relu(gram[:1, :2]) @ vectors[:2]
    identity = closed_form_encoder(torch.eye(2), 3)
    worlds = (world, PRINTED, TRIANGLE, *CROWDED_WORLDS)
    return {
        "printed": {
            "top_2_loss": exact_square(vectors[:1] - reconstruction),
            "top_2_least_loss": limit_loss(identity, world, top_k(2)),
            "top_2_loss_printed_world": limit_loss(PRINTED, PRINTED, top_k(2)),
        },
        "correction": {
            "top_1_error": max(recovery_error(world, top_k(1)) for world in worlds),
            "top_1_loss": max(limit_loss(world, world, top_k(1)) for world in worlds),
        },
    }


AXES_AND_DIGON = torch.block_diag(ONE, ONE, DIGON)

TURNED_DIGONS = zero_loss_encoder(torch.tensor([[0.6, 0.8], [-0.8, 0.6]], dtype=torch.float64), 4)
"""(Q; −Q) with Q a turn of the plane: a rival of (I; −I), which is `TWO_DIGONS`."""


def rivals_distance(
    encoder: Tensor, feature_vectors: Tensor, sparsities: Sequence[float] = ()
) -> float:
    """How far an encoder without loss is from W_pᵀ, rows in any order; 0 if it has a loss.

    Args:
        encoder: W_m, shape (n_features, d_in).
        feature_vectors: W_pᵀ, the same shape.
        sparsities: the S at which it has to be without loss as well (x in {0, 1}ⁿ, all patterns),
            not in the limit S → 1 alone; with a loss it is no rival.
    """
    losses = [binary_loss(encoder, feature_vectors, sparsity) for sparsity in sparsities]
    if max(losses, default=0.0) > ZERO or limit_loss(encoder, feature_vectors) > ZERO:
        return 0.0
    return distance_to_closed_form(encoder, feature_vectors)


def farthest_rivals(worlds: Mapping[str, Tensor]) -> Numbers:
    """The largest `rivals_distance` among the minima that a search finds, n_m = n, ReLU, S → 1."""
    return {
        f"relu_{name}": max(
            rivals_distance(one.matrix, world)
            for one in best_encoders(world, len(world), n_starts=60)
        )
        for name, world in worlds.items()
    }


def farthest_minimiser(feature_vectors: Tensor) -> float:
    """How far from W_pᵀ, rows in any order, the ReLU SAE's minimisers at S = 0.99 are; n_m = n.

    The farthest of the best of 20 starts: those within 1 % of the least loss, x in {0, 1}ⁿ.
    """
    features, probabilities = binary_features(len(feature_vectors), 0.99)
    found = best_encoders(
        features @ feature_vectors, len(feature_vectors), 20, probabilities=probabilities
    )
    return max(
        distance_to_closed_form(one.matrix, feature_vectors)
        for one in found
        if one.loss <= 1.01 * found[0].loss + ZERO
    )


def top_one_rivals(worlds: Sequence[Tensor]) -> Numbers:
    """Are the encoders that Top-1 gives no loss the permutations of W_pᵀ, all n! and no more?"""
    solutions = [(world, top_one_solutions(world)) for world in worlds]
    return {
        "top_1_distance": max(
            distance_to_closed_form(encoder, world)
            for world, encoders in solutions
            for encoder in encoders
        ),
        "top_1_surplus": max(
            abs(len(encoders) - math.factorial(len(world))) for world, encoders in solutions
        ),
    }


def v1_theorem_2() -> Measured:
    """Theorem 2 of the first version."""
    swapped = PRINTED[[1, 0, 2]]
    found = {
        "a_digon": DIGON,
        "of_the_examples": PRINTED,
        "a_triangle": TRIANGLE,
        "two_digons": TWO_DIGONS,
        "a_tetrahedron": simplex(3),
        "two_axes_and_a_digon": AXES_AND_DIGON,
    }
    one_digon_at_most = (PRINTED, TRIANGLE, simplex(3), AXES_AND_DIGON)
    return {
        "printed": {
            "opposite_triangle": rivals_distance(OPPOSITE_TRIANGLE, TRIANGLE),
            "turned_digons": rivals_distance(TURNED_DIGONS, TWO_DIGONS, (0.0, 0.5, 0.9)),
            # The order counts here, as it does in the statement.
            "swapped_rows": float((swapped - PRINTED).norm())
            * (limit_loss(swapped, PRINTED) <= ZERO),
            **farthest_rivals(found),
        },
        "correction": {
            **top_one_rivals(UNIT_WORLDS),
            "relu_near_the_limit": max(farthest_minimiser(world) for world in one_digon_at_most),
            "relu_near_the_limit_two_digons": farthest_minimiser(TWO_DIGONS),
        },
    }


def top_k_deviation(*, keeps_tie: bool) -> Fraction:
    """max |ReLU(x − x_(k+1)) + x_(k+1)H(x − x_(k+1)) − Top-k(x)|, H(0) being 1 (as printed) or 0.

    Over all k and 20 vectors x of six different positive integers.
    """
    generator = np.random.default_rng(0)
    worst = 0
    for _ in range(20):
        values = torch.from_numpy(generator.permutation(9)[:6] + 1)
        for k in range(1, len(values)):
            threshold = values.sort(descending=True).values[k]
            step = values >= threshold if keeps_tie else values > threshold
            written = (values - threshold).relu() + threshold * step
            worst = max(worst, int((written - top_k(k)(values)).abs().max()))
    return Fraction(worst)


def v1_top_k_identity() -> Measured:
    """Appendix A.1, the proof of Theorem 2: Top-k written with ReLU and a step."""
    return {
        "printed": {"error": top_k_deviation(keeps_tie=True)},
        "correction": {"error": top_k_deviation(keeps_tie=False)},
    }


def v1_top_k_threshold() -> Measured:
    """Appendix A.1, the end of the proof of Theorem 2: when 0 < c_u < ‖p_u‖²."""
    second_entries = PRINTED.sort(dim=1, descending=True).values[:, 1]
    worlds = (PRINTED, TRIANGLE, simplex(3), *CROWDED_WORLDS)
    products = [(world @ world.T).sort(dim=1, descending=True).values for world in worlds]
    return {
        "printed": {"least_c": float(second_entries.min())},
        "correction": {
            "least_margin": min(
                float((sorted_[:, 0] - sorted_[:, 1]).min()) for sorted_ in products
            )
        },
    }


def aligned_error(
    encoder: Tensor, feature_vectors: Tensor, activation: Callable[[Tensor], Tensor] = RELU
) -> float:
    """L_GT / E‖x‖² on single features, latents in the best order; 0 if the encoder has a loss."""
    if limit_loss(encoder, feature_vectors, activation) > ZERO:
        return 0.0
    features = single_features(feature_vectors)
    codes = activation(feature_vectors @ encoder.T)
    return float(code_sums(codes, features).ground_truth_loss().all_dimensions)


def v1_sufficiency() -> Measured:
    """§3.2.1, after Theorem 2: the three conditions suffice for identifiability."""
    split = torch.cat([0.6 * PRINTED[:1], 0.8 * PRINTED[:1], PRINTED[1:]])
    return {
        "printed": {
            "turned": aligned_error(TURNED_DIGONS, TWO_DIGONS),
            "triangle": aligned_error(OPPOSITE_TRIANGLE, TRIANGLE),
            "split": aligned_error(split, PRINTED),
        },
        "condition": {
            "top_1_error": max(
                aligned_error(encoder, world, top_k(1))
                for world in UNIT_WORLDS
                for encoder in top_one_solutions(world)
            ),
            "top_1_spare_error": max(
                aligned_error(torch.cat([world, 0.5 * world[:1]]), world, top_k(1))
                for world in UNIT_WORLDS
            ),
        },
    }
