"""What figures need beside the scores: what the weighting traded, Γ, and the learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wsae_plugin.compare.manifest import ComparedRun
from wsae_plugin.report.inputs import Frame, Inputs
from wsae_plugin.scores import ScoreFile
from wsae_plugin.statistics import rounded

_GROUPS = 10
_DOTS = 1500
_STEPS = 100


def trade(scores: Mapping[str, ScoreFile], pairs: Frame) -> dict[str, Any]:
    """For each arm, change of explained variance by the weight γ, over all its runs' dimensions.

    Args:
        scores: Run → its scores on held-out text.
        pairs: Those that may be compared.

    Returns:
        Arm → `groups`, tenths of the dimensions by γ: `gamma` (geometric mean) and the `mean`
        difference with its `sd` over seeds; and `dots`, [γ, difference] of single dimensions,
        evenly thinned over the order of γ. Arms whose γ are all equal are left out.
    """
    found: dict[str, Any] = {}
    for arm in dict.fromkeys(pairs["arm"]):
        seeds, gamma, change = _dimensions(scores, pairs[pairs["arm"] == arm]).T
        if len(gamma) == 0 or np.ptp(gamma) <= 1e-6 * gamma.max():
            continue
        order = np.argsort(gamma, kind="stable")
        thinned = order[:: -(-len(order) // _DOTS)]
        tenths = [part for part in np.array_split(order, _GROUPS) if len(part)]
        found[arm] = {
            "groups": [_group(seeds[part], gamma[part], change[part]) for part in tenths],
            "dots": [[rounded(float(gamma[i])), rounded(float(change[i]))] for i in thinned],
        }
    return found


def gammas(inputs: Inputs) -> dict[str, Any]:
    """Arm → Γ of its first run: `run`, its `spectrum`, γ sorted, the share of the first dimensions.

    The `shares` are running totals of the weighted variance, the largest dimension first. An arm
    whose Γ is even has none.
    """
    found: dict[str, Any] = {}
    for run in _first_runs(inputs):
        scores = inputs.scores[run.run].get("held_out")
        if scores is None or not scores.spectrum:
            continue
        gamma, variance = (
            np.asarray(scores.per_dimension[name], dtype=float) for name in ("gamma", "variance")
        )
        weighted = np.sort(gamma**2 * variance)[::-1]
        if not weighted.sum() > 0:
            continue
        found[run.arm] = {
            "run": run.run,
            "spectrum": scores.spectrum,
            "gamma": [rounded(float(each)) for each in np.sort(gamma)[::-1]],
            "shares": [rounded(float(each)) for each in np.cumsum(weighted / weighted.sum())],
        }
    return found


def learning(inputs: Inputs) -> dict[str, Any]:
    """Arm → [training tokens, explained variance of the batch] of its first run, evenly thinned."""
    curves = {run.arm: inputs.learning_curve(run) for run in _first_runs(inputs)}
    return {arm: curve[:: -(-len(curve) // _STEPS)] for arm, curve in curves.items() if curve}


def _first_runs(inputs: Inputs) -> Sequence[ComparedRun]:
    """One run of each arm, all at the same hook and sparsity and from the same seed."""
    first = inputs.runs[0]
    place = first.hook_name, first.sparsity, first.seed
    alike = [run for run in inputs.runs if (run.hook_name, run.sparsity, run.seed) == place]
    return list({run.arm: run for run in reversed(alike)}.values())[::-1]


def _dimensions(scores: Mapping[str, ScoreFile], pairs: Frame) -> np.ndarray:
    """Seed, γ and change of every dimension of every pair, where both runs have a value."""
    rows: list[tuple[float, float, float]] = []
    for seed, run, baseline in pairs[["seed", "run", "baseline"]].itertuples(index=False):
        if run not in scores or baseline not in scores:
            continue
        mine, theirs = scores[run].per_dimension, scores[baseline].per_dimension
        rows += [
            (seed, gamma, after - before)
            for gamma, after, before in zip(
                mine.get("gamma", ()),
                mine.get("explained_variance", ()),
                theirs.get("explained_variance", ()),
                strict=False,
            )
            if gamma is not None and gamma > 0 and after is not None and before is not None
        ]
    return np.asarray(rows, dtype=np.float64).reshape(-1, 3)


def _group(seeds: np.ndarray, gamma: np.ndarray, change: np.ndarray) -> dict[str, Any]:
    means = [change[seeds == seed].mean() for seed in np.unique(seeds)]
    return {
        "gamma": rounded(float(np.exp(np.log(gamma).mean()))),
        "mean": rounded(float(np.mean(means))),
        "sd": rounded(float(np.std(means, ddof=1))) if len(means) > 1 else None,
    }
