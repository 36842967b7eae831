"""Are extreme sparsity, a sparse activation and n_m ≥ n needed (first version, §3.2.2)?"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from scipy.linalg import null_space
from torch import Tensor

from wsae_plugin.toy.claims.claim import Measured
from wsae_plugin.toy.claims.search import best_encoders
from wsae_plugin.toy.claims.worlds import (
    DIGON,
    PRINTED,
    PRINTED_EXACT,
    UNIT_WORLDS,
    exact,
    exact_relu,
    exact_square,
    single_features,
    uniform_features,
)
from wsae_plugin.toy.theory import loss_terms

LEVELS = (Fraction(0), Fraction(1, 2), Fraction(9, 10), Fraction(99, 100))


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


def sampled_error(sparsity: Fraction) -> float:
    """The same over 400,000 samples."""
    features = uniform_features(2, float(sparsity), 400_000, seed=0)
    ground_truth = loss_terms(DIGON, DIGON, features).ground_truth
    return ground_truth / float(features.square().sum(dim=1).mean())


def same_activations_distance(feature_vectors: Tensor) -> float:
    """‖x − x'‖ of two x in (0, 1)ⁿ with one and the same x_p, along the null space of W_p."""
    direction = null_space(feature_vectors.T.numpy())[:, 0]
    step = 0.4 * direction / np.abs(direction).max()
    x, other = 0.5 + step, 0.5 - step
    if np.abs((x - other) @ feature_vectors.numpy()).max() > 1e-12 or min(*x, *other) <= 0:
        return 0.0
    return float(np.linalg.norm(x - other))


def v1_necessity_sparsity() -> Measured:
    """§3.2.2, before Counterexample 1."""
    return {
        "printed": {
            "least_distance": min(same_activations_distance(world) for world in UNIT_WORLDS),
            "least_bound": min(irreducible_error(sparsity) for sparsity in LEVELS),
            "sample_error": max(
                abs(sampled_error(sparsity) / float(closed_form_error(sparsity)) - 1)
                for sparsity in LEVELS[:3]
            ),
        }
    }


def first_of_the_largest(values: np.ndarray) -> np.ndarray:
    """Top-1 of a row of fractions, ties to the first, shape (1, n)."""
    return values * (np.arange(values.size) == np.argmax(values))


def v1_counterexample_1() -> Measured:
    """SAEs without feature sparsity."""
    x, printed = exact((1, 1, 0)), exact((1, 0, 0))
    products = x @ PRINTED_EXACT @ PRINTED_EXACT.T
    codes = exact_relu(products)
    return {
        "printed": {
            "distance_to_x": exact_square(codes - x),
            "distance_to_printed": exact_square(codes - printed),
        },
        "condition": {
            "distance_to_printed": exact_square(first_of_the_largest(products) - printed)
        },
        "correction": {
            "activation": exact_square(exact((0, 1, 1)) @ PRINTED_EXACT),
            "least_distance": min(same_activations_distance(world) for world in UNIT_WORLDS),
        },
    }


def linear_error(feature_vectors: Tensor) -> float:
    """min over W_m of Σ_u ‖e_u − W_mp_u‖²: what a linear encoder cannot recover."""
    target = single_features(feature_vectors)
    encoder = torch.linalg.lstsq(feature_vectors, target, driver="gelsd").solution
    return float((target - feature_vectors @ encoder).square().sum())


def v1_counterexample_2() -> Measured:
    """SAEs without sparse activation."""
    encoder, x = exact((1, 0), (0, 1), (0, 0)), exact((0, 0, 1))
    activation = x @ PRINTED_EXACT
    codes = activation @ encoder.T
    return {
        "printed": {
            "loss": exact_square(activation - codes @ encoder),
            "code_error": exact_square(codes - exact((0, -1, 0))),
            "distance_to_x": exact_square(codes - x),
            "every_linear_encoder": linear_error(PRINTED),
        }
    }


def penalised_loss(first: Fraction, second: Fraction, penalty: Fraction) -> Fraction:
    """L'' = |x_p − W_mᵀW_mx_p| + λ‖W_mx_p‖₁, exactly; x_p = 1, W_m = (first, second)ᵀ."""
    return abs(1 - first**2 - second**2) + penalty * (abs(first) + abs(second))


def least_on_grid(penalty: Fraction) -> Fraction:
    """The least L'' on a grid of step 1/40 over [−3/2, 3/2]²."""
    ticks = [Fraction(tick, 40) for tick in range(-60, 61)]
    return min(penalised_loss(a, b, penalty) for a in ticks for b in ticks)


def v1_counterexample_3() -> Measured:
    """An l1 penalty in the place of a sparse activation."""
    half, step = Fraction(1, 2), Fraction(1, 100)
    least = {"quarter": Fraction(1, 4), "half": half, "two": Fraction(2)}
    diagonal = {m: penalised_loss(m, m, half) for m in (half / 2 - step, half / 2, half / 2 + step)}
    printed = diagonal.pop(half / 2)
    axis = penalised_loss(Fraction(1), Fraction(0), half)
    x = exact((1, 0))
    codes = x @ exact((1,), (-1,)) @ exact((1, 0))
    return {
        "printed": {
            "excess": printed - axis,
            "distance_to_x": exact_square(codes - x),
            "printed_loss": printed,
            "axis_loss": axis,
            "grid_loss": least_on_grid(half),
        },
        "correction": {
            **{
                f"grid_excess_{name}": min(penalty, Fraction(1)) - least_on_grid(penalty)
                for name, penalty in least.items()
            },
            "diagonal_slope": printed - max(diagonal.values()),
            "every_linear_encoder": linear_error(DIGON),
        },
    }


def v1_necessity_width() -> Measured:
    """§3.2.2, before Counterexample 4."""
    best = best_encoders(DIGON, d_sae=1, n_starts=20)[0]
    errors = (DIGON @ best.matrix.T).relu() - single_features(DIGON)
    return {
        "printed": {"part_error": float(errors.abs().amax(dim=0).min())},
        "correction": {
            "weight_error": abs(float(best.matrix.abs()) - 1),
            "limit_loss_error": abs(best.loss - 1),
        },
    }


def v1_counterexample_4() -> Measured:
    """SAEs without enough hidden dimensions."""
    x_p = exact((0, 0, 1)) @ PRINTED_EXACT
    best = best_encoders(PRINTED, d_sae=2, n_starts=60)[0]
    return {
        "printed": {"distance": exact_square(exact_relu(x_p))},
        "correction": {
            "loss_of_zero_codes": exact_square(x_p),
            "best_loss_error": abs(best.loss - 5 / 7),
            "best_code": float((PRINTED[2] @ best.matrix.T).relu().norm()),
        },
    }
