"""What the toy figures are made of: lines with bands, differences with bars, their axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from wsae_plugin.plots.style import LINES, MARKERS, PALETTE

Result = dict[str, Any]


def band(
    axes: Any,
    xs: Sequence[float],
    cells: Sequence[Result],
    arm: str,
    measure: str,
    number: int,
    label: str,
) -> None:
    """The mean of a measure over cells, with its interval as a band."""
    scores = [cell["scores"][arm][measure] for cell in cells]
    axes.plot(
        xs,
        [score["mean"] for score in scores],
        color=PALETTE[number],
        linestyle=LINES[number],
        marker=MARKERS[number],
        markersize=5,
        label=label,
    )
    axes.fill_between(
        xs,
        [score["low"] for score in scores],
        [score["high"] for score in scores],
        color=PALETTE[number],
        alpha=0.2,
        linewidth=0,
    )


def points(
    axes: Any,
    places: Sequence[float],
    rows: Sequence[Result],
    number: int,
    arm: Result,
    sideways: bool = False,
) -> None:
    """Mean differences with their intervals; filled where they are clear."""
    colour = PALETTE[number % len(PALETTE)]
    for index, (place, row) in enumerate(zip(places, rows, strict=True)):
        error = [[row["mean"] - row["low"]], [row["high"] - row["mean"]]]
        x, y = ([row["mean"]], [place]) if sideways else ([place], [row["mean"]])
        axes.errorbar(
            x,
            y,
            **{"xerr" if sideways else "yerr": error},
            color=colour,
            marker=MARKERS[number % len(MARKERS)],
            markersize=5,
            markerfacecolor=colour if row["clear"] else "white",
            linewidth=1,
            linestyle="none",
            label=arm["label"] if index == 0 else None,
        )


def comparisons(result: Result, arm: str, measure: str, cells: Sequence[int]) -> list[Result]:
    """An arm's paired differences to the plain SAE in these cells, in their order."""
    found = {
        row["cell"]: row
        for row in result["comparisons"]
        if row["arm"] == arm and row["measure"] == measure
    }
    return [found[cell] for cell in cells]


def kinds(result: Result) -> dict[str, list[int]]:
    """`tied, ReLU` → its cells, in the order of the sparsity."""
    numbers: dict[str, list[int]] = {}
    for number, cell in enumerate(result["cells"]):
        label = f"{'tied' if cell['tied'] else 'untied'}, {cell['activation']}"
        numbers.setdefault(label, []).append(number)
    return numbers


def sparsity_axis(axes: Any, cells: Sequence[Result]) -> None:
    """One tick for each cell, evenly spaced."""
    axes.set_xticks(range(len(cells)), [f"{cell['sparsity']:g}" for cell in cells])
    axes.set_xlabel("sparsity S")


def legend_below(figure: Figure, axes: Any, columns: int) -> None:
    """One legend for all panels, made of one panel's series."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9
    )


def seeds(result: Result) -> str:
    """`8 seeds`."""
    return f"{result['settings']['n_seeds']} seeds"
