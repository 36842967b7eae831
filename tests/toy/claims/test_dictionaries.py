from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls
from sklearn.linear_model import Lasso

from wsae_plugin.toy.claims.dictionaries import (
    learned,
    optimal_codes,
    random_atoms,
    sparse_codes,
    total,
    unit,
)


def test_codes_by_hand() -> None:
    # Two axes: each code shrinks by λ. Then one atom beside x: z = dᵀx − λ.
    codes = optimal_codes(np.array([[1.0, 0.05], [-1.0, 2.0]]), np.eye(2), 0.1)
    assert codes.z == pytest.approx(np.array([[0.9, 0], [0, 1.9]]))
    assert codes.residual == pytest.approx(np.array([[0.1, 0.05], [-1, 0.1]]))
    assert codes.loss == pytest.approx([0.09 + 0.005 + 0.00125, 0.19 + 0.5 + 0.005])


@pytest.mark.parametrize(("n_atoms", "penalty"), [(3, 0.1), (5, 0.3), (5, 1e-3)])
def test_codes_are_those_of_a_lasso(n_atoms: int, penalty: float) -> None:
    x, atoms = np.random.default_rng(0).normal(size=(20, 4)), random_atoms(n_atoms, 4, seed=1)
    lasso = Lasso(penalty / 4, positive=True, fit_intercept=False, tol=1e-12, max_iter=100_000)
    by_lasso = np.array([lasso.fit(atoms.T, sample).coef_ for sample in x])
    left = x - by_lasso @ atoms
    loss = (left**2).sum(axis=1) / 2 + penalty * by_lasso.sum(axis=1)
    assert optimal_codes(x, atoms, penalty).loss == pytest.approx(loss, abs=1e-8)


def test_equal_and_opposite_atoms_do_no_harm() -> None:
    x = np.random.default_rng(0).normal(size=(20, 3))
    once = random_atoms(2, 3, seed=0)
    twice = np.vstack([once, once])
    assert optimal_codes(x, twice, 0.1).loss == pytest.approx(optimal_codes(x, once, 0.1).loss)
    pairs = optimal_codes(x, np.vstack([once, -once]), 1e-12)
    free = [np.linalg.lstsq(once.T, sample, rcond=None)[0] @ once for sample in x]
    assert x - pairs.residual == pytest.approx(np.array(free), abs=1e-9)


def test_without_a_penalty_codes_are_nnls() -> None:
    x, atoms = np.random.default_rng(0).normal(size=(10, 3)), random_atoms(4, 3, seed=0)
    left = np.linalg.norm(optimal_codes(x, atoms, 0).residual, axis=1)
    assert left == pytest.approx([nnls(atoms.T, sample)[1] for sample in x], abs=1e-9)


def test_learning_ends_at_a_minimum_with_weights_as_repetitions() -> None:
    x, start = sparse_codes(30, 3, rate=0.4, seed=0), random_atoms(2, 3, seed=0)
    counts = np.arange(30) % 3
    atoms = learned(x, start, 0.1, counts.astype(float))
    assert atoms == pytest.approx(learned(np.repeat(x, counts, axis=0), start, 0.1), abs=1e-6)
    least = total(x, atoms, 0.1, counts.astype(float))
    for seed in range(20):
        other = unit(atoms + 1e-3 * random_atoms(2, 3, seed))
        assert total(x, other, 0.1, counts.astype(float)) > least
