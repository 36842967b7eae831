"""How uneven Γ is, drawn: for `wsae gamma` from gamma.json alone, for reports and cards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.figure import Figure

from wsae_plugin.plots.style import LINES, PALETTE, cumulative, new_figure, tidy


def spectra(series: Iterable[tuple[Sequence[float], Sequence[float], dict[str, Any]]]) -> Figure:
    """γ sorted, and how much of the weighted variance the first dimensions hold, for every Γ.

    Args:
        series: Of each Γ its γ, the largest first; the running total of its shares of the weighted
            variance, the largest first; colour, line style and label.
    """
    figure = new_figure(10.5, 4)
    weights, shares = figure.subplots(1, 2)
    for gamma, held, style in series:
        ranks = range(1, len(gamma) + 1)
        weights.plot(ranks, gamma, **style)
        shares.plot(ranks, held, **style)
    weights.set_yscale("log")
    shares.set_ylim(0, 1.02)
    for axes, what, order in (
        (weights, "weight γ", "largest γ"),
        (shares, "share of the weighted variance", "largest share"),
    ):
        axes.set_title(what, fontsize=10)
        axes.set_xlabel(f"input dimensions, {order} first")
        axes.set_xscale("log")
        tidy(axes)
    figure.legend(
        *weights.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=9,
    )
    return figure


def gamma_spectrum(result: dict[str, Any]) -> Figure:
    """The `spectra` of a gamma.json."""
    entries = [entry for entry in result["gammas"] if "gamma" in entry]
    proxies = list(dict.fromkeys(entry["proxy"] for entry in entries))
    alphas = list(dict.fromkeys(entry["alpha"] for entry in entries))
    figure = spectra(
        (
            sorted(entry["gamma"], reverse=True),
            cumulative(entry["weighted_variance_share"]),
            {
                "color": PALETTE[proxies.index(entry["proxy"]) % len(PALETTE)],
                "linestyle": LINES[alphas.index(entry["alpha"]) % len(LINES)],
                "label": label(entry),
            },
        )
        for entry in entries
    )
    figure.suptitle(
        f"{result['model']}, {result['hook_name']}: {result['tokens']:,} tokens", fontsize=11
    )
    return figure


def label(entry: dict[str, Any]) -> str:
    """`Γ = I`, or the proxy and the exponent."""
    return "Γ = I" if entry["alpha"] == 0 else f"{entry['proxy']}, α = {entry['alpha']:g}"
