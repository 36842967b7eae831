"""What the toy figures are made of: grids of panels, lines with bands, differences with bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

from matplotlib.figure import Figure

from wsae_plugin.plots.style import LINES, MARKERS, PALETTE, new_figure, tidy

Result = dict[str, Any]
TIED = {True: "tied", False: "untied"}
"""Whether an SAE is tied → the word for it."""


def panels(
    size: tuple[float, float],
    title: str,
    rows: Mapping[Any, str],
    columns: Mapping[Any, str],
    draw: Callable[[Any, Any, Any], None],
    legend_columns: int = 0,
    **shared: Any,
) -> Figure:
    """Draw a figure with a panel for each (row, column), row by row.

    Args:
        size: in inches.
        title: of the figure.
        rows: row → the label of its first panel's vertical axis.
        columns: column → the title of its panels.
        draw: draws on the axes of a row and a column.
        legend_columns: of one legend below all, made of the first panel's series; 0 is none.
        shared: axes, as matplotlib's `subplots` takes it.
    """
    figure = new_figure(*size)
    figure.suptitle(title, fontsize=11)
    grid = figure.subplots(len(rows), len(columns), squeeze=False, **shared)
    for axes, (row, column) in zip(grid.flat, product(rows, columns), strict=True):
        axes.set_title(columns[column], fontsize=10)
        draw(axes, row, column)
        tidy(axes)
    for label, axes in zip(rows.values(), grid[:, 0], strict=True):
        axes.set_ylabel(label)
    if legend_columns:
        found = grid[0, 0].get_legend_handles_labels()
        place: dict[str, Any] = {"loc": "outside lower center", "frameon": False, "fontsize": 9}
        figure.legend(*found, ncols=legend_columns, **place)
    return figure


def name_arms(axes: Any, arms: Sequence[Result], **text: Any) -> None:
    """Write the arms' labels on the vertical axis, the first on top, where no panel is to the left.

    Args:
        axes: what is drawn at height i belongs to arm i.
        arms: of a result.
        text: properties of the labels.
    """
    axes.set_yticks(range(len(arms)), [arm["label"] for arm in arms], **text)
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.label_outer()


def line(axes: Any, xs: Sequence[float], scores: Sequence[Result], number: int, label: str) -> None:
    """Draw means over seeds as a line, with their intervals as a band."""
    means, low, high = ([score[key] for score in scores] for key in ("mean", "low", "high"))
    style = {"color": PALETTE[number], "linestyle": LINES[number], "marker": MARKERS[number]}
    axes.plot(xs, means, markersize=4.5, label=label, **style)
    axes.fill_between(xs, low, high, color=PALETTE[number], alpha=0.2, linewidth=0)


def points(
    axes: Any,
    places: Sequence[float],
    rows: Sequence[Result],
    number: int,
    label: str,
    sideways: bool = False,
) -> None:
    """Draw means with their intervals; hollow where they are compared and not clear."""
    for index, (place, row) in enumerate(zip(places, rows, strict=True)):
        error = [[max(0.0, row["mean"] - row["low"])], [max(0.0, row["high"] - row["mean"])]]
        x, y = ([row["mean"]], [place]) if sideways else ([place], [row["mean"]])
        colour = PALETTE[number % len(PALETTE)]
        style: dict[str, Any] = {"color": colour, "marker": MARKERS[number % len(MARKERS)]}
        style["markerfacecolor"] = colour if row.get("clear", True) else "white"
        style["label"] = label if index == 0 else None
        style["xerr" if sideways else "yerr"] = error
        axes.errorbar(x, y, markersize=5, linewidth=1, linestyle="none", **style)


def seeds(result: Result) -> str:
    """Say `8 seeds`."""
    return f"{result['settings']['n_seeds']} seeds"
