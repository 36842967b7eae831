"""The figures of `wsae toy`, each drawn from the study's JSON alone."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure

from wsae_plugin.plots import gba
from wsae_plugin.plots.toy_parts import TIED, line, name_arms, panels, points, seeds
from wsae_plugin.toy.study import fig2 as fig2_study
from wsae_plugin.toy.study.words import cells_where, rows_of

Result = dict[str, Any]

_BAND = "band: 95 % interval over seeds"
_GREY = "#666666"
_FIG3_PANELS = {
    "l_gt": "L_GT\n(predicting 0 scores 1)",
    "l_gt_nonzero": "L_GT on the\nnon-zero dimensions",
    "reconstruction_error": "reconstruction error of x_p\n(share of its variance)",
    "latent_variance": "variance of a latent",
}
_ALPHA_SERIES = {"weights": "s = {}", "shuffled": "s = {}, shuffled", "input": "SAE on Γx, s = {}"}


def fig2(result: Result) -> dict[str, Figure]:
    """Average activated features over sparsity, activation and width, trained and untrained."""
    n = result["settings"]["n_features"]
    ticks = [tick for tick in (0, 1, 2, 5, 10, 20, 50, 100, 200) if tick <= n]
    best = max(cell["sparsity"] for cell in result["cells"])
    labels: dict[str, tuple[str, Callable[[Result], str]]] = {
        "sparsity": (f"sparsity S  (Top-2, d_sae = {n})", lambda cell: f"{cell['sparsity']:g}"),
        "activation": (f"activation  (S = {best:g}, d_sae = {n})", lambda cell: cell["activation"]),
        "width": (f"hidden width d_sae  (Top-2, S = {best:g})", lambda cell: str(cell["d_sae"])),
    }
    title = (
        f"How many features activate a latent (fewer: more monosemantic); {seeds(result)}, {_BAND}"
        "\nWith Top-2 and no biases no SAE, trained or not, can exceed 2n/d_sae"
    )
    rows = {tied: f"{word} SAE\naverage activated features" for tied, word in TIED.items()}

    def draw(axes: Any, tied: bool, panel: str) -> None:
        cells = [result["cells"][number] for number in fig2_study.panels(result, tied)[panel]]
        for number, (arm, shown) in enumerate((("sae", "trained"), ("untrained", "untrained"))):
            scores = [cell["scores"][arm]["activated_features"] for cell in cells]
            line(axes, range(len(cells)), scores, number, shown)
        label, name = labels[panel]
        axes.set_xticks(range(len(cells)), [name(cell) for cell in cells])
        axes.set_yscale("symlog", linthresh=1)
        axes.set_yticks(ticks, [str(tick) for tick in ticks])
        axes.set_xlabel(label)
        if (tied, panel) == (True, "activation"):
            axes.legend(frameon=False, fontsize=9)

    return {"fig2": panels((11, 6.2), title, rows, dict.fromkeys(labels, ""), draw, sharey="row")}


def fig3(result: Result) -> dict[str, Figure]:
    """SAE and WSAE over the sparsity; and every arm's paired difference to the SAE."""
    kinds: dict[str, list[int]] = {}
    for number, cell in enumerate(result["cells"]):
        label = f"{TIED[cell['tied']]}, {cell['activation']}"
        kinds.setdefault(label, []).append(number)
    labels = {arm["name"]: arm["label"] for arm in result["arms"]}
    shown = [name for name in labels if name in ("sae", "wsae", "constant", "shuffled")]
    compared = [name for name in labels if name not in ("sae", "whitened")]

    def scores(axes: Any, kind: str, measure: str) -> None:
        for number, arm in enumerate(shown):
            found = [result["cells"][cell]["scores"][arm][measure] for cell in kinds[kind]]
            line(axes, range(len(found)), found, number, labels[arm])
        name_sparsities(axes, kind)

    def differences(axes: Any, kind: str, measure: str) -> None:
        axes.axhline(0, color=_GREY, linewidth=1)
        for number, arm in enumerate(compared):
            offset = 0.11 * (number - (len(compared) - 1) / 2)
            places = [i + offset for i in range(len(kinds[kind]))]
            rows = rows_of(result, arm, measure, kinds[kind])
            points(axes, places, rows, number + 1, labels[arm])
        name_sparsities(axes, kind)

    def name_sparsities(axes: Any, kind: str) -> None:
        ticks = [f"{result['cells'][cell]['sparsity']:g}" for cell in kinds[kind]]
        axes.set_xticks(range(len(ticks)), ticks)
        axes.set_xlabel("sparsity S")

    title = f"SAE and weighted SAE on the learned world, d_sae = n; {seeds(result)}, {_BAND}"
    paired = (
        f"Paired differences to the plain SAE; {seeds(result)}, bar: 95 % interval; filled: "
        "clear after Holm's correction, hollow: not"
    )
    size = (13, 2.9 * len(kinds) + 0.8)
    rows = {kind: kind for kind in kinds}
    rows_below = {kind: f"{kind}\ndifference to Γ = I" for kind in kinds}
    return {
        "fig3": panels(size, title, rows, _FIG3_PANELS, scores, len(shown)),
        "fig3_difference": panels(
            size, paired, rows_below, _FIG3_PANELS, differences, len(compared)
        ),
    }


