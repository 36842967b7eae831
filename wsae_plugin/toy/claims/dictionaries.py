"""Nonnegative L1 dictionary learning, small enough to be solved to rounding.

min over ‖d_j‖ ≤ 1 and z ≥ 0 of Σ_n w_n (½‖x_n − Σ_j z_nj d_j‖² + λ Σ_j z_nj). Codes come from an
exhaustive search over supports, which shares nothing with `wsae_plugin.optimality.lasso`.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Array = NDArray[np.float64]

_STILL = 1e-13
"""The step of an atom below which alternation has ended."""
_MOST_STEPS = 20_000


class Solved(NamedTuple):
    """Optimal codes of a dictionary.

    Attributes:
        z: shape (n, m).
        residual: x − z D, shape (n, d).
        loss: of each sample, shape (n,).
    """

    z: Array
    residual: Array
    loss: Array


def unit(rows: Array) -> Array:
    """Rows of length 1."""
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def optimal_codes(x: Array, atoms: Array, penalty: float) -> Solved:
    """The best codes, found by trying every support of independent atoms.

    Args:
        x: shape (n, d).
        atoms: a row an atom, shape (m, d); m ≤ 8 or so.
        penalty: λ.
    """
    z, loss = np.zeros((len(x), len(atoms))), (x**2).sum(axis=1) / 2
    for size in range(1, min(atoms.shape) + 1):
        for support in map(list, combinations(range(len(atoms)), size)):
            d = atoms[support]
            gram = d @ d.T
            if np.linalg.matrix_rank(gram) < size:
                continue
            tried = np.linalg.solve(gram, (x @ d.T - penalty).T).T
            with_it = ((x - tried @ d) ** 2).sum(axis=1) / 2 + penalty * tried.sum(axis=1)
            better = np.flatnonzero((tried >= 0).all(axis=1) & (with_it < loss))
            loss[better], z[better] = with_it[better], 0
            z[better[:, None], support] = tried[better]
    return Solved(z, x - z @ atoms, loss)


def total(x: Array, atoms: Array, penalty: float, weights: Array | None = None) -> float:
    """Σ_n w_n of the losses at optimal codes; all weights 1 if there are none."""
    loss = optimal_codes(x, atoms, penalty).loss
    return float(loss.sum() if weights is None else weights @ loss)


def learned(x: Array, start: Array, penalty: float, weights: Array | None = None) -> Array:
    """The dictionary of a stationary point: quasi-Newton steps, then alternation until it is still.

    Args:
        x: shape (n, d).
        start: atoms of length 1, shape (m, d).
        penalty: λ.
        weights: shape (n,); None for 1 each.
    """
    w = np.ones(len(x)) if weights is None else weights

    def loss_and_gradient(flat: Array) -> tuple[float, Array]:
        rows = flat.reshape(start.shape)
        atoms = unit(rows)
        solved = optimal_codes(x, atoms, penalty)
        # The codes are optimal, so that their change does not count.
        gradient = -(solved.z * w[:, None]).T @ solved.residual
        gradient -= (gradient * atoms).sum(axis=1, keepdims=True) * atoms
        gradient /= np.linalg.norm(rows, axis=1, keepdims=True)
        return float(w @ solved.loss), gradient.ravel()

    # Alternation alone ends at the same, in five times the time. scipy's types know no function
    # that returns both.
    options: dict[str, Any] = {"jac": True, "method": "BFGS", "options": {"gtol": 1e-10}}
    atoms = unit(minimize(loss_and_gradient, start.ravel(), **options).x.reshape(start.shape))
    for _ in range(_MOST_STEPS):
        solved = optimal_codes(x, atoms, penalty)
        weighted = solved.z * w[:, None]
        pull = weighted.T @ solved.residual + (weighted * solved.z).sum(axis=0)[:, None] * atoms
        after = unit(np.where((weighted.sum(axis=0) > 0)[:, None], pull, atoms))
        step, atoms = np.abs(after - atoms).max(), after
        if step < _STILL:
            break
    return atoms


def random_atoms(n_atoms: int, d_in: int, seed: int) -> Array:
    """Directions, shape (n_atoms, d_in)."""
    return unit(np.random.default_rng(seed).normal(size=(n_atoms, d_in)))


def sparse_codes(n: int, n_features: int, rate: float, seed: int) -> Array:
    """Each feature is U[½, 1½] with probability `rate`, or else 0; shape (n, n_features)."""
    generator = np.random.default_rng(seed)
    is_on = generator.random((n, n_features)) < rate
    return generator.uniform(0.5, 1.5, (n, n_features)) * is_on
