"""Sentences from comparisons, the same for every study."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Result = dict[str, Any]

HOW_TO_READ = (
    "'lower' and 'higher' count the cells with a clear paired difference to the plain SAE (Γ = I): "
    "p < 0.05 after Holm's correction over all cells of all weighted arms, or of all controls; "
    "the other cells show no clear difference. In brackets the smallest and the largest mean "
    "difference."
)


def cells_where(result: Result, **facts: Any) -> list[int]:
    """Find the numbers of the cells with these facts."""
    return [
        number
        for number, cell in enumerate(result["cells"])
        if all(cell[name] == value for name, value in facts.items())
    ]


def rows_of(result: Result, arm: str, measure: str, cells: Iterable[int]) -> list[Result]:
    """Find the comparisons of an arm with its own in some cells, in the cells' order."""
    found = {
        row["cell"]: row
        for row in result["comparisons"]
        if row["arm"] == arm and row["measure"] == measure
    }
    return [found[cell] for cell in cells if cell in found]


def counts(rows: list[Result]) -> tuple[int, int]:
    """Count the cells that are clearly lower, and those that are clearly higher."""
    clear = [row["mean"] for row in rows if row["clear"]]
    return sum(mean < 0 for mean in clear), sum(mean > 0 for mean in clear)


def tally(rows: Iterable[Result]) -> str:
    """Say `lower in 2, higher in 1 of 6 cells [−0.02, +0.01]`."""
    rows = list(rows)
    if not rows:
        return "not compared"
    lower, higher = counts(rows)
    means = [row["mean"] for row in rows]
    return (
        f"lower in {lower}, higher in {higher} of {len(rows)} cells "
        f"[{signed(min(means))}, {signed(max(means))}]"
    )


def in_three_sentences(result: Result, measure: str, label: str) -> list[str]:
    """What weighting did to recovery, what its controls did, and what it cost in reconstruction.

    Args:
        result: of a study whose arms have a `treatment`.
        measure: of recovery, lower is better.
        label: of the measure.
    """
    cells = range(len(result["cells"]))

    def rows(measured: str, **facts: Any) -> list[Result]:
        arms = [a["name"] for a in result["arms"] if all(a[k] == v for k, v in facts.items())]
        return [row for arm in arms for row in rows_of(result, arm, measured, cells)]

    weighted = rows(measure, role="weighted")
    lower, higher = counts(weighted)
    balance = "helps as often as it harms"
    if lower != higher:
        helps = lower > higher
        balance = "helps more often than it harms" if helps else "harms more often than it helps"
    if lower == higher == 0:
        balance = "changes nothing clearly"
    elif 2 * (lower + higher) < len(weighted):
        balance = f"mostly changes nothing clearly, and {balance} where it does"
    controls: list[str] = []
    for treatment, name in _TREATMENTS.items():
        if found := rows(measure, role="control", treatment=treatment):
            fewer, more = counts(found)
            controls.append(f"{name} {fewer} and {more} of {len(found)}")
    cheaper, dearer = counts(errors := rows("reconstruction_error", role="weighted"))
    return [
        f"Weighting {balance}: {label}, of which less is better, is clearly lower than the plain "
        f"SAE's in {lower} and clearly higher in {higher} of {len(weighted)} comparisons, each "
        f"over {result['settings']['n_seeds']} seeds.",
        f"The same counts of the controls: {'; '.join(controls)}.",
        f"What weighting cost: the reconstruction error is clearly lower in {cheaper} and clearly "
        f"higher in {dearer} of {len(errors)} comparisons.",
    ]


_TREATMENTS = {
    "shuffled": "shuffled weights",
    "constant": "Γ = cI",
    "input": "a plain SAE on Γx",
    "weights": "the opposite α or even weights",
    "whitened": "whitening",
}


def signed(value: float) -> str:
    """Write `+0.0123`, with a true minus."""
    return f"{value:+.3g}".replace("-", "−")


def score(result: Result, cell: int, arm: str, measure: str) -> str:
    """Write `0.62 [0.61, 0.63]`."""
    found = result["cells"][cell]["scores"][arm][measure]
    return f"{found['mean']:.3g} [{found['low']:.3g}, {found['high']:.3g}]"
