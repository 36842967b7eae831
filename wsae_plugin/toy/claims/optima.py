"""What any optimum of a dictionary satisfies (arXiv 2606.02385): codes, atoms, residuals, width."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from scipy.optimize import minimize, nnls

from wsae_plugin.optimality.lasso import nonnegative_lasso
from wsae_plugin.toy.claims.claim import Measured
from wsae_plugin.toy.claims.dictionaries import (
    Array,
    learned,
    optimal_codes,
    random_atoms,
    sparse_codes,
    total,
    unit,
)

PENALTY = 0.1
"""λ where a claim needs one."""
FEATURES = unit(np.eye(3, 4) + 0.2 * np.random.default_rng(0).normal(size=(3, 4)))
"""Three features in four dimensions, with cosines up to about a half."""
SAMPLES = sparse_codes(60, 3, rate=0.4, seed=0) @ FEATURES
LONGER = 1e-6
"""By this share of λ a residual has to be longer than it, or else that is rounding."""


@cache
def optimum(n_atoms: int, seed: int = 0) -> Array:
    """A stationary dictionary of `SAMPLES`, shape (n_atoms, 4)."""
    return learned(SAMPLES, random_atoms(n_atoms, 4, seed), PENALTY)


def code_error(z: Array, residual: Array, atoms: Array, penalty: float) -> float:
    """T1: by how much d_jᵀr exceeds λ, or differs from it where z_j > 0; the largest."""
    excess = residual @ atoms.T - penalty
    return float(np.where(z > 0, np.abs(excess), excess).max())


def sum_error(z: Array, residual: Array, x: Array, penalty: float) -> float:
    """T4: the largest error of ⟨x̂, r⟩ = λ‖z‖₁, and of loss = ½(‖x‖² − ‖x̂‖²)."""
    found = x - residual
    product = (found * residual).sum(axis=1) - penalty * z.sum(axis=1)
    loss = (residual**2).sum(axis=1) / 2 + penalty * z.sum(axis=1)
    difference = loss - ((x**2).sum(axis=1) - (found**2).sum(axis=1)) / 2
    return float(max(np.abs(product).max(), np.abs(difference).max()))


def nnls_codes(x: Array, atoms: Array, penalty: float) -> Array:
    """Optimal codes of independent atoms by Lawson and Hanson's method: with DᵀD = LLᵀ, of
    ½‖Lᵀz − L⁻¹(Dᵀx − λ)‖²."""
    factor = np.linalg.cholesky(atoms @ atoms.T)
    targets = np.linalg.solve(factor, (x @ atoms.T - penalty).T).T
    return np.array([nnls(factor.T, target)[0] for target in targets])


def optima_codes() -> Measured:
    """T1 and T4."""
    found: list[tuple[float, float]] = []
    spread = 0.0
    for atoms in (optimum(3), random_atoms(3, 4, seed=1), FEATURES):
        codes = optimal_codes(SAMPLES, atoms, PENALTY)
        found.append(
            (
                code_error(codes.z, codes.residual, atoms, PENALTY),
                sum_error(codes.z, codes.residual, SAMPLES, PENALTY),
            )
        )
        solver = nonnegative_lasso(
            torch.from_numpy(SAMPLES), torch.from_numpy(atoms), PENALTY, tolerance=1e-10
        )
        by_nnls = nnls_codes(SAMPLES, atoms, PENALTY)
        spread = max(
            spread,
            np.abs(solver.objective.numpy() - codes.loss).max(),
            np.abs(by_nnls - codes.z).max(),
        )
    codes = optimal_codes(SAMPLES, FEATURES, PENALTY)
    amortised = (SAMPLES @ FEATURES.T - PENALTY).clip(min=0)
    left = SAMPLES - amortised @ FEATURES
    return {
        "printed": {
            "code_error": max(error for error, _ in found),
            "sum_error": max(error for _, error in found),
            "solvers": float(spread),
            "other_code_error": code_error(amortised, left, FEATURES, PENALTY),
            "other_sum_error": sum_error(amortised, left, SAMPLES, PENALTY),
        }
    }


def atom_error(x: Array, atoms: Array, penalty: float) -> float:
    """T2: the largest ‖Σ_n z_jn r_n / m_j − λd_j‖ / λ of atoms in use."""
    codes = optimal_codes(x, atoms, penalty)
    active = codes.z.sum(axis=0)
    used = active > 0
    mean = codes.z.T[used] @ codes.residual / active[used, None]
    return float(np.linalg.norm(mean - penalty * atoms[used], axis=1).max() / penalty)


def refit_error(x: Array, atoms: Array, penalty: float) -> float:
    """T3: the largest entry of D − XZᵀ(ZZᵀ + λ diag m)⁻¹, all atoms in use."""
    z = optimal_codes(x, atoms, penalty).z
    refit = np.linalg.solve(z.T @ z + penalty * np.diag(z.sum(axis=0)), z.T @ x)
    return float(np.abs(refit - atoms).max())


def least_activity(x: Array, atoms: Array, penalty: float) -> float:
    """min_j m_j."""
    return float(optimal_codes(x, atoms, penalty).z.sum(axis=0).min())


def top_one_mean(x: Array, atoms: Array) -> float:
    """T2 for Top-1 and free lengths: the largest ‖Σ_n z_jn r_n / m_j‖ where alternation ends."""
    z, left = np.zeros((len(x), len(atoms))), x
    for _ in range(2_000):
        z = (x @ unit(atoms).T).clip(min=0)
        z = np.where(z == z.max(axis=1, keepdims=True), z, 0)
        z = z / np.linalg.norm(atoms, axis=1)
        left = x - z @ atoms
        atoms = atoms + z.T @ left / (z**2).sum(axis=0)[:, None].clip(min=1e-9)
    return float(np.linalg.norm(z.T @ left / z.sum(axis=0)[:, None].clip(min=1e-9), axis=1).max())


def optima_atoms() -> Measured:
    """T2 and T3."""
    found = [optimum(width, seed) for width in (2, 3, 4) for seed in range(3)]
    used = [atoms for atoms in found if least_activity(SAMPLES, atoms, PENALTY) > 0]
    # An atom that points away from all samples gets no gradient.
    start = np.vstack([optimum(3), -unit(SAMPLES.sum(axis=0))])
    unused = learned(SAMPLES, start, PENALTY)
    atom = max(atom_error(SAMPLES, atoms, PENALTY) for atoms in [*found, unused])
    return {
        "printed": {
            "atom_error": atom,
            "top_one_mean": top_one_mean(SAMPLES, random_atoms(3, 4, seed=0)),
            "least_activity": least_activity(SAMPLES, unused, PENALTY),
        },
        "condition": {
            "atom_error": atom,
            "refit_error": max(refit_error(SAMPLES, atoms, PENALTY) for atoms in used),
            "n_used": len(used),
            "true_atom_error": atom_error(SAMPLES, FEATURES, PENALTY),
            "true_refit_error": refit_error(SAMPLES, FEATURES, PENALTY),
        },
    }


def inside_error(x: Array, atoms: Array, penalty: float, factor: float = 1.0) -> float:
    """The largest error of the residual's part in the span of the active atoms A, which is
    λA(AᵀA)⁻¹1 at optimal codes, if those are multiplied by `factor`."""
    codes = optimal_codes(x, atoms, penalty)
    worst = 0.0
    for z, sample in zip(factor * codes.z, x, strict=True):
        active = atoms[z > 0]
        left = sample - z @ atoms
        inside = active.T @ np.linalg.lstsq(active.T, left, rcond=None)[0]
        wanted = penalty * active.T @ np.linalg.solve(active @ active.T, np.ones(len(active)))
        worst = max(worst, float(np.abs(inside - wanted).max(initial=0)))
    return worst


def optima_residuals() -> Measured:
    """The structure of residuals."""
    codes = optimal_codes(SAMPLES, optimum(3), PENALTY)
    length, n_active = np.linalg.norm(codes.residual, axis=1), (codes.z > 0).sum(axis=1)
    return {
        "correction": {
            "inside_error": inside_error(SAMPLES, optimum(3), PENALTY),
            "least_length": float(length[n_active > 0].min() / PENALTY),
            "two_and_one": float(length[n_active >= 2].mean() / length[n_active == 1].mean()),
            "other_inside_error": inside_error(SAMPLES, optimum(3), PENALTY, factor=0.9),
        }
    }


def huber(x: Array, penalty: float) -> Array:
    """½‖x‖² up to a length of λ, λ‖x‖ − ½λ² beyond it, shape (n,)."""
    length = np.linalg.norm(x, axis=1)
    return np.where(length < penalty, length**2 / 2, penalty * length - penalty**2 / 2)


def an_atom_a_sample(x: Array) -> Array:
    """The directions of samples, shape (n, d), without those that are 0."""
    return unit(x[x.any(axis=1)])


FEW = SAMPLES[(sparse_codes(60, 3, rate=0.4, seed=0) > 0).sum(axis=1) >= 2][:7]
"""Samples of two features or three: as many as codes can be searched for where each is an atom."""


def least_relative_gain(x: Array, atoms: Array, penalty: float) -> float:
    """Of the samples with ‖r‖ > λ: the least gain of the atom along r, as a share of its bound
    from below, ½(‖r‖ − λ)²."""
    codes = optimal_codes(x, atoms, penalty)
    length = np.linalg.norm(codes.residual, axis=1)
    found: list[float] = []
    for n in np.flatnonzero(length > (1 + LONGER) * penalty):
        more = np.vstack([atoms, codes.residual[n] / length[n]])
        gain = codes.loss[n] - optimal_codes(x[n : n + 1], more, penalty).loss[0]
        found.append(float(gain / (length[n] - penalty) ** 2 * 2))
    return min(found)


def longer_share(x: Array, atoms: Array, penalty: float) -> float:
    """Of samples with an active atom: the share with ‖r‖ > λ."""
    codes = optimal_codes(x, atoms, penalty)
    is_coded = codes.z.any(axis=1)
    length = np.linalg.norm(codes.residual[is_coded], axis=1)
    return float((length > (1 + LONGER) * penalty).mean())


def gain_of_one_more(n_atoms: int) -> float:
    """The share of the loss that one more atom recovers, all learned again, best of three."""
    before = total(SAMPLES, optimum(n_atoms), PENALTY)
    after = min(total(SAMPLES, optimum(n_atoms + 1, seed), PENALTY) for seed in range(3))
    return 1 - after / before


def optima_width() -> Measured:
    """T5."""
    each = optimal_codes(FEW, an_atom_a_sample(FEW), PENALTY)
    more = np.vstack([an_atom_a_sample(FEW), np.zeros(4)])
    gain = 0.0
    for seed in range(50):
        more[-1] = random_atoms(1, 4, seed)
        gain = max(gain, float((each.loss - optimal_codes(FEW, more, PENALTY).loss).max()))
    single = np.array([0.5, 1.5])[:, None] * FEATURES[:1]
    mixed = SAMPLES[(sparse_codes(60, 3, rate=0.4, seed=0) > 0).sum(axis=1) >= 2]
    along = np.linalg.norm(optimal_codes(single, FEATURES, PENALTY).residual, axis=1)
    beside = np.linalg.norm(optimal_codes(mixed, FEATURES, PENALTY).residual, axis=1)
    return {
        "printed": {
            "least_gain": least_relative_gain(SAMPLES, optimum(3), PENALTY),
            "gain_beyond": gain,
            "longer_share": longer_share(SAMPLES, optimum(3), PENALTY),
            "longer_share_narrow": longer_share(SAMPLES, optimum(2), PENALTY),
        },
        "correction": {
            "along": float(np.abs(along / PENALTY - 1).max()),
            "beside": float(beside.min() / PENALTY),
            "excess_if_none": float(np.abs(each.loss - huber(FEW, PENALTY)).max()),
            "excess_if_longer": total(SAMPLES, optimum(3), PENALTY)
            / float(huber(SAMPLES, PENALTY).sum())
            - 1,
            "gain_if_narrow": gain_of_one_more(2),
            "gain_if_right": gain_of_one_more(3),
        },
    }


def optima_one_atom_a_sample() -> Measured:
    """The limit of infinite width."""
    atoms = an_atom_a_sample(FEW)
    codes = optimal_codes(FEW, atoms, PENALTY)
    bound = huber(FEW, PENALTY)
    wide = random_atoms(2_000, 4, seed=0)
    by_solver = nonnegative_lasso(
        torch.from_numpy(FEW), torch.from_numpy(wide), PENALTY
    ).objective.numpy()
    own = np.eye(len(FEW)) * (np.linalg.norm(FEW, axis=1) - PENALTY)
    return {
        "printed": {
            "excess": float(np.abs(codes.loss - bound).max()),
            "code_error": float(np.abs(codes.z - own).max()),
            "least_excess": float((by_solver - bound).min()),
            "wide_excess": float((by_solver / bound).max() - 1),
            "one_fewer": min(
                total(FEW, np.delete(atoms, n, axis=0), PENALTY) - float(bound.sum())
                for n in range(len(atoms))
            ),
        }
    }


def convex_loss(x: Array, found: Array, penalty: float) -> float:
    """½‖X − X̂‖² + λ Σ_n ‖x̂_n‖, a convex function of X̂."""
    lengths = np.linalg.norm(found, axis=1)
    return float(((x - found) ** 2).sum() / 2 + penalty * lengths.sum())


def optima_convex() -> Measured:
    """The convex problem of large dictionaries."""
    generator = np.random.default_rng(0)
    cheaper = math.inf
    for seed in range(200):
        atoms = random_atoms(9, 4, seed)
        z = generator.exponential(size=(7, 9)) * (generator.random((7, 9)) < 0.4)
        cheaper = min(cheaper, float((z.sum(axis=1) - np.linalg.norm(z @ atoms, axis=1)).min()))

    def loss(flat: Array) -> float:
        return convex_loss(FEW, flat.reshape(FEW.shape), PENALTY)

    by_search = minimize(loss, 0.5 * FEW.ravel(), tol=1e-9).fun
    atoms, turned = optimum(3), optimum(3)[[1, 2, 0]]
    ends = total(SAMPLES, atoms, PENALTY), total(SAMPLES, turned, PENALTY)
    middle = total(SAMPLES, (atoms + turned) / 2, PENALTY)
    return {
        "correction": {
            "cheaper": cheaper,
            "difference": abs(by_search - total(FEW, an_atom_a_sample(FEW), PENALTY)),
            "middle": middle / max(ends) - 1,
        }
    }
