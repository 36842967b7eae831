"""Planted statements, one false and one true of each kind: the checks must tell them apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch

from wsae_plugin.toy.batched.activation import RELU, top_k
from wsae_plugin.toy.claims.claim import HOLDS, Numbers, judge_statement
from wsae_plugin.toy.claims.closed_form import (
    aligned_error,
    excess_over_search,
    farthest_minimiser,
    farthest_rivals,
    limit_gradient,
    limit_ratio,
    printed_gradient,
    recovery_error,
    rivals_distance,
    stationarity_error,
    top_one_rivals,
)
from wsae_plugin.toy.claims.necessity import (
    closed_form_error,
    irreducible_error,
    same_activations_distance,
)
from wsae_plugin.toy.claims.outline import binary_excess, worst_residual
from wsae_plugin.toy.claims.reweighting import (
    RANDOM_WORLDS,
    axis_world,
    corrected,
    gains,
    share_against,
    sum_of_terms,
    with_printed_sign,
)
from wsae_plugin.toy.claims.worlds import (
    DIGON,
    OPPOSITE_TRIANGLE,
    PRINTED,
    TRIANGLE,
    TWO_DIGONS,
    polygon,
    random_features,
    uniform_features,
)
from wsae_plugin.toy.theory import loss_terms

TWINS = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)


Planted = tuple[Numbers, float]
"""Numbers, and the bound below which a statement needs them all to be."""


def at_most(value: float | Fraction, bound: float = 1e-9) -> Planted:
    return {"value": value}, bound


def gradient_error(factor: float) -> float:
    printed = factor * printed_gradient(2 * PRINTED, PRINTED)
    return float((printed - limit_gradient(2 * PRINTED, PRINTED)).norm())


def holds(planted: Planted) -> bool:
    numbers, bound = planted
    needs = {name: {"meaning": "a value", "at_most": bound} for name in numbers}
    return judge_statement("planted", needs, numbers)["verdict"] == HOLDS


@pytest.mark.parametrize(
    ("false", "true"),
    [
        pytest.param(
            lambda: (sum_of_terms(with_printed_sign, weighted=True), 1e-12),
            lambda: (sum_of_terms(corrected, weighted=True), 1e-12),
            id="identity: the cross term's sign",
        ),
        pytest.param(
            lambda: (sum_of_terms(lambda terms: terms.total + terms.cross, weighted=False), 1e-12),
            lambda: (sum_of_terms(corrected, weighted=False), 1e-12),
            id="identity: a factor of two",
        ),
        pytest.param(
            lambda: at_most(excess_over_search(1.1 * PRINTED, PRINTED)),
            lambda: at_most(excess_over_search(PRINTED.flip(0), PRINTED)),
            id="optimum: by search",
        ),
        pytest.param(
            lambda: at_most(binary_excess(TRIANGLE, math.sqrt(1.2) * TRIANGLE)),
            lambda: at_most(binary_excess(TWO_DIGONS, TWO_DIGONS + 0.1)),
            id="optimum: by a rival",
        ),
        pytest.param(
            lambda: (farthest_rivals({"two_digons": TWO_DIGONS}), 1e-5),
            lambda: (farthest_rivals({"a_digon": DIGON, "of_the_examples": PRINTED}), 1e-5),
            id="uniqueness: by search",
        ),
        pytest.param(
            lambda: at_most(farthest_minimiser(TWO_DIGONS), 0.02),
            lambda: at_most(farthest_minimiser(TRIANGLE), 0.02),
            id="uniqueness: near the limit",
        ),
        pytest.param(
            lambda: at_most(rivals_distance(OPPOSITE_TRIANGLE, TRIANGLE)),
            lambda: at_most(rivals_distance(TRIANGLE.flip(0), TRIANGLE)),
            id="uniqueness: by a rival",
        ),
        pytest.param(
            lambda: (top_one_rivals([TRIANGLE, TWINS]), 1e-9),
            lambda: (top_one_rivals([TRIANGLE]), 1e-9),
            id="uniqueness: exhaustive",
        ),
        pytest.param(
            lambda: at_most(abs(limit_ratio(3) - 1), 1e-4),
            lambda: at_most(abs(limit_ratio(1) - 1), 1e-4),
            id="limit: a factor",
        ),
        pytest.param(
            lambda: at_most(recovery_error(random_features(5, 2, seed=0), RELU)),
            lambda: at_most(recovery_error(random_features(5, 2, seed=0), top_k(1))),
            id="recovery of single features",
        ),
        pytest.param(
            lambda: at_most(worst_residual(TRIANGLE, RELU)),
            lambda: at_most(worst_residual(TWO_DIGONS, RELU)),
            id="no loss at any sparsity",
        ),
        pytest.param(
            lambda: at_most(worst_residual(TWO_DIGONS, top_k(1))),
            lambda: at_most(worst_residual(TWO_DIGONS, top_k(2))),
            id="no loss with Top-k",
        ),
        pytest.param(
            lambda: at_most(gradient_error(factor=0.5)),
            lambda: at_most(gradient_error(factor=1.0)),
            id="a gradient's formula",
        ),
        pytest.param(
            lambda: at_most(share_against(RANDOM_WORLDS), 0),
            lambda: at_most(share_against([axis_world(1, 2, 3), axis_world(2, 5, 7)]), 0),
            id="an order of weights",
        ),
    ],
)
def test_the_false_is_refuted_and_the_true_holds(
    false: Callable[[], Planted], true: Callable[[], Planted]
) -> None:
    assert not holds(false())
    assert holds(true())


def test_an_encoder_with_a_loss_is_no_rival_and_no_witness() -> None:
    assert rivals_distance(2 * TRIANGLE, TRIANGLE) == 0
    assert aligned_error(2 * TRIANGLE, TRIANGLE) == 0
    assert aligned_error(OPPOSITE_TRIANGLE, TRIANGLE) > 0.5


def test_the_opposite_triangle_is_a_rival_in_the_limit_only() -> None:
    assert rivals_distance(OPPOSITE_TRIANGLE, TRIANGLE) > 2
    assert rivals_distance(OPPOSITE_TRIANGLE, TRIANGLE, (0.0, 0.5, 0.9)) == 0


def test_stationarity_is_an_identity_and_not_a_property_of_good_features() -> None:
    assert stationarity_error(3 * random_features(7, 2, seed=4)) < 1e-9


def test_two_features_that_cannot_be_told_apart() -> None:
    assert same_activations_distance(polygon(5)) > 0.1


def test_a_factor_moves_no_minimiser() -> None:
    gamma = 3 * torch.ones(1, dtype=torch.float64)
    assert gains(DIGON, gamma, 0.5) == pytest.approx([0, 0], abs=1e-9)


# Numbers that a claim derives by hand, against samples.


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_error_of_the_closed_form_on_a_digon(sparsity: float) -> None:
    features = uniform_features(2, sparsity, 400_000, seed=1)
    error = loss_terms(DIGON, DIGON, features).ground_truth
    energy = float(features.square().sum(dim=1).mean())
    assert error / energy == pytest.approx(float(closed_form_error(Fraction(sparsity))), rel=0.02)


def test_no_function_of_a_digons_activation_beats_the_bound() -> None:
    # S = 0: the best guess is the mean of x given d, and its error is the bound itself.
    x = uniform_features(2, 0.0, 400_000, seed=2)
    d = x[:, 0] - x[:, 1]
    low, high = d.clamp(min=0), (1 + d).clamp(max=1)
    guess = torch.stack([(low + high) / 2, (low + high) / 2 - d], dim=1)
    error = float((x - guess).square().sum(dim=1).mean() / x.square().sum(dim=1).mean())
    assert error == pytest.approx(float(irreducible_error(Fraction(0))), rel=0.02)


def test_top_one_on_two_digons_prefers_the_diagonals() -> None:
    # The claim's 1/15 and 1/18, from samples at S = 0.
    x = uniform_features(4, 0.0, 400_000, seed=3)
    u, v = (x @ TWO_DIGONS).unbind(dim=1)
    total = u.square() + v.square()
    axes = (total - torch.maximum(u.square(), v.square())).mean()
    diagonals = (total - (u.abs() + v.abs()).square() / 2).mean()
    assert float(axes) == pytest.approx(1 / 15, rel=0.02)
    assert float(diagonals) == pytest.approx(1 / 18, rel=0.02)
