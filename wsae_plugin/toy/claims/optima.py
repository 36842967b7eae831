"""What any optimum of nonnegative L1 dictionary learning satisfies (arXiv 2606.02385, abstract)."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq, linprog, minimize, nnls

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
        found.append(gain / (length[n] - penalty) ** 2 * 2)
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
        "correction": {
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
    by_search = minimize(
        lambda flat: convex_loss(FEW, flat.reshape(FEW.shape), PENALTY), 0.5 * FEW.ravel(), tol=1e-9
    ).fun
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


def crossed(n: int, n_far: int) -> tuple[Array, Array]:
    """Samples (2n + 2n_far, 3) that e_1 alone codes at λ = 0.1, stationary: 2n have z = 3 and are
    0.1 off along ±e_2, 2n_far have z = 0.3 and are 0.5 off along ±e_3. Their codes are given."""
    z = np.repeat([3.0, 0.3], [2 * n, 2 * n_far])
    signs = np.where(np.arange(len(z)) % 2, 1.0, -1.0)
    off = np.zeros((len(z), 3))
    off[: 2 * n, 1], off[2 * n :, 2] = 0.1 * signs[: 2 * n], 0.5 * signs[2 * n :]
    off[:, 0] = z + PENALTY
    return off, z


def split_slope(x: Array, along: Array, angle: float = 1e-6) -> float:
    """d/dφ of the loss recovered by e_1 cos φ ± t sin φ in place of e_1, codes optimal."""
    atom = np.eye(3)[:1]
    halves = unit(np.vstack([atom + angle * along, atom - angle * along]))
    gains = optimal_codes(x, atom, PENALTY).loss - optimal_codes(x, halves, PENALTY).loss
    return float(gains.sum() / angle)


def best_split(x: Array, along: Array) -> float:
    """What the best two atoms in the plane of e_1 and t recover beside e_1 alone."""

    def loss(angles: Array) -> float:
        atoms = np.cos(angles)[:, None] * np.eye(3)[0] + np.sin(angles)[:, None] * along
        return total(x, atoms, PENALTY)

    found = [
        minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}).fun
        for start in ((0.1, -0.1), (0.8, -0.8), (0.8, 0.0))
    ]
    return total(x, np.eye(3)[:1], PENALTY) - float(min(found))


def top_direction(rows: Array) -> Array:
    """The top eigenvector of Σ_n rows_n rows_nᵀ, shape (d,)."""
    return np.linalg.svd(rows, full_matrices=False)[2][0]


def two_means(across: Array, z: Array, side: NDArray[np.bool_]) -> float:
    """½ Σ over both sides of ‖Σ z Pr‖² / Σ z²."""
    return sum(
        float(((z[of] @ across[of]) ** 2).sum() / (z[of] ** 2).sum()) / 2
        for of in (side, ~side)
        if of.any()
    )


def optima_splitting() -> Measured:
    """T6."""
    # Many that are a little off, beside two that are far off.
    many, z_many = crossed(15, 0)
    rare = np.array([[1.1, 0, 2.0], [1.1, 0, -2.0]])
    x = np.vstack([many, rare])
    z = np.concatenate([z_many, [1.0, 1.0]])
    across = x * [0, 1, 1]
    turns = np.linspace(0, np.pi, 181)
    directions = np.column_stack([np.zeros_like(turns), np.cos(turns), np.sin(turns)])
    sums = [float(z @ np.abs(across @ along)) for along in directions]
    slopes = [split_slope(x, along) for along in directions]
    by_eigenvector = split_slope(x, top_direction(z[:, None] * across))
    large, z_large = crossed(15, 15)
    off = large * [0, 1, 1]
    printed, mended = top_direction(z_large[:, None] * off), top_direction(off)
    generator = np.random.default_rng(0)
    return {
        "printed": {
            "slope_error": max(
                abs(slope / first - 1) for slope, first in zip(slopes, sums, strict=True)
            ),
            "eigenvector": by_eigenvector / max(slopes),
            "eigenvector_large": best_split(large, printed) / best_split(large, mended),
        },
        "correction": {
            "largest_sum": slopes[int(np.argmax(sums))] / max(slopes),
            "large": best_split(large, mended)
            / max(best_split(large, t) for t in directions[::15]),
            "bound": max(
                two_means(off, z_large, side)
                for side in (
                    *(large @ direction > 0 for direction in np.eye(3)[1:]),
                    *(generator.random((200, len(z_large))) < 0.5),
                )
            )
            / float(np.linalg.svd(off)[1][0] ** 2 / 2),
        },
    }


def cone_missing(z: Array, atoms: Array, j: int) -> float:
    """T7: the distance of (m_k (1 − d_jᵀd_k))_{k≠j}, at length 1, from cone{z_{−j} : z_j = 0}."""
    others = np.arange(len(atoms)) != j
    wanted = z[:, others].sum(axis=0) * (1 - atoms[others] @ atoms[j])
    rays = z[np.ix_(z[:, j] == 0, others)].T
    return float(
        nnls(np.hstack([rays, np.zeros((len(rays), 1))]), wanted / np.linalg.norm(wanted))[1]
    )


def linear_gain(z: Array, atoms: Array, j: int) -> float:
    """By how much D(I + A), row j of A in [−1, 1] alone, lowers Σ Z, divided by the length of
    (m_k (1 − d_jᵀd_k))_k: a linear programme, 0 if and only if nothing is missing in the cone."""
    others = np.arange(len(atoms)) != j
    wanted = z[:, others].sum(axis=0) * (1 - atoms[others] @ atoms[j])
    rays = np.vstack([z[np.ix_(z[:, j] == 0, others)], np.zeros((1, others.sum()))])
    found = linprog(
        -wanted / np.linalg.norm(wanted), A_ub=rays, b_ub=np.zeros(len(rays)), bounds=(-1, 1)
    )
    return -float(found.fun)


def distance_moved(z: Array, atoms: Array, penalty: float) -> float:
    """The largest change of an entry on the way to a stationary dictionary, from next to D."""
    start = unit(atoms + 1e-6 * random_atoms(len(atoms), atoms.shape[1], seed=0))
    return float(np.abs(learned(z @ atoms, start, penalty) - atoms).max())


INDEPENDENT = sparse_codes(60, 3, rate=0.4, seed=2)
AXES = np.eye(3)
COHERENT = unit(AXES + 0.3)
OPPOSITE = np.vstack([AXES[:1], -AXES[:1], AXES[1:]])
"""(e_1, −e_1, e_2, e_3)."""


def nested() -> Array:
    """Feature 2 is active beside feature 1 alone."""
    z = INDEPENDENT.copy()
    z[z[:, 0] == 0, 1] = 0
    return z


def always_on() -> Array:
    """Feature 1 is active in every sample."""
    z = INDEPENDENT.copy()
    z[:, 0] = np.random.default_rng(3).uniform(0.5, 1.5, len(z))
    return z


def dense(balanced: bool) -> Array:
    """Codes of `OPPOSITE`: a Gaussian, split by its sign, beside two sparse features that know
    nothing of it; balanced where each sample is there with either sign."""
    dense = np.random.default_rng(4).normal(size=60)
    values, rest = np.concatenate([dense, -dense]), np.vstack([INDEPENDENT] * 2)
    if not balanced:
        values, rest = dense, INDEPENDENT
    return np.column_stack([values.clip(min=0), (-values).clip(min=0), rest[:, 1:]])


def imbalance(z: Array) -> float:
    """max_k |Σ_n z_nk sign(g_n)| / m_k for codes z of `OPPOSITE`, g being those of its pair."""
    rest = z[:, 2:]
    return float((np.abs(np.sign(z[:, 0] - z[:, 1]) @ rest) / rest.sum(axis=0)).max())


def optima_cone() -> Measured:
    """T7."""
    passing = {"axes": (INDEPENDENT, AXES), "coherent": (INDEPENDENT, COHERENT)}
    opposite = dense(balanced=False)
    sides = [(dense(balanced=True), OPPOSITE), (opposite, OPPOSITE), *passing.values()]
    return {
        "printed": {
            "passing": max(
                max(cone_missing(z, atoms, j), linear_gain(z, atoms, j))
                for z, atoms in sides
                for j in range(len(atoms))
            ),
            "nested": min(cone_missing(nested(), AXES, 0), linear_gain(nested(), AXES, 0)),
            "always_on": min(cone_missing(always_on(), AXES, 0), linear_gain(always_on(), AXES, 0)),
            "stays": max(distance_moved(*world, 1e-3) for world in passing.values()),
            "nested_moves": distance_moved(nested(), AXES, 1e-3),
            "always_on_moves": distance_moved(always_on(), AXES, 1e-3),
            "opposite_stays": distance_moved(opposite, OPPOSITE, 1e-3),
        },
        "condition": {
            "stays": max(distance_moved(*world, 1e-3) for world in passing.values()),
            "balanced_stays": distance_moved(dense(balanced=True), OPPOSITE, 1e-3),
            "imbalance": imbalance(opposite),
        },
    }


def two_sided(signed: bool) -> Array:
    """A dense direction, Gaussian or its absolute value, and two sparse features, (80, 3)."""
    dense = np.random.default_rng(1).normal(size=80)
    return np.column_stack([dense if signed else np.abs(dense), sparse_codes(80, 2, 0.25, seed=1)])


def best_of_four(x: Array) -> Array:
    """The best dictionary of four atoms that four starts lead to."""
    found = [learned(x, random_atoms(4, 3, seed), PENALTY) for seed in range(4)]
    return min(found, key=lambda atoms: total(x, atoms, PENALTY))


def cost_of_dropping(x: Array, atoms: Array, dropped: int, either_sign: bool) -> float:
    """The share by which the loss grows without one atom, where codes may have either sign or
    not; a code of either sign is two, of an atom and its opposite."""
    fewer = np.delete(atoms, dropped, axis=0)
    if either_sign:
        atoms, fewer = np.vstack([atoms, -atoms]), np.vstack([fewer, -fewer])
    return total(x, fewer, PENALTY) / total(x, atoms, PENALTY) - 1


def optima_antipodal() -> Measured:
    """Dense antipodal features."""
    simplex = unit(np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]))
    x = two_sided(signed=True)
    left = max(nnls(simplex.T, sample)[1] for sample in x)
    best, one_sided = best_of_four(x), best_of_four(two_sided(signed=False))
    cosines = best @ best.T
    pair = list(np.unravel_index(int(cosines.argmin()), cosines.shape))
    density = (optimal_codes(x, best, PENALTY).z > 0).mean(axis=0)
    return {
        "correction": {
            "least_cosine": float(cosines.min()),
            "density": float(density[pair].min()),
            "cost": cost_of_dropping(x, best, int(pair[0]), either_sign=False),
            "cost_either_sign": cost_of_dropping(x, best, int(pair[0]), either_sign=True),
            "one_sided": float((one_sided @ one_sided.T).min()),
            "without_penalty": left,
            "simplex_excess": total(x, simplex, PENALTY) / total(x, best, PENALTY) - 1,
        }
    }


FAMILY = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
"""The parent alone, both, and the child alone, the axes being their directions."""
JOINT = 0.1
"""q, how often both are active."""
ABSORBED = unit(np.array([[1.0, 0.0], [1.0, 1.0]]))


def crossing(penalty: float, amplitude: float = 1.0) -> float:
    """The ε at which the absorbed pair and the orthonormal one lose the same, by bisection."""
    absorbed = optimal_codes(amplitude * FAMILY, ABSORBED, penalty).loss
    plain = optimal_codes(amplitude * FAMILY, AXES[:2, :2], penalty).loss

    def excess(child_alone: float) -> float:
        return float(np.array([0.3, JOINT, child_alone]) @ (absorbed - plain))

    return float(brentq(excess, 0, 1_000, xtol=1e-15, rtol=1e-14))


def printed_crossing(penalty: float) -> float:
    """λq(8 − 4√2 − 2λ) / (1 − 2(2 − √2)λ)."""
    root = math.sqrt(2)
    return penalty * JOINT * (8 - 4 * root - 2 * penalty) / (1 - 2 * (2 - root) * penalty)


def child_angles(ratio: float, penalty: float) -> tuple[float, float]:
    """The angles between both atoms at the optimum from either pair, ε = ratio·λq."""
    weights = np.array([0.3, JOINT, ratio * penalty * JOINT])
    found = [
        learned(FAMILY, start, penalty, weights)
        for start in (ABSORBED, unit(AXES[:2, :2] + [[0, 1e-3], [1e-3, 0]]))
    ]
    first, second = (math.acos(float(atoms[0] @ atoms[1])) for atoms in found)
    return first, second


def predicted_angle(ratio: float) -> float:
    """θ of sin θ cos θ (1 + cos θ) = 1 / ratio, from 45° to 90°; 45° up to a ratio of 4 − 2√2."""
    if ratio <= 4 - 2 * math.sqrt(2):
        return math.pi / 4
    return float(
        brentq(
            lambda a: math.sin(a) * math.cos(a) * (1 + math.cos(a)) - 1 / ratio,
            math.pi / 4,
            math.pi / 2,
        )
    )


def optima_absorption() -> Measured:
    """Hierarchical absorption."""

    def error(penalties: tuple[float, ...]) -> float:
        return max(abs(printed_crossing(p) / crossing(p) - 1) for p in penalties)

    ratios = (0.5, 1.0, 1.5, 2.0, 2.343, 4.0, 6.0)
    angles = {ratio: child_angles(ratio, 1e-3) for ratio in ratios}
    return {
        "printed": {
            "error": error((0.01, 0.1, 0.3, 0.6, 0.7)),
            "error_beyond": error((0.75, 0.8, 0.9)),
            "first_order": crossing(1e-4) / (1e-4 * JOINT),
        },
        "condition": {
            "error": error((0.01, 0.1, 0.3, 0.6, 0.7)),
            "scaled": abs(crossing(0.2, amplitude=2.0) / crossing(0.1) - 1),
        },
        "correction": {
            "two_optima": max(abs(a - b) for a, b in angles.values()),
            "angle_error": max(abs(a - predicted_angle(r)) for r, (a, _) in angles.items()),
            "angle_at_crossing": math.degrees(angles[2.343][0]),
            "stationary": min(
                atom_error(np.repeat(FAMILY, [3, 1, 1], axis=0), atoms, PENALTY)
                for atoms in (ABSORBED, AXES[:2, :2])
            ),
        },
    }
