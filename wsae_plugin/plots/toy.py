"""The figures of `wsae toy`, each drawn from the experiment's JSON alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure

from wsae_plugin.plots.style import LINES, MARKERS, PALETTE, new_figure, tidy
from wsae_plugin.plots.toy_parts import (
    band,
    comparisons,
    kinds,
    legend_below,
    points,
    seeds,
    sparsity_axis,
)

Result = dict[str, Any]

_BAND = "band: 95 % interval over seeds"
_WORLDS = {
    "learned": "learned W_p\n(axes mean nothing)",
    "block": "half the axes single,\nhalf a random block",
    "pentagons": "half the axes single,\nhalf pentagons",
    "frequent": "pentagons, single features\n5 times as frequent",
}
_FIG3_PANELS = {
    "l_gt": "L_GT\n(predicting 0 scores 1)",
    "l_gt_nonzero": "L_GT on the\nnon-zero dimensions",
    "reconstruction_error": "reconstruction error of x_p\n(share of its variance)",
    "latent_variance": "variance of a latent",
}


def fig2(result: Result) -> dict[str, Figure]:
    """Average activated features over sparsity, activation and width, trained and untrained."""
    n = result["settings"]["n_features"]
    figure = new_figure(11, 6.2)
    panels = figure.subplots(2, 3, sharey="row", squeeze=False)
    ticks = [tick for tick in (0, 1, 2, 5, 10, 20, 50, 100, 200) if tick <= n]
    best = max(cell["sparsity"] for cell in result["cells"])
    for row, tied in zip(panels, (True, False), strict=True):
        mine = [cell for cell in result["cells"] if cell["tied"] == tied]
        top = [cell for cell in mine if cell["activation"].startswith("Top")]
        activations = [c for c in mine if c["sparsity"] == best and c["d_sae"] == n]
        activations.sort(key=lambda c: ("none", "JumpReLU", "Top").index(_kind(c)))
        chosen: list[tuple[str, Sequence[Result], Callable[[Result], Any]]] = [
            (
                f"sparsity S  (Top-2, d_sae = {n})",
                sorted((c for c in top if c["d_sae"] == n), key=lambda c: c["sparsity"]),
                lambda c: f"{c['sparsity']:g}",
            ),
            (f"activation  (S = {best:g}, d_sae = {n})", activations, lambda c: c["activation"]),
            (
                f"hidden width d_sae  (Top-2, S = {best:g})",
                sorted((c for c in top if c["sparsity"] == best), key=lambda c: c["d_sae"]),
                lambda c: str(c["d_sae"]),
            ),
        ]
        for axes, (label, cells, name) in zip(row, chosen, strict=True):
            for number, (arm, shown) in enumerate((("sae", "trained"), ("untrained", "untrained"))):
                band(axes, range(len(cells)), cells, arm, "activated_features", number, shown)
            axes.set_xticks(range(len(cells)), [name(cell) for cell in cells])
            axes.set_yscale("symlog", linthresh=1)
            axes.set_yticks(ticks, [str(tick) for tick in ticks])
            axes.set_xlabel(label)
            tidy(axes)
        row[0].set_ylabel(f"{'tied' if tied else 'untied'} SAE\naverage activated features")
    panels[0][1].legend(frameon=False, fontsize=9)
    figure.suptitle(
        f"How many features activate a latent (fewer: more monosemantic); {seeds(result)}, {_BAND}"
        "\nWith Top-2 and no biases no SAE, trained or not, can exceed 2n/d_sae",
        fontsize=11,
    )
    return {"fig2": figure}


def fig3(result: Result) -> dict[str, Figure]:
    """SAE and WSAE over the sparsity; and every arm's paired difference to the SAE."""
    return {"fig3": _fig3_scores(result), "fig3_difference": _fig3_differences(result)}


