"""Is W_pᵀ the only minimiser as S → 1 (Theorem 2), and does no loss mean that x is recovered?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from wsae_plugin.toy.batched.activation import RELU, top_k
from wsae_plugin.toy.claims.claim import Check, Measured, Numbers
from wsae_plugin.toy.claims.search import (
    ZERO,
    best_encoders,
    binary_loss,
    limit_loss,
    top_one_solutions,
)
from wsae_plugin.toy.claims.worlds import (
    CROWDED_WORLDS,
    DIGON,
    ONE,
    OPPOSITE_TRIANGLE,
    PRINTED,
    TRIANGLE,
    TWO_DIGONS,
    UNIT_WORLDS,
    binary_features,
    simplex,
    single_features,
)
from wsae_plugin.toy.metrics import align_codes, ground_truth_loss
from wsae_plugin.toy.theory import distance_to_closed_form, zero_loss_encoder

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


def theorem_2() -> Measured:
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


def top_k_identity() -> Measured:
    """Appendix A.1, the proof of Theorem 2: Top-k written with ReLU and a step."""
    return {
        "printed": {"error": top_k_deviation(keeps_tie=True)},
        "correction": {"error": top_k_deviation(keeps_tie=False)},
    }


def top_k_threshold() -> Measured:
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
    return ground_truth_loss(codes, features, align_codes(codes, features)).all_dimensions


def sufficiency() -> Measured:
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


CHECKS: dict[str, Check] = {
    "v1-top-k-identity": top_k_identity,
    "v1-top-k-threshold": top_k_threshold,
    "v1-theorem-2": theorem_2,
    "v1-sufficiency": sufficiency,
}
