"""The figures of `wsae toy gba`, each drawn from the study's JSON alone."""

from __future__ import annotations

import textwrap
from typing import Any

from matplotlib.figure import Figure

from wsae_plugin.plots.toy_parts import line, name_arms, panels, points, seeds
from wsae_plugin.toy.study.words import cells_where

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
        "training": _over(result, True),
        "thresholds": _over(result, False),
        "resonance": _resonance(result),
    }


def _recovery(result: Result) -> Figure:
    arms = result["arms"]
    title = (
        f"X = HV, {_sizes(result)}, {result['settings']['n_steps']:,} steps; {seeds(result)}, "
        "bar: 95 % interval (consistency: all seeds)"
    )
    rows = {w: textwrap.fill(f"{w}: {result['worlds'][w]}", 40) for w in _MAIN}

    def draw(axes: Any, world: str, measure: str) -> None:
        for number, place in enumerate(cells_where(result, world=world)):
            cell = result["cells"][place]
            means = [_mean(cell, arm["name"], measure) for arm in arms]
            heights = [i + 0.3 * (number - 0.5) for i in range(len(arms))]
            label = f"learning rate {cell['lr']:g}"
            points(axes, heights, means, number + 1, label, sideways=True)
        if (world, measure) == ("imbalanced", "frr_0.9"):
            printed = [(arm["printed"][1], i) for i, arm in enumerate(arms) if arm["printed"]]
            star: dict[str, Any] = {"marker": "*", "s": 70, "facecolors": "none", "zorder": 3}
            label = "printed in arXiv 2506.14002"
            axes.scatter(*zip(*printed, strict=True), edgecolors="#000000", label=label, **star)
        name_arms(axes, arms, fontsize=9)

    shared: dict[str, Any] = {"sharey": True, "sharex": "col"}
    return panels((13, 10), title, rows, _MEASURES, draw, 3, **shared)


def _over(result: Result, training: bool) -> Figure:
    """FRR over the steps of a training, or over the threshold τ at its end."""
    question = (
        "Features recovered as training goes on"
        if training
        else "Features recovered, by how close is close enough"
    )
    title = f"{question}; {_sizes(result)}, mean of {seeds(result)}"
    rates = {lr: f"learning rate {lr:g}" for lr in result["settings"]["rates"]}
    rows = {world: f"{world}\n{'FRR(0.9)' if training else 'FRR(τ)'}" for world in _MAIN}
    labels = {arm["name"]: arm["label"] for arm in result["arms"]}

    def draw(axes: Any, world: str, lr: float) -> None:
        (place,) = cells_where(result, world=world, lr=lr)
        cell = result["cells"][place]
        for number, name in enumerate(_LINES):
            history, scores = cell["history"][name], cell["scores"][name]
            frr = {float(key[4:]): key for key in scores if key.startswith("frr_")}
            xs = history["step"] if training else sorted(frr)
            means = history["frr_0.9"] if training else [scores[frr[x]]["mean"] for x in xs]
            # A band would hide the other lines.
            bare = [{"mean": mean, "low": mean, "high": mean} for mean in means]
            line(axes, xs, bare, number, labels[name])
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("training step" if training else "cosine τ")

    return panels((11, 7), title, rows, rates, draw, 4, sharey=True)


def _resonance(result: Result) -> Figure:
    cells = {cell["lr"]: cell["resonance"] for cell in result["cells"] if "resonance" in cell}
    shown = next(iter(cells.values()))
    names = {arm["name"]: arm["label"] for arm in result["arms"] if arm["name"] in shown}
    rows = {lr: f"learning rate {lr:g}\nhow often the latent fires" for lr in cells}
    title = (
        "Resonance: every live latent of one seed beside the feature it is closest to; black: "
        "equally often; blue: targets of the groups"
    )
    size = (2.4 * len(names), 2.6 * len(cells) + 0.8)
    kinds = (
        (False, "#bbbbbb", "its cosine with the feature is below 0.9"),
        (True, "#D55E00", "at least 0.9"),
    )

    def draw(axes: Any, lr: float, name: str) -> None:
        one = cells[lr][name]
        for target in sorted(set(one["target"])):
            axes.axhline(target, color="#56B4E9", linewidth=0.6, zorder=0)
        for found, colour, label in kinds:
            which = [i for i, cosine in enumerate(one["cosine"]) if (cosine >= 0.9) == found]
            xs, ys = ([one[key][i] for i in which] for key in ("feature_frequency", "frequency"))
            axes.scatter(xs, ys, s=7, color=colour, linewidths=0, label=label)
        axes.plot([3e-3, 0.3], [3e-3, 0.3], color="#000000", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("how often its feature does", fontsize=9)
        axes.label_outer()
        axes.tick_params(labelsize=7)

    return panels(size, title, rows, names, draw, 2, sharex=True, sharey=True)


def _mean(cell: Result, arm: str, measure: str) -> Result:
    if measure != "consistency":
        return cell["scores"][arm][measure]
    found = cell["consistency"][arm]
    return {"mean": found["mean"], "low": min(found["per_seed"]), "high": max(found["per_seed"])}


def _sizes(result: Result) -> str:
    settings = result["settings"]
    return f"n = {settings['n_features']}, d = {settings['d_in']}, {settings['d_sae']} latents"
