"""Paired differences over seeds: an interval, a test, and the correction for many of them.

Student's, since seeds are few: a bootstrap of 3 seeds holds the mean 74 times in 100 where it says
95. Two things that seeds do not show are put in by hand. A metric that moves in steps can give all
seeds the same difference, so no standard deviation is taken to be smaller than the smallest step.
And many tests are made, so p is adjusted by Holm's method within each question that is asked.
`eval/statistics/null.py` measures how often a family of tests is wrong where nothing differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

CONFIDENCE = 0.95
_SAME = 1e-6
"""Values that differ by a smaller share of the largest are the same, but for float32's rounding."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 95 % interval."""

    mean: float
    low: float
    high: float


def rounded(value: float) -> float:
    """Four digits, for JSON: seeds differ in the second."""
    return float(f"{value:.4g}")


def resolution_of(values: Iterable[float]) -> float:
    """The smallest step between two different values of a metric; 0 where all are the same.

    A metric that moves in steps (a share of few samples, a count of latents) moves by no less; of
    any other this is next to nothing.

    Args:
        values: every value of the metric that was measured, of all arms and seeds.
    """
    ordered = np.sort(np.fromiter(values, dtype=np.float64))
    steps = np.diff(ordered)
    steps = steps[steps > _SAME * np.abs(ordered).max(initial=0)]
    return float(steps.min()) if len(steps) else 0.0


def t_interval(values: Sequence[float], resolution: float = 0.0) -> Interval:
    """Student's 95 % interval of the mean over seeds.

    Args:
        values: one for each seed, at least 2.
        resolution: of the metric; the standard deviation is taken to be no smaller.
    """
    mean, error = _mean_and_error(values, resolution)
    half = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * error
    return Interval(mean, mean - half, mean + half)


def paired_p_value(differences: Sequence[float], resolution: float = 0.0) -> float:
    """Of Student's paired test against a mean of 0, two-sided.

    Not a permutation test, since 8 seeds have 2⁷ distinct splits of signs: its smallest p, 1/128,
    would stay above 0.05 after the correction for 7 cells or more.

    Args:
        differences: one for each seed, at least 2.
        resolution: of the metric; the standard deviation is taken to be no smaller.

    Returns:
        p; 1 where neither the seeds nor the resolution say how far the difference scatters.
    """
    mean, error = _mean_and_error(differences, resolution)
    if error == 0:
        return 1.0
    return float(2 * stdtr(len(differences) - 1, -abs(mean) / error))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the order given (Holm 1979)."""
    order = np.argsort(p_values)
    n = len(p_values)
    stepped = np.asarray(p_values, dtype=np.float64)[order] * (n - np.arange(n))
    adjusted = np.empty(n)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return adjusted.tolist()


def compare(
    cells: Sequence[Sequence[float]], resolutions: Sequence[float]
) -> list[dict[str, float | bool]]:
    """The paired differences that answer one question, tested together.

    Args:
        cells: for each test the differences, one for each seed.
        resolutions: of the metric of each test, see `resolution_of`.

    Returns:
        For each test `mean`, `low`, `high`, `p`, `p_holm` (over all of them) and `clear`: whether
        p_holm is below 0.05.
    """
    each = list(zip(cells, resolutions, strict=True))
    intervals = [t_interval(*one) for one in each]
    p_values = [paired_p_value(*one) for one in each]
    return [
        {
            "mean": interval.mean,
            "low": interval.low,
            "high": interval.high,
            "p": p,
            "p_holm": adjusted,
            "clear": adjusted < 1 - CONFIDENCE,
        }
        for interval, p, adjusted in zip(intervals, p_values, holm(p_values), strict=True)
    ]


def rounded_cell(cell: Mapping[str, float | bool]) -> dict[str, float | bool]:
    """What `compare` says of one test, for JSON."""
    return {key: v if isinstance(v, bool) else rounded(v) for key, v in cell.items()}


def _mean_and_error(values: Sequence[float], resolution: float) -> tuple[float, float]:
    """The mean and its standard error; both 0 where they are nothing but rounding."""
    data = np.asarray(values, dtype=np.float64)
    deviation = max(float(data.std(ddof=1)), resolution)
    if deviation <= _SAME * np.abs(data).max(initial=0):
        deviation = 0.0
    return float(data.mean()), deviation / len(data) ** 0.5