def _fig3_scores(result: Result) -> Figure:
    kinds_of_sae = kinds(result)
    shown = ("sae", "wsae", "constant", "shuffled")
    figure = new_figure(13, 2.9 * len(kinds_of_sae) + 0.6)
    panels = figure.subplots(len(kinds_of_sae), len(_FIG3_PANELS), squeeze=False)
    for row, (kind, numbers) in zip(panels, kinds_of_sae.items(), strict=True):
        cells = [result["cells"][number] for number in numbers]
        for axes, (measure, title) in zip(row, _FIG3_PANELS.items(), strict=True):
            for number, arm in enumerate(arm for arm in result["arms"] if arm["name"] in shown):
                band(axes, range(len(cells)), cells, arm["name"], measure, number, arm["label"])
            sparsity_axis(axes, cells)
            axes.set_title(title, fontsize=10)
            tidy(axes)
        row[0].set_ylabel(kind)
    legend_below(figure, panels[0][0], columns=len(shown))
    figure.suptitle(
        f"SAE and weighted SAE on the learned world, d_sae = n; {seeds(result)}, {_BAND}",
        fontsize=11,
    )
    return figure


def _fig3_differences(result: Result) -> Figure:
    kinds_of_sae = kinds(result)
    arms = [arm for arm in result["arms"] if arm["name"] not in ("sae", "whitened")]
    figure = new_figure(13, 2.9 * len(kinds_of_sae) + 0.8)
    panels = figure.subplots(len(kinds_of_sae), len(_FIG3_PANELS), squeeze=False)
    for row, (kind, numbers) in zip(panels, kinds_of_sae.items(), strict=True):
        cells = [result["cells"][number] for number in numbers]
        for axes, (measure, title) in zip(row, _FIG3_PANELS.items(), strict=True):
            axes.axhline(0, color="#666666", linewidth=1)
            for number, arm in enumerate(arms):
                rows = comparisons(result, arm["name"], measure, numbers)
                offset = 0.11 * (number - (len(arms) - 1) / 2)
                points(axes, [i + offset for i in range(len(rows))], rows, number + 1, arm)
            sparsity_axis(axes, cells)
            axes.set_title(title, fontsize=10)
            tidy(axes)
        row[0].set_ylabel(f"{kind}\ndifference to Γ = I")
    legend_below(figure, panels[0][0], columns=len(arms))
    figure.suptitle(
        f"Paired differences to the plain SAE; {seeds(result)}, bar: 95 % interval; filled: "
        "clear after Holm's correction, hollow: not",
        fontsize=11,
    )
    return figure


def proxies(result: Result) -> dict[str, Figure]:
    """Every arm's paired difference to the plain SAE in L_GT, world by world."""
    arms = [arm for arm in result["arms"] if arm["role"] != "baseline"]
    worlds = list(dict.fromkeys(cell["world"] for cell in result["cells"]))
    figure = new_figure(13, 11)
    panels = figure.subplots(2, len(worlds), sharey=True, sharex="col", squeeze=False)
    for row, tied in zip(panels, (True, False), strict=True):
        for axes, world in zip(row, worlds, strict=True):
            numbers = [
                number
                for number, cell in enumerate(result["cells"])
                if cell["world"] == world and cell["tied"] == tied
            ]
            axes.axvline(0, color="#666666", linewidth=1)
            for place, number in enumerate(numbers):
                rows = [comparisons(result, a["name"], "l_gt_scaled", [number])[0] for a in arms]
                heights = [i + 0.3 * (place - 0.5) for i in range(len(arms))]
                label = f"S = {result['cells'][number]['sparsity']:g}"
                points(axes, heights, rows, place + 1, {"label": label}, sideways=True)
            for i, arm in enumerate(arms):
                if arm["role"] == "weighted":
                    axes.axhspan(i - 0.5, i + 0.5, color="#eef4fa", zorder=0)
            axes.set_title(_WORLDS[world], fontsize=10)
            axes.legend(frameon=False, fontsize=8)
            tidy(axes)
        row[0].set_yticks(range(len(arms)), [arm["label"] for arm in arms], fontsize=8)
        row[0].set_ylabel("tied" if tied else "untied")
        row[0].set_ylim(len(arms) - 0.5, -0.5)
    for axes in panels[-1]:
        axes.set_xlabel("difference in L_GT (fitted scales)\n← better than Γ = I      worse →")
    figure.suptitle(
        f"Proxies for Γ against the plain SAE, Top-2, d_sae = n; {seeds(result)}, bar: 95 % "
        "interval; filled: clear after Holm's correction\nshaded: proxies at α = 1; the other "
        "rows are controls",
        fontsize=11,
    )
    return {"proxies": figure}


