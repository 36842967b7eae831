"""Is extreme sparsity needed (first version, §3.2.2, Counterexample 1)?"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from scipy.linalg import null_space
from torch import Tensor

from wsae_plugin.toy.claims.claim import Claim, Evidence, Statement
from wsae_plugin.toy.claims.exact import PRINTED_EXACT, exact, exact_relu, exact_square
from wsae_plugin.toy.claims.worlds import DIGON, UNIT_WORLDS, uniform_features
from wsae_plugin.toy.theory import loss_terms


def irreducible_error(sparsity: Fraction) -> Fraction:
    """A lower bound on E‖x − f(x_p)‖² / E‖x‖² over all f, for a digon and x_i uniform or 0.

    Where both features are active, (1 − S)² of the time, x given d = x_1 − x_2 is uniform on a
    segment: each coordinate has variance (1 − |d|)²/12, and d has density 1 − |d|, so the mean of
    their sum is 2∫(1 − t)³/6 dt = 1/12. E‖x‖² = 2(1 − S)/3.
    """
    return (1 - sparsity) ** 2 / 12 / (Fraction(2, 3) * (1 - sparsity))


def closed_form_error(sparsity: Fraction) -> Fraction:
    """L_GT / E‖x‖² of W_m = W_pᵀ for a digon: both codes lose min(x_1, x_2), so (1 − S)/2.

    E 2·min² = (1 − S)²·2/6, over E‖x‖² = 2(1 − S)/3.
    """
    return (1 - sparsity) ** 2 / 3 / (Fraction(2, 3) * (1 - sparsity))


def sampled_error(encoder: Tensor, feature_vectors: Tensor, sparsity: float) -> float:
    """L_GT / E‖x‖² over 400,000 samples of x_i = 0 with probability S, else uniform on [0, 1]."""
    features = uniform_features(len(feature_vectors), sparsity, 400_000, seed=0)
    ground_truth = loss_terms(encoder, feature_vectors, features).ground_truth
    return ground_truth / float(features.square().sum(dim=1).mean())


def same_activations_distance(feature_vectors: Tensor) -> float:
    """‖x − x'‖ of two x in (0, 1)ⁿ with one and the same x_p, along the null space of W_p."""
    direction = null_space(feature_vectors.T.numpy())[:, 0]
    step = 0.4 * direction / np.abs(direction).max()
    x, other = 0.5 + step, 0.5 - step
    if np.abs((x - other) @ feature_vectors.numpy()).max() > 1e-12 or min(*x, *other) <= 0:
        return 0.0
    return float(np.linalg.norm(x - other))


def sparsity_is_needed() -> Claim:
    """§3.2.2, before Counterexample 1."""
    levels = (Fraction(0), Fraction(1, 2), Fraction(9, 10))
    closed_form = {sparsity: float(closed_form_error(sparsity)) for sparsity in levels}
    return Claim(
        version=1,
        source="§3.2.2, the text before Counterexample 1",
        printed=Statement(
            "If x is not extremely sparse, no SAE recovers it in full.",
            (
                Evidence(
                    "least_distance",
                    min(same_activations_distance(world) for world in UNIT_WORLDS),
                    "least ‖x − x'‖ of two x in (0, 1)ⁿ, which have positive density at every "
                    "S < 1, with the same x_p, over six W_p",
                    at_least=0.1,
                ),
                Evidence(
                    "least_bound",
                    min(irreducible_error(sparsity) for sparsity in (*levels, Fraction(99, 100))),
                    "W_p a digon: (1 − S)/8 bounds E‖x − f(x_p)‖² / E‖x‖² for every f; its least "
                    "at S = 0, 0.5, 0.9, 0.99",
                    at_least=1e-9,
                ),
                Evidence(
                    "sample_error",
                    max(
                        abs(sampled_error(DIGON, DIGON, float(sparsity)) / error - 1)
                        for sparsity, error in closed_form.items()
                    ),
                    "relative difference between sampled and exact L_GT of W_m = W_pᵀ, (1 − S)/2, "
                    "largest at those S",
                    at_most=0.1,
                ),
            ),
        ),
    )


def first_of_the_largest(values: np.ndarray) -> np.ndarray:
    """Top-1 of a row of fractions, ties to the first, shape (1, n)."""
    kept = np.full(values.shape, Fraction(0))
    place = int(np.argmax(values))
    kept[0, place] = values[0, place]
    return kept


def counterexample_1() -> Claim:
    """Counterexample 1: SAEs without feature sparsity."""
    x, printed = exact((1, 1, 0)), exact((1, 0, 0))
    products = x @ PRINTED_EXACT @ PRINTED_EXACT.T
    codes = exact_relu(products)
    return Claim(
        version=1,
        source="Counterexample 1, equation 11, §3.2.2",
        printed=Statement(
            "W_p = [[1, 0, 0], [0, 1, −1]], x = (1, 1, 0)ᵀ: σ(W_pᵀW_px) = (1, 0, 0)ᵀ ≠ x.",
            (
                Evidence(
                    "distance_to_x",
                    exact_square(codes - x),
                    "‖ReLU(W_pᵀW_px) − x‖²: W_pᵀW_px = (1, 1, −1)ᵀ, so ReLU returns x itself",
                    at_least=1e-9,
                ),
                Evidence(
                    "distance_to_printed",
                    exact_square(codes - printed),
                    "‖ReLU(W_pᵀW_px) − (1, 0, 0)ᵀ‖²",
                    at_most=0,
                ),
            ),
        ),
        condition=Statement(
            "σ = Top-1 and the tie between x_1 and x_2 goes to the first. (The proofs ask for "
            "k > 1, and Top-2 returns x here.)",
            (
                Evidence(
                    "distance_to_printed",
                    exact_square(first_of_the_largest(products) - printed),
                    "‖Top-1(W_pᵀW_px) − (1, 0, 0)ᵀ‖²",
                    at_most=0,
                ),
            ),
        ),
        correction=Statement(
            "x = (0, 1, 1)ᵀ: σ(W_mW_px) = σ(0) = 0 ≠ x for every W_m. In general W_p, having n_p < "
            "n rows, maps different x ∈ (0, 1)ⁿ to one x_p, so no encoder tells them apart.",
            (
                Evidence(
                    "activation",
                    exact_square(exact((0, 1, 1)) @ PRINTED_EXACT),
                    "‖W_px‖² for x = (0, 1, 1)ᵀ",
                    at_most=0,
                ),
                Evidence(
                    "least_distance",
                    min(same_activations_distance(world) for world in UNIT_WORLDS),
                    "least ‖x − x'‖ of x, x' ∈ (0, 1)ⁿ with W_px = W_px', over six W_p",
                    at_least=0.1,
                ),
            ),
        ),
    )


CLAIMS: dict[str, Callable[[], Claim]] = {
    "v1-necessity-sparsity": sparsity_is_needed,
    "v1-counterexample-1": counterexample_1,
}
