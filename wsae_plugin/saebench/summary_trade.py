"""What the weighting traded: the explained variance of each input dimension against its weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wsae_plugin.saebench.summary_pairs import Pair
from wsae_plugin.statistics import rounded

_GROUPS = 10
_DOTS = 1500


def trade(
    per_dimension: Mapping[str, Mapping[str, list[float | None]]], pairs: Sequence[Pair]
) -> dict[str, Any]:
    """For each arm, change of explained variance by the weight γ, over all its runs' dimensions.

    Args:
        per_dimension: Run → `gamma` and `explained_variance`, (d_in,) each; None where a dimension
            has no variance.
        pairs: Those that may be compared.

    Returns:
        Arm → `groups`, tenths of the dimensions by γ: `gamma` (geometric mean) and the `mean`
        difference with its `sd` over seeds; and `dots`, [γ, difference] of single dimensions,
        evenly thinned over the order of γ. Arms whose γ are all equal are left out.
    """
    found: dict[str, Any] = {}
    for arm in dict.fromkeys(pair.run.arm for pair in pairs):
        seeds, gamma, change = _dimensions(per_dimension, [p for p in pairs if p.run.arm == arm])
        if len(gamma) == 0 or np.ptp(gamma) <= 1e-6 * gamma.max():
            continue
        order = np.argsort(gamma, kind="stable")
        thinned = order[:: -(-len(order) // _DOTS)]
        found[arm] = {
            "groups": [_group(seeds[g], gamma[g], change[g]) for g in _tenths(order)],
            "dots": [[rounded(float(gamma[i])), rounded(float(change[i]))] for i in thinned],
        }
    return found


def _dimensions(
    per_dimension: Mapping[str, Mapping[str, list[float | None]]], pairs: Sequence[Pair]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Seed, γ and change of every dimension of every pair, where both runs have a value."""
    rows: list[tuple[float, float, float]] = []
    for pair in pairs:
        mine, theirs = (per_dimension.get(run.run, {}) for run in (pair.run, pair.baseline))
        rows += [
            (pair.run.seed, gamma, after - before)
            for gamma, after, before in zip(
                mine.get("gamma") or (),
                mine.get("explained_variance") or (),
                theirs.get("explained_variance") or (),
                strict=False,
            )
            if gamma is not None and gamma > 0 and after is not None and before is not None
        ]
    table = np.asarray(rows, dtype=np.float64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def _tenths(order: np.ndarray) -> list[np.ndarray]:
    return [part for part in np.array_split(order, _GROUPS) if len(part)]


def _group(seeds: np.ndarray, gamma: np.ndarray, change: np.ndarray) -> dict[str, Any]:
    means = [change[seeds == seed].mean() for seed in np.unique(seeds)]
    return {
        "gamma": rounded(float(np.exp(np.log(gamma).mean()))),
        "mean": rounded(float(np.mean(means))),
        "sd": rounded(float(np.std(means, ddof=1))) if len(means) > 1 else None,
    }
