"""The figures of `wsae demo`, each drawn from demo.json alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure

from wsae_plugin.plots.style import LINES, MARKERS, PALETTE, cumulative, new_figure, tidy

Result = dict[str, Any]

# One for each arm, in their order; the two weighted SAEs are the two blues.
_COLOURS = [PALETTE[i] for i in (0, 3, 1, 2, 4)]


def scores(result: Result) -> Figure:
    """Each arm's paired difference to the SAE: under three Γ, and in the model's loss."""
    measures: list[tuple[str, Callable[[Result], Result]]] = [
        (f"explained variance\nunder Γ of {label}", _under(name))
        for name, label in objectives(result)
    ]
    measures.append(("cross-entropy\nrecovered", lambda scores: scores["ce_loss_recovered"]))
    arms = result["arms"]
    figure = new_figure(11, 3.4)
    panels = figure.subplots(1, len(measures), sharey=True)
    for axes, (title, pick) in zip(panels, measures, strict=True):
        axes.axvline(0, color="#666666", linewidth=1)
        for row, arm in enumerate(arms):
            score = pick(arm["difference"])
            axes.errorbar(
                [100 * score["value"]],
                [row],
                xerr=[100 * score["spread"]],
                color=_COLOURS[row],
                marker=MARKERS[row],
                markersize=7,
                capsize=4,
            )
            axes.plot(
                [100 * value for value in score["per_seed"]],
                [row + 0.28] * len(score["per_seed"]),
                "|",
                color=_COLOURS[row],
                markersize=8,
            )
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("points (0.01)")
        axes.margins(x=0.12)
        tidy(axes)
    panels[0].set_yticks(range(len(arms)), [arm["label"] for arm in arms])
    panels[0].set_ylim(len(arms) - 0.4, -0.6)
    figure.suptitle(
        "Difference to the SAE on held-out text (bar: spread; ticks below: single seeds)",
        fontsize=11,
    )
    return figure


def trade(result: Result) -> Figure:
    """What each input dimension gained or lost in explained variance, by its variance."""
    variance = result["held_out"]["variance_per_dimension"]
    baseline = result["arms"][0]["explained_variance_per_dimension"]
    arms = result["arms"][1:]
    figure = new_figure(11, 3.4)
    panels = figure.subplots(1, len(arms), sharex=True, sharey=True)
    for number, (axes, arm) in enumerate(zip(panels, arms, strict=True), start=1):
        axes.axhline(0, color="#666666", linewidth=1)
        points = [
            (s, 100 * (after - before))
            for s, before, after in zip(
                variance, baseline, arm["explained_variance_per_dimension"], strict=True
            )
            if before is not None and after is not None
        ]
        axes.scatter(*zip(*points, strict=True), s=14, color=_COLOURS[number], alpha=0.8)
        axes.set_xscale("log")
        axes.set_title(arm["label"], fontsize=10)
        axes.set_xlabel("variance of the dimension\n(activation units²)")
        tidy(axes)
    panels[0].set_ylabel("change in explained variance\nagainst the SAE, points (0.01)")
    figure.suptitle("What the weighting traded: one dot for each input dimension", fontsize=11)
    return figure


def spectrum(result: Result) -> Figure:
    """γ sorted, and how much of the weighted variance the first dimensions hold."""
    figure = new_figure(11, 3.8)
    weights, shares = figure.subplots(1, 2)
    for number, arm in enumerate(result["arms"]):
        ranks = range(1, len(arm["gamma"]) + 1)
        style = {"color": _COLOURS[number], "linestyle": LINES[number], "label": arm["label"]}
        weights.plot(ranks, sorted(arm["gamma"], reverse=True), **style)
        shares.plot(ranks, cumulative(arm["weighted_variance_share"]), **style)
    weights.set_ylabel("weight γ (mean γ² = 1)")
    weights.set_yscale("log")
    weights.set_xlabel("input dimensions, largest γ first")
    weights.set_title("Γ sorted (shuffled Γ lies on α = 1)", fontsize=10)
    shares.set_ylabel("share of the weighted variance")
    shares.set_xlabel("number of input dimensions, largest share first")
    shares.set_title("How few dimensions hold the loss", fontsize=10)
    shares.set_ylim(0, 1.02)
    shares.legend(frameon=False, fontsize=9, loc="lower right")
    for axes in (weights, shares):
        tidy(axes)
    return figure


def learning(result: Result) -> Figure:
    """Unweighted variance that the training batches left unexplained, first seed."""
    figure = new_figure(11, 3.4)
    axes = figure.subplots()
    for number, arm in enumerate(result["arms"]):
        curve = arm["learning_curve"]
        axes.plot(
            [tokens / 1000 for tokens in curve["training_tokens"]],
            [1 - explained for explained in curve["explained_variance"]],
            color=_COLOURS[number],
            linestyle=LINES[number],
            label=arm["label"],
        )
    axes.set_yscale("log")
    axes.set_xlabel("training tokens (thousands)")
    axes.set_ylabel("1 − explained variance\n(unweighted, of the batch)")
    axes.legend(frameon=False, fontsize=9)
    tidy(axes)
    return figure


FIGURES: dict[str, Callable[[Result], Figure]] = {
    "scores": scores,
    "trade": trade,
    "gamma_spectrum": spectrum,
    "learning": learning,
}


def objectives(result: Result) -> list[tuple[str, str]]:
    """(arm, short label) of the Γ that the tables show: those that are no controls."""
    return [
        (arm["name"], f"α = {arm['alpha']:g}") for arm in result["arms"] if arm["role"] != "control"
    ]


def _under(gamma: str) -> Callable[[Result], Result]:
    return lambda scores: scores["weighted_explained_variance"][gamma]
