"""What optimal dictionaries look like (arXiv 2606.02385): split, absorbed and antipodal atoms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, linprog, minimize, nnls

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
from wsae_plugin.toy.claims.optima import PENALTY, atom_error


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
    independent = [(INDEPENDENT, AXES), (INDEPENDENT, COHERENT)]
    opposite = dense(balanced=False)
    stays = max(distance_moved(*world, 1e-3) for world in independent)
    sides = [(dense(balanced=True), OPPOSITE), (opposite, OPPOSITE), *independent]
    return {
        "printed": {
            "passing": max(
                max(cone_missing(z, atoms, j), linear_gain(z, atoms, j))
                for z, atoms in sides
                for j in range(len(atoms))
            ),
            "nested": min(cone_missing(nested(), AXES, 0), linear_gain(nested(), AXES, 0)),
            "always_on": min(cone_missing(always_on(), AXES, 0), linear_gain(always_on(), AXES, 0)),
            "nested_moves": distance_moved(nested(), AXES, 1e-3),
            "always_on_moves": distance_moved(always_on(), AXES, 1e-3),
            "stays": stays,
            "opposite_stays": distance_moved(opposite, OPPOSITE, 1e-3),
        },
        "condition": {
            "stays": stays,
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

    # scipy's types do not say that it is a number.
    root: Any = brentq(excess, 0, 1_000, xtol=1e-15)
    return float(root)


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

    def excess(angle: float) -> float:
        return math.sin(angle) * math.cos(angle) * (1 + math.cos(angle)) - 1 / ratio

    root: Any = brentq(excess, math.pi / 4, math.pi / 2)
    return float(root)


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
