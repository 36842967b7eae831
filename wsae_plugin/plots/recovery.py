"""The figures of `wsae toy gba`, each drawn from the study's JSON alone."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from wsae_plugin.plots.style import LINES, MARKERS, PALETTE, new_figure, tidy
from wsae_plugin.plots.toy_parts import legend_below

Result = dict[str, Any]

_MEASURES = {
    "frr_0.9": "FRR(0.9)\nfeatures with a latent",
    "latents_that_are_features": "live latents\nthat are a feature (0.9)",
    "consistency": "consistency\nlatents with a twin in another seed",
    "explained_variance": "explained variance",
}
_LINES = ("gba", "ba", "gba-wrong", "tied-top-k-30", "top-k-20", "top-k-30", "l1")
_MAIN = ("imbalanced", "balanced")


def figures(result: Result) -> dict[str, Figure]:
    """Name → figure."""
    return {
        "recovery": _recovery(result),
        "training": _over(result, "training"),
        "thresholds": _over(result, "thresholds"),
        "resonance": _resonance(result),
    }


def _recovery(result: Result) -> Figure:
    arms = result["arms"]
    figure = new_figure(13, 10)
    panels = figure.subplots(len(_MAIN), len(_MEASURES), sharey=True, sharex="col", squeeze=False)
    for row, world in zip(panels, _MAIN, strict=True):
        for axes, (measure, title) in zip(row, _MEASURES.items(), strict=True):
            for number, lr in enumerate(result["settings"]["rates"]):
                for place, arm in enumerate(arms):
                    _dot(axes, _cell(result, world, lr, arm["name"]), measure, place, number, lr)
            if measure == "frr_0.9" and world == "imbalanced":
                _printed(axes, arms)
            axes.set_title(title, fontsize=10)
            tidy(axes)
        row[0].set_yticks(range(len(arms)), [arm["label"] for arm in arms], fontsize=9)
        row[0].set_ylim(len(arms) - 0.5, -0.5)
        row[0].set_ylabel(f"{world}: {result['worlds'][world]}", fontsize=9)
    legend_below(figure, panels[0][0], columns=3)
    figure.suptitle(
        f"X = HV, {_sizes(result)}, {result['settings']['n_steps']:,} steps; "
        f"{result['settings']['n_seeds']} seeds, bar: 95 % interval (consistency: all seeds)",
        fontsize=11,
    )
    return figure


def _over(result: Result, what: str) -> Figure:
    """FRR over the steps of a training, or over the threshold τ at its end."""
    rates = result["settings"]["rates"]
    figure = new_figure(11, 7)
    panels = figure.subplots(len(_MAIN), len(rates), sharey=True, squeeze=False)
    labels = {arm["name"]: arm["label"] for arm in result["arms"]}
    for row, world in zip(panels, _MAIN, strict=True):
        for axes, lr in zip(row, rates, strict=True):
            for number, name in enumerate(_LINES):
                cell = _cell(result, world, lr, name)
                xs, ys = _history(cell) if what == "training" else _thresholds(cell)
                axes.plot(
                    xs,
                    ys,
                    color=PALETTE[number],
                    linestyle=LINES[number],
                    marker=MARKERS[number],
                    markersize=4,
                    label=labels[name],
                )
            axes.set_title(f"{world}, learning rate {lr:g}", fontsize=10)
            axes.set_ylim(-0.03, 1.03)
            tidy(axes)
        row[0].set_ylabel("FRR(0.9)" if what == "training" else "FRR(τ)")
    for axes in panels[-1]:
        axes.set_xlabel("training step" if what == "training" else "cosine τ")
    legend_below(figure, panels[0][0], columns=4)
    question = (
        "Features recovered as training goes on"
        if what == "training"
        else "Features recovered, by how close is close enough"
    )
    figure.suptitle(f"{question}; {_sizes(result)}, {_seeds(result)}", fontsize=11)
    return figure


def _resonance(result: Result) -> Figure:
    shown = result["resonance"]
    rates = result["settings"]["rates"]
    names = list(dict.fromkeys(one["arm"] for one in shown))
    labels = {arm["name"]: arm["label"] for arm in result["arms"]}
    figure = new_figure(2.4 * len(names), 2.6 * len(rates) + 0.8)
    panels = figure.subplots(len(rates), len(names), sharex=True, sharey=True, squeeze=False)
    for row, lr in zip(panels, rates, strict=True):
        for axes, name in zip(row, names, strict=True):
            (one,) = [one for one in shown if (one["arm"], one["lr"]) == (name, lr)]
            for target in sorted(set(one["target"])):
                axes.axhline(target, color="#56B4E9", linewidth=0.6, zorder=0)
            for found, colour, label in (
                (False, "#bbbbbb", "its cosine with the feature is below 0.9"),
                (True, "#D55E00", "at least 0.9"),
            ):
                which = [i for i, cos in enumerate(one["cosine"]) if (cos >= 0.9) == found]
                axes.scatter(
                    [one["feature_frequency"][i] for i in which],
                    [one["frequency"][i] for i in which],
                    s=7,
                    color=colour,
                    linewidths=0,
                    label=label,
                )
            axes.plot([3e-3, 0.3], [3e-3, 0.3], color="#000000", linewidth=0.8)
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_title(f"{labels[name]}\nlearning rate {lr:g}", fontsize=9)
            tidy(axes)
            axes.tick_params(labelsize=7)
        row[0].set_ylabel("how often the latent fires", fontsize=9)
    for axes in panels[-1]:
        axes.set_xlabel("how often its feature does", fontsize=9)
    legend_below(figure, panels[0][0], columns=2)
    figure.suptitle(
        "Resonance: every live latent of one seed beside the feature it is closest to; black: "
        "equally often; blue: targets of the groups",
        fontsize=11,
    )
    return figure


def _dot(axes: Any, cell: Result, measure: str, place: int, number: int, lr: float) -> None:
    if measure == "consistency":
        per_seed = cell["consistency"]["per_seed"]
        mean, low, high = cell["consistency"]["mean"], min(per_seed), max(per_seed)
    else:
        score = cell["scores"][measure]
        mean, low, high = score["mean"], score["low"], score["high"]
    axes.errorbar(
        [mean],
        [place + 0.3 * (number - 0.5)],
        xerr=[[max(0.0, mean - low)], [max(0.0, high - mean)]],
        color=PALETTE[1 + number],
        marker=MARKERS[number],
        markersize=5,
        linewidth=1.2,
        label=f"learning rate {lr:g}" if place == 0 else None,
    )


def _printed(axes: Any, arms: list[Result]) -> None:
    rows = [(arm["printed"][1], place) for place, arm in enumerate(arms) if arm["printed"]]
    axes.scatter(
        [value for value, _ in rows],
        [place for _, place in rows],
        marker="*",
        s=70,
        facecolors="none",
        edgecolors="#000000",
        label="printed in arXiv 2506.14002",
        zorder=3,
    )


def _history(cell: Result) -> tuple[list[float], list[float]]:
    return cell["history"]["step"], cell["history"]["frr_0.9"]


def _thresholds(cell: Result) -> tuple[list[float], list[float]]:
    names = [name for name in cell["scores"] if name.startswith("frr_")]
    xs = [float(name.removeprefix("frr_")) for name in names]
    return xs, [cell["scores"][name]["mean"] for name in names]


def _cell(result: Result, world: str, lr: float, arm: str) -> Result:
    (cell,) = [
        cell
        for cell in result["cells"]
        if (cell["world"], cell["lr"], cell["arm"]) == (world, lr, arm)
    ]
    return cell


def _sizes(result: Result) -> str:
    settings = result["settings"]
    return f"n = {settings['n_features']}, d = {settings['d_in']}, {settings['d_sae']} latents"


def _seeds(result: Result) -> str:
    return f"mean of {result['settings']['n_seeds']} seeds"
