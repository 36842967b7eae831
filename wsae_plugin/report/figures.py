"""The figures of a report, each drawn from report.json alone; readers see the docstrings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from wsae_plugin.plots.gamma import spectra
from wsae_plugin.plots.style import LINES, MARKERS, PALETTE, new_figure, tidy
from wsae_plugin.report.text import Report, headline, title

_COLUMNS = 3
_TWO_DECADES = 100
_COLOURS = {"baseline": (0,), "weighted": (1, 6, 5), "control": (2, 4, 3)}

Points = tuple[list[float], list[float], list[float]]
"""x, y, and half the length of each error bar."""


def differences(report: Report) -> Figure:
    """Differences of every arm to the baseline against the layer, for every metric"""
    arms = [arm for arm in report["arms"] if arm["role"] != "baseline"]

    def points(axes: Any, metric: Report, arm: Report) -> Points:
        axes.axhline(0, color="#000000", linewidth=1)
        if metric["noise"] and arm is arms[0]:
            band = {"color": "#666666", "alpha": 0.18, "linewidth": 0}
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
    figure = new_figure(10.5, 3.1)
    panels = figure.subplots(1, len(arms), sharey=True, squeeze=False)[0]
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
        axes.set_title(arm["label"], fontsize=10)
        axes.set_xlabel("weight γ of the dimension")
        tidy(axes)
        low, high = axes.get_xlim()
        if high / low > _TWO_DECADES:
            axes.xaxis.set_major_locator(LogLocator(numticks=6))
    panels[0].set_ylabel("change in explained variance\nof the dimension")
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
    axes.set_xlabel("training tokens (thousands)")
    axes.set_ylabel("1 − explained variance\n(unweighted, of the batch)")
    axes.set_title("Learning", fontsize=10)
    axes.legend(frameon=False, fontsize=9)
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
    names = [each["name"] for each in report["arms"]]
    role = report["arms"][names.index(arm)]["role"]
    same_role = [each["name"] for each in report["arms"] if each["role"] == role]
    colours = _COLOURS[role]
    number = names.index(arm)
    return {
        "color": PALETTE[colours[same_role.index(arm) % len(colours)]],
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
    places = report["compared"]["hook_names"]
    offset = 0.12 * (arms.index(arm) - (len(arms) - 1) / 2)
    rows = _entry(metric, arm)["per_layer"]
    x = [places.index(row["hook_name"]) + offset for row in rows]
    return x, [row[value] for row in rows], [row[spread] or 0 for row in rows]


def _panels(
    report: Report,
    metrics: list[Report],
    arms: list[Report],
    points: Callable[[Any, Report, Report], Points],
) -> Figure:
    """A panel for each metric, against the layer unless `points` says otherwise."""
    hooks, layers = report["compared"]["hook_names"], report["compared"]["layers"]
    by_layer = len(layers) == len(hooks)
    n_rows = -(-len(metrics) // _COLUMNS)
    figure = new_figure(10.5, 0.5 + 2.35 * n_rows)
    panels = figure.subplots(n_rows, min(len(metrics), _COLUMNS), squeeze=False).flatten()
    for unused in panels[len(metrics) :]:
        unused.set_axis_off()
    for axes, metric in zip(panels, metrics, strict=False):
        axes.set_xlabel("layer" if by_layer else "hook")
        for arm in arms:
            x, y, error = points(axes, metric, arm)
            axes.errorbar(x, y, yerr=error, **style(report, arm["name"]))
        if axes.get_xscale() == "linear":
            size = 9 if by_layer else 6
            axes.set_xticks(range(len(hooks)), layers if by_layer else hooks, fontsize=size)
            axes.set_xlim(-0.5, len(hooks) - 0.5)
            axes.margins(y=0.12)
        axes.set_title(title(metric), fontsize=10)
        tidy(axes)
    handles: Any = [panels[0].errorbar([], [], yerr=[], **style(report, a["name"])) for a in arms]
    figure.legend(
        handles,
        [f"{arm['label']}{' (control)' if arm['role'] == 'control' else ''}" for arm in arms],
        loc="outside upper center",
        ncols=min(len(arms), 5),
        frameon=False,
        fontsize=9,
    )
    return figure
