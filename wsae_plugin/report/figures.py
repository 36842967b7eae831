"""The figures of a report, each drawn from report.json alone; readers see the docstrings."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import nan
from textwrap import fill
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from wsae_plugin.plots.gamma import spectra
from wsae_plugin.plots.style import LINES, MARKERS, PALETTE, new_figure, tidy
from wsae_plugin.report.text import Report, headline, is_by_layer, kind_of_hook, title

_COLUMNS = 3
_TRADE_COLUMNS = 4
_TWO_DECADES = 100
_SPREAD = 0.7  # of the place of a hook, over which its arms stand side by side

Points = tuple[list[float], list[float], list[float]]
"""x, y, and half the length of each error bar."""


def differences(report: Report) -> Figure:
    """Differences of every arm to the baseline against the layer, for every metric"""
    arms = [arm for arm in report["arms"] if arm["role"] != "baseline"]

    def points(axes: Any, metric: Report, arm: Report) -> Points:
        axes.axhline(0, color="#000000", linewidth=1)
        if metric["noise"] and arm is arms[0]:
            band = {"color": "#666666", "alpha": 0.18, "linewidth": 0, "label": "noise floor"}
            axes.axhspan(-metric["noise"], metric["noise"], **band)
        return _by_layer(report, arms, metric, arm, "difference", "difference_sd")

    return _panels(report, _directed(report), arms, points)


def levels(report: Report) -> Figure:
    """Scores of every arm against the layer, for every metric"""
    arms = report["arms"]

    def points(_: Any, metric: Report, arm: Report) -> Points:
        return _by_layer(report, arms, metric, arm, "mean", "sd")

    figure = _panels(report, headline(report), arms, points)
    for axes, metric in zip(figure.axes, headline(report), strict=False):
        low, high = axes.get_ylim()
        # Chance that is far off would flatten what is compared.
        if metric["chance"] is not None and abs(metric["chance"] - (low + high) / 2) < 3 * (
            high - low
        ):
            axes.axhline(metric["chance"], color="#666666", linestyle=":", linewidth=1.2)
            place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "ha": "right"}
            axes.text(1, metric["chance"], "chance", color="#666666", fontsize=7, **place)
    return figure


def pareto(report: Report) -> Figure:
    """Scores of every arm against L0, for every metric"""
    sparsity = next(m for m in report["metrics"] if m["metric"] == "l0")

    def points(axes: Any, metric: Report, arm: Report) -> Points:
        axes.set_xscale("log")
        axes.set_xlabel("L0 (latents active on a token)")
        l0 = {r["sparsity"]: r["mean"] for r in _entry(sparsity, arm)["per_sparsity"]}
        rows = [r for r in _entry(metric, arm)["per_sparsity"] if r["sparsity"] in l0]
        rows.sort(key=lambda row: l0[row["sparsity"]])
        x = [l0[row["sparsity"]] for row in rows]
        return x, [row["mean"] for row in rows], [row["sd"] or 0 for row in rows]

    return _panels(report, _directed(report), report["arms"], points)


def trade(report: Report) -> Figure:
    """Change in explained variance of the input dimensions against their weight"""
    arms = [arm for arm in report["arms"] if arm["name"] in report["trade"]]
    figure, panels = _grid(len(arms), _TRADE_COLUMNS, 2.7, sharey=True)
    for axes, arm in zip(panels, arms, strict=True):
        found = report["trade"][arm["name"]]
        axes.axhline(0, color="#000000", linewidth=1)
        axes.scatter(
            *zip(*found["dots"], strict=True), s=4, color="#666666", alpha=0.35, linewidth=0
        )
        axes.errorbar(
            [group["gamma"] for group in found["groups"]],
            [group["mean"] for group in found["groups"]],
            yerr=[group["sd"] or 0 for group in found["groups"]],
            **style(report, arm["name"]),
        )
        axes.set_xscale("log")
        axes.set_title(fill(arm["label"], 32), fontsize=10)
        axes.set_xlabel("weight γ of the dimension")
        tidy(axes)
        low, high = axes.get_xlim()
        if high / low > _TWO_DECADES:
            axes.xaxis.set_major_locator(LogLocator(numticks=6))
    for axes in panels[::_TRADE_COLUMNS]:
        axes.set_ylabel("change in explained\nvariance of the dimension")
    return figure


def gamma(report: Report) -> Figure:
    """Weights sorted, and the share of the weighted variance that the first dimensions hold"""
    return spectra(
        (found["gamma"], found["shares"], _line_style(report, name))
        for name, found in report["gammas"].items()
    )


def learning(report: Report) -> Figure:
    """Unweighted variance that the training batches left unexplained, step by step"""
    figure = new_figure(10.5, 3.4)
    axes = figure.subplots()
    for name, curve in report["learning"].items():
        tokens, explained = zip(*curve, strict=True)
        left = [1 - value for value in explained]
        axes.plot([n / 1000 for n in tokens], left, **_line_style(report, name))
    axes.set_yscale("log")
    unit = "tokens" if report["compared"].get("context_size") else "samples"
    axes.set_xlabel(f"training {unit} (thousands)")
    axes.set_ylabel("1 − explained variance\n(unweighted, of the batch)")
    axes.set_title("Learning", fontsize=10)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    tidy(axes)
    return figure


FIGURES: dict[str, Callable[[Report], Figure]] = {
    "differences": differences,
    "trade": trade,
    "levels": levels,
    "pareto": pareto,
    "gamma": gamma,
    "learning": learning,
}


def drawable(report: Report) -> list[str]:
    """The figures that the report has the numbers for."""
    has_pairs = report["compared"]["n_pairs"] > 0
    directed = _directed(report) if has_pairs else []
    has_l0 = any(metric["metric"] == "l0" for metric in report["metrics"])
    has_numbers = {
        "differences": any(metric["arms"] for metric in directed),
        "trade": report["trade"],
        "levels": has_pairs and headline(report),
        "pareto": directed and has_l0 and len(report["compared"]["sparsities"]) > 1,
        "gamma": report["gammas"],
        "learning": report["learning"],
    }
    return [name for name, has in has_numbers.items() if has]


def style(report: Report, arm: str) -> dict[str, Any]:
    """Colour, marker and line of an arm: the same in every figure."""
    # The baseline first: what is black, or white on a dark page, is what others are compared with.
    arms = sorted(report["arms"], key=lambda each: each["role"] != "baseline")
    number = [each["name"] for each in arms].index(arm)
    return {
        "color": PALETTE[number and 1 + (number - 1) % (len(PALETTE) - 1)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": LINES[number % len(LINES)],
        "markersize": 5,
        "linewidth": 1.5,
        "capsize": 2,
    }


def _line_style(report: Report, arm: str) -> dict[str, Any]:
    own = style(report, arm)
    label = next(each["label"] for each in report["arms"] if each["name"] == arm)
    return {"color": own["color"], "linestyle": own["linestyle"], "label": label}


def _directed(report: Report) -> list[Report]:
    return [metric for metric in headline(report) if metric["direction"] != "none"]


def _entry(metric: Report, arm: Report) -> Report:
    if arm["role"] == "baseline":
        return metric["baseline"]
    return metric["arms"].get(arm["name"], {"per_layer": [], "per_sparsity": []})


def _by_layer(
    report: Report, arms: list[Report], metric: Report, arm: Report, value: str, spread: str
) -> Points:
    places = _places(report)
    offset = min(0.12, _SPREAD / len(arms)) * (arms.index(arm) - (len(arms) - 1) / 2)
    found = {row["hook_name"]: row for row in _entry(metric, arm)["per_layer"]}
    points: list[tuple[float, float, float]] = []
    for n, hook in enumerate(places):
        if n and kind_of_hook(hook) != kind_of_hook(places[n - 1]):
            # No line joins what does not follow from one another, such as a layer's MLP and stream.
            points.append((nan, nan, nan))
        if row := found.get(hook):
            points.append((n + offset, row[value], row[spread] or 0))
    x, y, error = zip(*points, strict=True) if points else ((), (), ())
    return list(x), list(y), list(error)


def _places(report: Report) -> list[str]:
    """The hooks, those of one kind beside each other from layer to layer."""
    hooks: list[str] = report["compared"]["hook_names"]
    kinds = list(map(kind_of_hook, hooks))

    def place(hook: str) -> tuple[int, list[int]]:
        return kinds.index(kind_of_hook(hook)), [int(n) for n in re.findall(r"\d+", hook)]

    return sorted(hooks, key=place)


def _grid(n: int, columns: int, height: float, **options: Any) -> tuple[Figure, list[Any]]:
    """A figure with `n` panels in rows of so many columns."""
    n_rows = -(-n // columns)
    figure = new_figure(10.5, 0.5 + height * n_rows)
    panels = figure.subplots(n_rows, min(n, columns), squeeze=False, **options).flatten()
    for unused in panels[n:]:
        unused.set_axis_off()
    return figure, list(panels[:n])


def _panels(
    report: Report,
    metrics: list[Report],
    arms: list[Report],
    points: Callable[[Any, Report, Report], Points],
) -> Figure:
    """A panel for each metric, against the layer unless `points` says otherwise."""
    hooks, by_layer = _places(report), is_by_layer(report)
    figure, panels = _grid(len(metrics), _COLUMNS, 2.35 if len(hooks) < 4 or by_layer else 3.1)
    for axes, metric in zip(panels, metrics, strict=True):
        axes.set_xlabel("layer" if by_layer else "hook")
        for arm in arms:
            x, y, error = points(axes, metric, arm)
            axes.errorbar(x, y, yerr=error, **style(report, arm["name"]))
        if axes.get_xscale() == "linear":
            if by_layer:
                axes.set_xticks(range(len(hooks)), report["compared"]["layers"], fontsize=9)
            else:
                turned = {"rotation": 90} if len(hooks) > 3 else {}
                axes.set_xticks(range(len(hooks)), hooks, fontsize=6.5, **turned)
            axes.set_xlim(-0.5, len(hooks) - 0.5)
            axes.margins(y=0.12)
        axes.set_title(fill(title(metric, report), 44), fontsize=10)
        tidy(axes)
    bands = {band.get_label(): band for axes in panels for band in axes.patches}
    handles: Any = [panels[0].errorbar([], [], yerr=[], **style(report, a["name"])) for a in arms]
    labels = [f"{arm['label']}{' (control)' if arm['role'] == 'control' else ''}" for arm in arms]
    figure.legend(
        [*handles, *bands.values()],
        [*labels, *bands],
        loc="outside upper center",
        ncols=min(len(arms), 4),
        frameon=False,
        fontsize=9,
    )
    return figure
