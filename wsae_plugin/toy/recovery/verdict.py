"""Sentences of the recovery study that hold whatever its numbers are."""

from __future__ import annotations

from typing import Any

from wsae_plugin.toy.experiments.words import signed
from wsae_plugin.toy.recovery.worlds import IMBALANCED

Result = dict[str, Any]


def verdict(result: Result) -> list[str]:
    """What each rate shows of GBA, of the controls, and of weighting."""
    labels = {arm["name"]: arm["label"] for arm in result["arms"]}
    sentences: list[str] = []
    for lr in result["settings"]["rates"]:
        sentences += [_recovery(result, lr), _controls(result, lr, labels)]
    return [*sentences, *_weighting(result, labels)]


def _recovery(result: Result, lr: float) -> str:
    gba = _cell(result, IMBALANCED, lr, "gba")
    rest = ", ".join(f"{_share(gba, f'frr_{tau}')} at {tau}" for tau in ("0.8", "0.9", "0.95"))
    return (
        f"Imbalanced, learning rate {lr:g}: GBA recovers {rest}, with L0 "
        f"{gba['scores']['l0']['mean']:.3g} and explained variance "
        f"{gba['scores']['explained_variance']['mean']:.3g}."
    )


def _controls(result: Result, lr: float, labels: dict[str, str]) -> str:
    rows = [
        row
        for row in result["comparisons"]
        if (row["world"], row["lr"], row["measure"], row["against"])
        == (IMBALANCED, lr, "frr_0.9", "gba")
    ]
    worse = [labels[row["arm"]] for row in rows if row["clear"] and row["mean"] < 0]
    better = [labels[row["arm"]] for row in rows if row["clear"] and row["mean"] > 0]
    same = [labels[row["arm"]] for row in rows if not row["clear"]]
    return (
        f"There FRR(0.9) is clearly below GBA's for {_names(worse)}. Clearly above: "
        f"{_names(better)}. Not clearly different: {_names(same)}."
    )


def _weighting(result: Result, labels: dict[str, str]) -> list[str]:
    sentences: list[str] = []
    for arm in result["arms"]:
        against = arm["weighted_form_of"]
        if against is None:
            continue
        rows = [
            row
            for row in result["comparisons"]
            if row["arm"] == arm["name"] and row["measure"] == "frr_0.9"
        ]
        up = sum(row["clear"] and row["mean"] > 0 for row in rows)
        down = sum(row["clear"] and row["mean"] < 0 for row in rows)
        means = [row["mean"] for row in rows]
        sentences.append(
            f"{labels[arm['name']]} against {labels[against]}: FRR(0.9) clearly higher in {up}, "
            f"clearly lower in {down} of {len(rows)} worlds and rates "
            f"[{signed(min(means))}, {signed(max(means))}]."
        )
    return sentences


def _cell(result: Result, world: str, lr: float, arm: str) -> Result:
    (cell,) = (
        cell
        for cell in result["cells"]
        if (cell["world"], cell["lr"], cell["arm"]) == (world, lr, arm)
    )
    return cell


def _share(cell: Result, measure: str) -> str:
    return f"{cell['scores'][measure]['mean']:.1%}"


def _names(labels: list[str]) -> str:
    return "; ".join(labels) or "none"