def alpha(result: Result) -> dict[str, Figure]:
    """L_GT over α, for the proxies and their controls, world by world."""
    worlds = list(dict.fromkeys(cell["world"] for cell in result["cells"]))
    figure = new_figure(13, 6.6)
    panels = figure.subplots(2, len(worlds), sharex=True, squeeze=False)
    for row, tied in zip(panels, (True, False), strict=True):
        for axes, world in zip(row, worlds, strict=True):
            (cell,) = [c for c in result["cells"] if c["world"] == world and c["tied"] == tied]
            for number, (label, picked) in enumerate(_alpha_series(result).items()):
                _alpha_line(axes, cell["scores"], picked, number, label)
            whitened = cell["scores"]["whitened"]["l_gt_scaled"]
            axes.axhspan(whitened["low"], whitened["high"], color="#bbbbbb", alpha=0.6, lw=0)
            axes.axhline(whitened["mean"], color="#888888", lw=1, label="SAE on whitened x")
            axes.axvline(0, color="#666666", linewidth=0.8)
            axes.set_title(f"{_WORLDS[world]}, S = {cell['sparsity']:g}", fontsize=10)
            tidy(axes)
        row[0].set_ylabel(f"{'tied' if tied else 'untied'} SAE\nL_GT (fitted scales)")
    for axes in panels[-1]:
        axes.set_xlabel("α (0: plain SAE)")
    legend_below(figure, panels[0][0], columns=5)
    figure.suptitle(
        f"The exponent α in γ = s^α, Top-2, d_sae = n, lower is better; {seeds(result)}, {_BAND}",
        fontsize=11,
    )
    return {"alpha": figure}


FIGURES: dict[str, Callable[[Result], dict[str, Figure]]] = {
    "fig2": fig2,
    "fig3": fig3,
    "proxies": proxies,
    "alpha": alpha,
}


def _alpha_series(result: Result) -> dict[str, list[Result]]:
    """Label → its arms, in the order of α, the plain SAE at 0."""
    treatments = {
        "weights": "s = {}",
        "shuffled": "s = {}, shuffled",
        "input": "SAE on Γx, s = {}",
    }
    (plain,) = [arm for arm in result["arms"] if arm["role"] == "baseline"]
    series: dict[str, list[Result]] = {}
    for treatment, label in treatments.items():
        for proxy in ("variance", "kurtosis"):
            arms = [
                arm
                for arm in result["arms"]
                if (arm["proxy"], arm["treatment"]) == (proxy, treatment)
            ]
            series[label.format(proxy)] = sorted([plain, *arms], key=lambda arm: arm["alpha"])
    return series


def _alpha_line(axes: Any, scores: Result, arms: list[Result], number: int, label: str) -> None:
    alphas = [arm["alpha"] for arm in arms]
    found = [scores[arm["name"]]["l_gt_scaled"] for arm in arms]
    colour = PALETTE[1 + number]
    style = LINES[0] if number < 2 else LINES[3]
    axes.plot(
        alphas,
        [score["mean"] for score in found],
        color=colour,
        linestyle=style,
        marker=MARKERS[number],
        markersize=4,
        label=label,
    )
    axes.fill_between(
        alphas,
        [score["low"] for score in found],
        [score["high"] for score in found],
        color=colour,
        alpha=0.15,
        linewidth=0,
    )


def _kind(cell: Result) -> str:
    return cell["activation"].split("-")[0].split(" ")[0]
