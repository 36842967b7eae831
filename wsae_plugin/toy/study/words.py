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


def tally(rows: list[Result]) -> str:
    """Say `lower in 2, higher in 1 of 6 cells [−0.02, +0.01]`."""
    if not rows:
        return "not compared"
    lower, higher = counts(rows)
    means = [row["mean"] for row in rows]
    return (
        f"lower in {lower}, higher in {higher} of {len(rows)} cells "
        f"[{signed(min(means))}, {signed(max(means))}]"
    )


def signed(value: float) -> str:
    """Write `+0.0123`, with a true minus."""
    return f"{value:+.3g}".replace("-", "−")


def score(result: Result, cell: int, arm: str, measure: str) -> str:
    """Write `0.62 [0.61, 0.63]`."""
    found = result["cells"][cell]["scores"][arm][measure]
    return f"{found['mean']:.3g} [{found['low']:.3g}, {found['high']:.3g}]"
