"""Equation 16, how polysemantic a dimension is, and Example 1 of the first version (§4.3)."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor

from wsae_plugin.toy.claims.claim import Claim, Evidence, Statement
from wsae_plugin.toy.claims.exact import PRINTED_EXACT, exact, exact_square
from wsae_plugin.toy.claims.worlds import PRINTED
from wsae_plugin.toy.theory import (
    effective_features,
    gap_minimising_gamma,
)


def weighted_gram() -> Claim:
    """Equation 16."""
    # p_1 = (3/5, 4/5), p_2 = (0, 1), p_3 = (1, 0), γ² = (4, 9).
    vectors = exact((Fraction(3, 5), Fraction(4, 5)), (0, 1), (1, 0))
    squares = exact((4, 9))
    true = (vectors * squares) @ vectors.T
    gram = vectors @ vectors.T
    printed = squares.T * gram[:2]
    by_sum = exact(
        *(
            tuple(
                sum((squares[0, q] * vectors[i, q] * vectors[j, q] for q in range(2)), Fraction(0))
                for j in range(3)
            )
            for i in range(3)
        )
    )
    return Claim(
        version=1,
        source="Equation 16, §4.3",
        printed=Statement(
            "Entry (i, j) of W_pᵀΓ²W_p, i, j = 1..n, is γ_i² p_i·p_j.",
            (
                Evidence(
                    "deviation",
                    exact_square(true[:2] - printed),
                    "‖W_pᵀΓ²W_p − printed‖_F² over the rows that have a γ_i (i ≤ n_p = 2), "
                    "p = (3/5, 4/5), (0, 1), (1, 0), γ² = (4, 9)",
                    at_most=0,
                ),
                Evidence(
                    "asymmetry",
                    abs(printed[0, 1] - printed[1, 0]),
                    "|entry (1, 2) − entry (2, 1)| of the printed matrix; it should be symmetric",
                    at_most=0,
                ),
            ),
        ),
        correction=Statement(
            "Entry (i, j) is Σ_q γ_q² W_qiW_qj, q = 1..n_p: Γ weights dimensions, not features; "
            "γ_{n_p+1}, …, γ_n do not exist.",
            (
                Evidence(
                    "deviation", exact_square(true - by_sum), "‖W_pᵀΓ²W_p − this‖_F²", at_most=0
                ),
            ),
        ),
    )


def negative_products(feature_vectors: Tensor, n_others: int) -> list[int]:
    """For i = 1..n_p: how many of p_i·p_k, k = 1..n_others, are negative."""
    products = feature_vectors @ feature_vectors.T
    d_in = feature_vectors.shape[1]
    return [int((products[i, :n_others] < -1e-9).sum()) for i in range(d_in)]


def polysemantic_level() -> Claim:
    """§4.3: how the level of a dimension is read off W_p."""
    first, second = negative_products(PRINTED, n_others=PRINTED.shape[1])
    levels = effective_features(PRINTED)
    # Two features that share dimension 1 with the same sign, one feature alone in dimension 2.
    shared = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    shared_negative = negative_products(shared, n_others=3)
    shared_levels = effective_features(shared)
    return Claim(
        version=1,
        source="§4.3, the text after equation 16",
        printed=Statement(
            "Dimension j is more polysemantic than i if and only if more of {p_j·p_k}, k = 1..n_p, "
            "than of {p_i·p_k} are negative.",
            (
                Evidence(
                    "difference",
                    second - first,
                    "W_p of the examples, where dimension 2 is the polysemantic one: negative "
                    "products of p_2 less those of p_1, k ≤ n_p = 2",
                    at_least=1,
                ),
                Evidence(
                    "difference_positive",
                    shared_negative[0] - shared_negative[1],
                    "the same, k ≤ n, where p_1 = p_3 share dimension 1: dimension 1 less 2",
                    at_least=1,
                ),
            ),
        ),
        correction=Statement(
            "A dimension's level is that of its row of W_p, such as the effective number of its "
            "features (Σ_iW_qi²)² / Σ_iW_qi⁴, whatever the signs; p_j is a column, a feature.",
            (
                Evidence(
                    "difference",
                    float(levels[1] - levels[0]),
                    "effective features of dimension 2 less those of dimension 1, W_p of the "
                    "examples",
                    at_least=1 - 1e-9,
                ),
                Evidence(
                    "difference_positive",
                    float(shared_levels[0] - shared_levels[1]),
                    "dimension 1 less 2 where p_1 = p_3 share dimension 1",
                    at_least=1 - 1e-9,
                ),
            ),
        ),
    )


def example_1() -> Claim:
    """Example 1 of the first version."""
    gram = PRINTED_EXACT @ PRINTED_EXACT.T
    weights = gap_minimising_gamma(PRINTED).square()
    return Claim(
        version=1,
        source="Example 1, §4.3",
        printed=Statement(
            "W_p = [[1, 0, 0], [0, 1, −1]]: x_p = (x_1, x_2 − x_3)ᵀ, p_1·p_2 = p_1·p_3 = 0, "
            "p_2·p_3 = −1; to reduce the interference of p_2 and p_3, reduce γ_2.",
            (
                Evidence(
                    "weight_ratio",
                    float(weights[1] / weights[0]),
                    "γ_2² / γ_1² of the Γ that narrows ‖W_pᵀΓ²W_p − I‖_F most",
                    at_most=0.99,
                ),
                Evidence(
                    "activation_error",
                    exact_square(exact((5, 3, 7)) @ PRINTED_EXACT - exact((5, 3 - 7))),
                    "‖W_px − (x_1, x_2 − x_3)ᵀ‖² at x = (5, 3, 7)ᵀ",
                    at_most=0,
                ),
                Evidence(
                    "product_error",
                    exact_square(gram - exact((1, 0, 0), (0, 1, -1), (0, -1, 1))),
                    "‖W_pᵀW_p − printed products‖_F²",
                    at_most=0,
                ),
            ),
        ),
    )


CLAIMS: dict[str, Callable[[], Claim]] = {
    "v1-equation-16": weighted_gram,
    "v1-polysemantic-level": polysemantic_level,
    "v1-example-1": example_1,
}
