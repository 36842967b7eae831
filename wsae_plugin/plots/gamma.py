"""The figure of `wsae gamma`, drawn from gamma.json alone."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from wsae_plugin.plots.style import LINES, PALETTE, cumulative, new_figure, tidy


def gamma_spectrum(result: dict[str, Any]) -> Figure:
    """γ sorted, and how much of the weighted variance the first dimensions hold, for every Γ."""
    entries = [entry for entry in result["gammas"] if "gamma" in entry]
    proxies = list(dict.fromkeys(entry["proxy"] for entry in entries))
    alphas = list(dict.fromkeys(entry["alpha"] for entry in entries))
    figure = new_figure(11, 4.4)
    weights, shares = figure.subplots(1, 2)
    for entry in entries:
        ranks = range(1, len(entry["gamma"]) + 1)
        style: dict[str, Any] = {
            "color": PALETTE[proxies.index(entry["proxy"]) % len(PALETTE)],
            "linestyle": LINES[alphas.index(entry["alpha"]) % len(LINES)],
            "label": label(entry),
        }
        weights.plot(ranks, sorted(entry["gamma"], reverse=True), **style)
        shares.plot(ranks, cumulative(entry["weighted_variance_share"]), **style)
    weights.set_yscale("log")
    weights.set_ylabel("weight γ")
    weights.set_xlabel("input dimensions, largest γ first")
    shares.set_ylim(0, 1.02)
    shares.set_ylabel("share of the weighted variance")
    shares.set_xlabel("number of input dimensions, largest share first")
    for axes in (weights, shares):
        axes.set_xscale("log")
        tidy(axes)
    figure.legend(
        *weights.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=9,
    )
    figure.suptitle(
        f"{result['model']}, {result['hook_name']}: {result['tokens']:,} tokens", fontsize=11
    )
    return figure


def label(entry: dict[str, Any]) -> str:
    """`Γ = I`, or the proxy and the exponent."""
    return "Γ = I" if entry["alpha"] == 0 else f"{entry['proxy']}, α = {entry['alpha']:g}"
