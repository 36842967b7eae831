"""The checks of optimal dictionaries, each on what satisfies it and on what does not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wsae_plugin.toy.claims import structure
from wsae_plugin.toy.claims.dictionaries import optimal_codes, random_atoms, sparse_codes, unit
from wsae_plugin.toy.claims.optima import (
    FEATURES,
    FEW,
    PENALTY,
    SAMPLES,
    an_atom_a_sample,
    atom_error,
    code_error,
    convex_loss,
    gain_of_one_more,
    huber,
    inside_error,
    longer_share,
    nnls_codes,
    optimum,
    refit_error,
    sum_error,
    top_one_mean,
)
from wsae_plugin.toy.claims.structure import (
    AXES,
    INDEPENDENT,
    OPPOSITE,
    always_on,
    child_angles,
    cone_missing,
    cost_of_dropping,
    crossing,
    dense,
    distance_moved,
    imbalance,
    linear_gain,
    nested,
    predicted_angle,
    printed_crossing,
    split_slope,
    two_means,
)


@pytest.mark.parametrize("factor", [1.0, 0.99])
def test_codes_that_are_a_hundredth_off_are_found(factor: float) -> None:
    z = factor * optimal_codes(SAMPLES, FEATURES, PENALTY).z
    left = SAMPLES - z @ FEATURES
    is_optimal = factor == 1
    assert (code_error(z, left, FEATURES, PENALTY) < 1e-9) is is_optimal
    assert (sum_error(z, left, SAMPLES, PENALTY) < 1e-9) is is_optimal
    assert (inside_error(SAMPLES, FEATURES, PENALTY, factor) < 1e-9) is is_optimal


def test_a_missing_atom_violates_the_first_condition() -> None:
    z = nnls_codes(SAMPLES, FEATURES[:2], PENALTY)
    left = SAMPLES - z @ FEATURES[:2]
    assert code_error(z, left, FEATURES[:2], PENALTY) < 1e-9
    assert code_error(np.pad(z, ((0, 0), (0, 1))), left, FEATURES, PENALTY) > 0.1


def test_atoms_that_are_a_thousandth_off_are_found() -> None:
    atoms = optimum(3)
    other = unit(atoms + 1e-3 * random_atoms(3, 4, seed=0))
    assert atom_error(SAMPLES, atoms, PENALTY) < 1e-9 < 1e-4 < atom_error(SAMPLES, other, PENALTY)
    assert refit_error(SAMPLES, atoms, PENALTY) < 1e-9 < 1e-5 < refit_error(SAMPLES, other, PENALTY)


def test_a_top_one_dictionary_leaves_nothing_on_average() -> None:
    # k-lines: of one atom, the top singular vector of samples that all have a positive code.
    x = 1 + np.random.default_rng(0).random((20, 3))
    assert top_one_mean(x, random_atoms(1, 3, seed=0) ** 2) < 1e-9


def test_huber_by_hand_and_as_the_least_of_all_codes() -> None:
    x = np.array([[0.03, 0.04], [3.0, 4.0]])
    assert huber(x, 0.1) == pytest.approx([0.00125, 0.5 - 0.005])
    assert optimal_codes(x, an_atom_a_sample(x), 0.1).loss == pytest.approx(huber(x, 0.1))
    shrunk = x * (1 - 0.1 / np.linalg.norm(x, axis=1, keepdims=True)).clip(min=0)
    assert convex_loss(x, shrunk, 0.1) == pytest.approx(huber(x, 0.1).sum())


def test_samples_along_atoms_alone_are_not_longer_than_the_penalty() -> None:
    assert longer_share(FEW, an_atom_a_sample(FEW), PENALTY) == 0
    assert longer_share(SAMPLES, FEATURES, PENALTY) == pytest.approx(
        ((sparse_codes(60, 3, rate=0.4, seed=0) > 0).sum(axis=1) > 1).sum()
        / SAMPLES.any(axis=1).sum()
    )
    assert min(gain_of_one_more(1), gain_of_one_more(2)) > 3 * gain_of_one_more(3)


def test_the_slope_of_a_split_by_hand() -> None:
    # z = 1 at (1.1, ±½): each half gains z|tᵀr| = ½ per radian.
    x = np.array([[1.1, 0.5, 0], [1.1, -0.5, 0]])
    assert split_slope(x, AXES[1]) == pytest.approx(1, rel=1e-4)
    assert split_slope(x, AXES[2]) == pytest.approx(0, abs=1e-4)
    across, side = x * [0, 1, 1], np.array([True, False])
    assert two_means(across, np.ones(2), side) == pytest.approx(0.25)
    assert two_means(across, np.ones(2), ~side) == pytest.approx(0.25)
    assert two_means(across, np.ones(2), side | True) == 0


@pytest.mark.parametrize(
    ("z", "atoms", "lies"),
    [
        (INDEPENDENT, AXES, True),
        (dense(balanced=False), OPPOSITE, True),
        (nested(), AXES, False),
        (always_on(), AXES, False),
    ],
)
def test_the_cone_by_two_methods(z: np.ndarray, atoms: np.ndarray, lies: bool) -> None:
    assert (cone_missing(z, atoms, 0) < 1e-9) is lies
    assert (linear_gain(z, atoms, 0) < 1e-9) is lies


def test_what_fails_the_cone_moves_however_small_the_penalty() -> None:
    assert distance_moved(nested(), AXES, 1e-4) > 0.1
    small, large = (distance_moved(INDEPENDENT, AXES, penalty) for penalty in (1e-3, 1e-2))
    assert small == pytest.approx(large / 10, rel=0.1)
    assert imbalance(dense(balanced=True)) < 1e-12 < imbalance(dense(balanced=False))


@pytest.mark.parametrize("penalty", [0.05, 0.5])
def test_the_crossing_is_where_the_formula_has_it(penalty: float) -> None:
    assert crossing(penalty) == pytest.approx(printed_crossing(penalty), rel=1e-9)
    assert crossing(penalty) != pytest.approx((8 - 4 * math.sqrt(2)) * penalty * 0.1, rel=1e-2)
    assert crossing(3 * penalty, amplitude=3) == pytest.approx(crossing(penalty), rel=1e-9)


@pytest.mark.parametrize("ratio", [1.0, 1.3, 3.0])
def test_absorption_is_a_matter_of_degree(ratio: float) -> None:
    first, second = child_angles(ratio, 1e-3)
    assert first == pytest.approx(second, abs=1e-4)
    assert first == pytest.approx(predicted_angle(ratio), abs=5e-3)


def test_one_of_two_opposites_is_free_where_codes_have_signs() -> None:
    x = structure.two_sided(signed=True)
    assert cost_of_dropping(x, OPPOSITE, 1, either_sign=True) == pytest.approx(0, abs=1e-12)
    assert cost_of_dropping(x, OPPOSITE, 1, either_sign=False) > 0.5
