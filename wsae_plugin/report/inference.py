"""Intervals and tests over seeds, and what they entitle a report to say of one number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from scipy.special import stdtrit

from wsae_plugin.report.inputs import Frame
from wsae_plugin.report.paired import contrast
from wsae_plugin.statistics import CONFIDENCE, compare, rounded, rounded_cell, t_interval

Metric = dict[str, Any]
Cell = Mapping[str, float | bool]
Outcome = Literal["better", "worse", "same"]
Lean = Literal["better", "worse", ""]
AgainstControl = Literal["beyond", "as much", "more", "undecided"]

# A control with this share of an arm's effect that is not told apart from it "moves as much".
_AS_MUCH = 0.5


def add_tests(metrics: list[Metric], roles: Mapping[str, str]) -> dict[str, int]:
    """Give every arm of every metric its `difference`, in place, and round what it was made from.

    With one seed it has a `mean` alone; with more, an interval too; a headline metric with a
    direction also `p`, `p_holm`, `clear`, `outcome` and `lean`. Holm's adjustment goes over all
    metrics and arms of one role: what is claimed of the weighted arms does not get weaker with
    every control that is trained beside them.

    Args:
        metrics: As `metric_entry` makes them.
        roles: Arm → its role.

    Returns:
        Role → the number of tests.
    """
    families: dict[str, list[tuple[Metric, Metric, list[float]]]] = {}
    for metric in metrics:
        for name, arm in metric["arms"].items():
            values: list[float] = arm["per_seed"]
            arm["per_seed"] = list(map(rounded, values))
            arm["difference"] = {"mean": rounded(float(np.mean(values)))}
            if len(values) < 2:
                continue
            if metric["headline"] and metric["direction"] != "none":
                families.setdefault(roles[name], []).append((metric, arm, values))
            else:
                interval = t_interval(values, metric["resolution"])
                arm["difference"] |= {"low": rounded(interval.low), "high": rounded(interval.high)}
    for family in families.values():
        resolutions = [metric["resolution"] for metric, *_ in family]
        cells = compare([values for *_, values in family], resolutions)
        for (metric, arm, _), cell in zip(family, cells, strict=True):
            arm["difference"] = rounded_cell(cell) | {
                "outcome": outcome(metric, cell),
                "lean": lean(metric, cell),
            }
    return {role: len(family) for role, family in families.items()}


def add_contrasts(
    metrics: list[Metric],
    scores: Sequence[Frame],
    pairs: Frame,
    controls: Mapping[str, Sequence[str]],
) -> int:
    """Give the weighted arms of tested metrics `against_controls`, in place.

    An effect that is clear in the arm and not in its control can still be the same in both, so the
    two are subtracted and the difference is tested.

    Args:
        metrics: After `add_tests`.
        scores: The scores that each of them was made from.
        pairs: Those that may be compared.
        controls: Weighted arm → those of its controls that an effect should exceed.

    Returns:
        The number of tests, Holm-adjusted among themselves.
    """
    tested: list[tuple[Metric, str, str, list[float]]] = []
    for metric, rows in zip(metrics, scores, strict=True):
        for arm, entry in metric["arms"].items():
            entry["against_controls"] = {}
            for control in controls.get(arm, ()) if "outcome" in entry["difference"] else ():
                differences = contrast(rows, pairs, arm, control)
                if len(differences) > 1:
                    tested.append((metric, arm, control, differences))
    if not tested:
        return 0
    resolutions = [metric["resolution"] for metric, *_ in tested]
    cells = compare([differences for *_, differences in tested], resolutions)
    for (metric, arm, control, _), cell in zip(tested, cells, strict=True):
        mine, theirs = (metric["arms"][each]["difference"]["mean"] for each in (arm, control))
        metric["arms"][arm]["against_controls"][control] = rounded_cell(cell) | {
            "outcome": against_control(mine, theirs, cell, _counts(metric, cell))
        }
    return len(tested)


def outcome(metric: Metric, cell: Cell) -> Outcome:
    """Better or worse if the difference is clear and larger than the measurement's noise."""
    return _way(metric, cell) if _counts(metric, cell) else "same"


def lean(metric: Metric, cell: Cell) -> Lean:
    """Better or worse if the outcome would be, were this the only test; otherwise empty."""
    alone = cell["p"] < 1 - CONFIDENCE
    is_small = abs(cell["mean"]) <= (metric["noise"] or 0)
    return _way(metric, cell) if alone and not is_small and not cell["clear"] else ""


def sds_to_be_clear(n_seeds: int, n_tests: int) -> float | None:
    """How many standard deviations over seeds the surest difference of its family needs.

    None where nothing is tested.
    """
    if n_seeds < 2 or n_tests == 0:
        return None
    critical = float(stdtrit(n_seeds - 1, 1 - (1 - CONFIDENCE) / n_tests / 2))
    return rounded(critical / n_seeds**0.5)


def against_control(
    effect: float, controls_effect: float, cell: Cell, counts: bool
) -> AgainstControl:
    """How an arm's effect stands to a control's.

    Args:
        effect: The arm's mean difference to the baseline.
        controls_effect: The control's.
        cell: The arm minus the control.
        counts: Whether that is clear and larger than the measurement's noise.
    """
    if counts:
        return "beyond" if cell["mean"] * effect > 0 else "more"
    return "as much" if controls_effect * effect >= _AS_MUCH * effect**2 > 0 else "undecided"


def _way(metric: Metric, cell: Cell) -> Literal["better", "worse"]:
    return "better" if (cell["mean"] > 0) == (metric["direction"] == "up") else "worse"


def _counts(metric: Metric, cell: Cell) -> bool:
    return bool(cell["clear"]) and abs(cell["mean"]) > (metric["noise"] or 0)
