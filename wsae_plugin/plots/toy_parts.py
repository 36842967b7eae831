"""What the toy figures are made of: grids of panels, lines with bands, differences with bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from wsae_plugin.plots.style import LINES, MARKERS, PALETTE, new_figure

Result = dict[str, Any]


def grid(
    size: tuple[float, float],
    title: str,
    rows: Sequence[Any],
    columns: Sequence[Any],
    **shared: Any,
) -> tuple[Figure, dict[tuple[Any, Any], Any]]:
    """Make a figure with a panel for each (row, column), row by row."""
    figure = new_figure(*size)
    figure.suptitle(title, fontsize=11)
    panels = figure.subplots(len(rows), len(columns), squeeze=False, **shared)
    keys = [(row, column) for row in rows for column in columns]
    return figure, dict(zip(keys, panels.flat, strict=True))


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
        axes.errorbar(
            x,
            y,
            **{"xerr" if sideways else "yerr": error},
            color=colour,
            marker=MARKERS[number % len(MARKERS)],
            markersize=5,
            markerfacecolor=colour if row.get("clear", True) else "white",
            linewidth=1,
            linestyle="none",
            label=label if index == 0 else None,
        )


def legend_below(figure: Figure, columns: int) -> None:
    """Put one legend under all panels, made of the first one's series."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9
    )


def tied_word(tied: bool) -> str:
    """Say `tied` or `untied`."""
    return "tied" if tied else "untied"


def seeds(result: Result) -> str:
    """Say `8 seeds`."""
    return f"{result['settings']['n_seeds']} seeds"