def proxies(result: Result) -> dict[str, Figure]:
    """Every arm's paired difference to the plain SAE in L_GT, world by world."""
    arms = [arm for arm in result["arms"] if arm["role"] != "baseline"]
    title = (
        f"Proxies for Γ against the plain SAE, Top-2, d_sae = n; {seeds(result)}, bar: 95 % "
        "interval; filled: clear after Holm's correction\nshaded: proxies at α = 1; the other "
        "rows are controls"
    )
    worlds = {world: textwrap.fill(label, 26) for world, label in result["worlds"].items()}

    def draw(axes: Any, tied: bool, world: str) -> None:
        axes.axvline(0, color=_GREY, linewidth=1)
        for place, number in enumerate(cells_where(result, world=world, tied=tied)):
            rows = [rows_of(result, arm["name"], "l_gt_scaled", [number])[0] for arm in arms]
            heights = [i + 0.3 * (place - 0.5) for i in range(len(arms))]
            label = f"S = {result['cells'][number]['sparsity']:g}"
            points(axes, heights, rows, place + 1, label, sideways=True)
        for i, arm in enumerate(arms):
            if arm["role"] == "weighted":
                axes.axhspan(i - 0.5, i + 0.5, color="#eef4fa", zorder=0)
        axes.legend(frameon=False, fontsize=8)
        axes.set_xlabel("difference in L_GT (fitted scales)\n← better than Γ = I      worse →")
        name_arms(axes, arms, fontsize=8)

    shared: dict[str, Any] = {"sharey": True, "sharex": "col"}
    return {"proxies": panels((13, 11), title, TIED, worlds, draw, **shared)}


def alpha(result: Result) -> dict[str, Figure]:
    """L_GT over α, for the proxies and their controls, world by world."""
    title = (
        f"The exponent α in γ = s^α, Top-2, d_sae = n, lower is better; {seeds(result)}, {_BAND}"
    )
    plain = result["arms"][0]
    cells = {(cell["tied"], cell["world"]): cell for cell in result["cells"]}
    worlds = {
        world: f"{textwrap.fill(label, 26)}, S = {cells[True, world]['sparsity']:g}"
        for world, label in result["worlds"].items()
    }
    rows = {tied: f"{word} SAE\nL_GT (fitted scales)" for tied, word in TIED.items()}

    def draw(axes: Any, tied: bool, world: str) -> None:
        scores = {arm: one["l_gt_scaled"] for arm, one in cells[tied, world]["scores"].items()}
        kinds = [(kind, proxy) for kind in _ALPHA_SERIES for proxy in ("variance", "kurtosis")]
        for number, (kind, proxy) in enumerate(kinds):
            alike = [a for a in result["arms"] if (a["treatment"], a["proxy"]) == (kind, proxy)]
            arms = sorted([plain, *alike], key=lambda arm: arm["alpha"])
            found = [scores[arm["name"]] for arm in arms]
            label = _ALPHA_SERIES[kind].format(proxy)
            line(axes, [arm["alpha"] for arm in arms], found, number + 1, label)
        whitened = scores["whitened"]
        axes.axhspan(whitened["low"], whitened["high"], color="#bbbbbb", alpha=0.6, lw=0)
        axes.axhline(whitened["mean"], color="#888888", lw=1, label="SAE on whitened x")
        axes.axvline(0, color=_GREY, linewidth=0.8)
        axes.set_xlabel("" if tied else "α (0: plain SAE)")

    return {"alpha": panels((13, 6.6), title, rows, worlds, draw, 4, sharex=True)}


FIGURES: dict[str, Callable[[Result], dict[str, Figure]]] = {
    "fig2": fig2,
    "fig3": fig3,
    "proxies": proxies,
    "alpha": alpha,
    "gba": gba.figures,
}
"""Study → result → its figures by name."""
