"""Is W_pᵀ the only minimiser as S → 1 (first version, Theorem 2)?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from wsae_plugin.toy.claims.claim import Claim, Evidence, Statement
from wsae_plugin.toy.claims.search import ZERO, best_encoders, limit_loss, top_one_solutions
from wsae_plugin.toy.claims.worlds import (
    DIGON,
    ONE,
    OPPOSITE_TRIANGLE,
    PRINTED,
    TRIANGLE,
    TWO_DIGONS,
    UNIT_WORLDS,
    binary_features,
    simplex,
)
from wsae_plugin.toy.theory import (
    distance_to_closed_form,
    reconstruction_loss,
    zero_loss_encoder,
)

AXES_AND_DIGON = torch.block_diag(ONE, ONE, DIGON)


def rivals_distance(
    encoder: Tensor,
    feature_vectors: Tensor,
    *,
    any_order: bool = True,
    every_sparsity: bool = False,
) -> float:
    """How far an encoder without loss is from W_pᵀ; 0 if it has a loss, and so is no rival.

    Args:
        encoder: W_m, shape (n_features, d_in).
        feature_vectors: W_pᵀ, the same shape.
        any_order: whether another order of the rows counts as the same.
        every_sparsity: whether it has to be without loss at S = 0, 0.5 and 0.9 as well (x in
            {0, 1}ⁿ, all patterns), not in the limit S → 1 alone.
    """
    losses = [limit_loss(encoder, feature_vectors)]
    for sparsity in (0.0, 0.5, 0.9) if every_sparsity else ():
        features, probabilities = binary_features(len(feature_vectors), sparsity)
        activations = features @ feature_vectors
        losses.append(reconstruction_loss(encoder, activations, probabilities=probabilities))
    if max(losses) > ZERO:
        return 0.0
    if any_order:
        return distance_to_closed_form(encoder, feature_vectors)
    return float((encoder - feature_vectors).norm())


def farthest_rival(feature_vectors: Tensor, n_starts: int = 60) -> float:
    """The largest `rivals_distance` among the minima that a search finds, n_m = n, ReLU, S → 1."""
    found = best_encoders(feature_vectors, len(feature_vectors), n_starts)
    return max(rivals_distance(one.matrix, feature_vectors) for one in found)


def farthest_minimiser(feature_vectors: Tensor, sparsity: float = 0.99) -> float:
    """How far from W_pᵀ, rows in any order, the ReLU SAE's minimisers at S < 1 are; n_m = n.

    The farthest of the best of 20 starts: those within 1 % of the least loss, x in {0, 1}ⁿ.
    """
    features, probabilities = binary_features(len(feature_vectors), sparsity)
    found = best_encoders(
        features @ feature_vectors, len(feature_vectors), 20, probabilities=probabilities
    )
    return max(
        distance_to_closed_form(one.matrix, feature_vectors)
        for one in found
        if one.loss <= 1.01 * found[0].loss + ZERO
    )


def top_one_evidence(worlds: Sequence[Tensor]) -> tuple[Evidence, ...]:
    """Are the encoders that Top-1 gives no loss the permutations of W_pᵀ, all n! and no more?"""
    solutions = [top_one_solutions(world) for world in worlds]
    return (
        Evidence(
            "top_1_distance",
            max(
                distance_to_closed_form(encoder, world)
                for world, encoders in zip(worlds, solutions, strict=True)
                for encoder in encoders
            ),
            "Top-1: farthest zero-loss W_m of all from W_pᵀ, rows in any order",
            at_most=1e-9,
        ),
        Evidence(
            "top_1_surplus",
            max(
                abs(len(encoders) - math.factorial(len(world)))
                for world, encoders in zip(worlds, solutions, strict=True)
            ),
            "Top-1: |number of zero-loss W_m − n!|, largest over the worlds",
            at_most=0,
        ),
    )


def relu_evidence(worlds: dict[str, Tensor]) -> tuple[Evidence, ...]:
    """Is every zero-loss encoder that a search finds a permutation of W_pᵀ? One number a world."""
    return tuple(
        Evidence(
            "relu_" + name.replace(" ", "_"),
            farthest_rival(world),
            f"ReLU, W_p {name}: farthest zero-loss W_m found from W_pᵀ, rows in any order",
            at_most=1e-5,
        )
        for name, world in worlds.items()
    )


def turned_digons(cosine: float, sine: float) -> Tensor:
    """(Q; −Q) with Q a turn of the plane: a rival of (I; −I), shape (4, 2), float64."""
    return zero_loss_encoder(
        torch.tensor([[cosine, sine], [-sine, cosine]], dtype=torch.float64), 4
    )


def theorem_2() -> Claim:
    """Theorem 2 of the first version."""
    return Claim(
        version=1,
        source="Theorem 2 (Uniqueness), §3.2.1, and its proof, equation 26",
        printed=Statement(
            "n_m = n and S → 1: W_m* = W_pᵀ is the only minimiser of L_SAE (the proof adds "
            "p_i·p_j ≤ 0 for ReLU, 0 < c_u < ‖p_u‖² for Top-k).",
            (
                Evidence(
                    "opposite_triangle",
                    rivals_distance(OPPOSITE_TRIANGLE, TRIANGLE),
                    "ReLU, W_p a unit triangle (p_i·p_j = −½): distance of the zero-loss "
                    "W_m = −√2W_pᵀ from W_pᵀ, rows in any order",
                    at_most=1e-9,
                ),
                Evidence(
                    "turned_digons",
                    rivals_distance(turned_digons(0.6, 0.8), TWO_DIGONS, every_sparsity=True),
                    "ReLU, W_p = (I, −I), n_m = n = 4: the same for W_m = (Q; −Q), Q a turn, "
                    "without loss at S = 0, 0.5, 0.9 and S → 1",
                    at_most=1e-9,
                ),
                Evidence(
                    "swapped_rows",
                    rivals_distance(PRINTED[[1, 0, 2]], PRINTED, any_order=False),
                    "ReLU, W_p of the examples: distance of W_pᵀ with two rows swapped from W_pᵀ",
                    at_most=1e-9,
                ),
                *relu_evidence(
                    {
                        "a digon": DIGON,
                        "of the examples": PRINTED,
                        "a triangle": TRIANGLE,
                        "two digons": TWO_DIGONS,
                        "a tetrahedron": simplex(3),
                        "two axes and a digon": AXES_AND_DIGON,
                    }
                ),
            ),
        ),
        correction=Statement(
            "For σ = Top-1 (then ReLU), n_m = n, ‖p_i‖ = 1 and different p_i, the minimisers are "
            "the n! permutations I*W_pᵀ and no others. For ReLU, up to order, it holds of the "
            "limit of the minimisers at S < 1 (not of the minimisers of the limit loss) in worlds "
            "with one digon at most; with two, their plane can be turned at every S.",
            (
                *top_one_evidence(UNIT_WORLDS),
                Evidence(
                    "relu_near_the_limit",
                    max(
                        farthest_minimiser(world)
                        for world in (PRINTED, TRIANGLE, simplex(3), AXES_AND_DIGON)
                    ),
                    "ReLU, S = 0.99: farthest minimiser found from W_pᵀ, rows in any order, four "
                    "worlds with one digon at most",
                    at_most=0.02,
                ),
                Evidence(
                    "relu_near_the_limit_two_digons",
                    farthest_minimiser(TWO_DIGONS),
                    "the same for two digons",
                    at_least=0.5,
                ),
            ),
        ),
    )


CLAIMS: dict[str, Callable[[], Claim]] = {
    "v1-theorem-2": theorem_2,
}
