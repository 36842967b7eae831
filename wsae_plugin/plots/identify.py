"""The figure of `wsae identify`, drawn from its JSON alone."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from wsae_plugin.plots.style import LINES, MARKERS, PALETTE, new_figure, tidy

_CHANCE = {"random": "random directions", "rotated": "rotated copy"}
# A longer legend would hide the curves; the matrix shows every pair.
_LABELLED = 6


def agreement_figure(result: dict[str, Any]) -> Figure:
    """For each SAE name: the matrix of the pairs, and the sorted match curves beside chance."""
    saes = result["saes"]
    figure = new_figure(11, 4.2 * len(saes))
    panels = figure.subplots(len(saes), 2, squeeze=False)
    for sae, (matrix, curves) in zip(saes, panels, strict=True):
        # Of SAEs too wide for an assignment, best matches are shown.
        assigned = all(pair["agreement"]["assignment"] is not None for pair in sae["pairs"])
        _matrix(matrix, sae, assigned, figure)
        _curves(curves, sae, assigned, result["threshold"])
    figure.suptitle(
        "Do separately trained SAEs find the same directions?  "
        + ", ".join(f"run {i}: {run['path']}" for i, run in enumerate(result["runs"])),
        fontsize=10,
        wrap=True,
    )
    return figure


def _matrix(axes: Any, sae: dict[str, Any], assigned: bool, figure: Figure) -> None:
    members = sae["members"]
    values = [[1.0] * len(members) for _ in members]
    for pair in sae["pairs"]:
        first, second, found = pair["first"], pair["second"], pair["agreement"]
        sides = [found["assignment"]] * 2 if assigned else [found["forward"], found["backward"]]
        there, back = (side["mean_cosine" if assigned else "mmcs"] for side in sides)
        values[first][second], values[second][first] = there, back
    image = axes.imshow(values, vmin=0, vmax=1, cmap="cividis")
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            colour = "white" if value < 0.6 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour)
    ticks = [str(member["run"]) for member in members]
    axes.set_xticks(range(len(members)), ticks)
    axes.set_yticks(range(len(members)), ticks)
    axes.set_xlabel("run")
    axes.set_ylabel("run")
    kind = "mean |cosine|, matched one to one" if assigned else "MMCS, row's latents in column's"
    axes.set_title(f"{sae['name']}: {kind}", fontsize=10)
    figure.colorbar(image, ax=axes, shrink=0.8)


def _curves(axes: Any, sae: dict[str, Any], assigned: bool, threshold: float) -> None:
    def draw(pair: dict[str, Any], key: str, label: str | None, **style: Any) -> None:
        curve = pair[key]["assignment" if assigned else "forward"]["curve"]
        percent = [100 * (i + 0.5) / len(curve) for i in range(len(curve))]
        axes.plot(percent, curve, label=label, **style)

    for number, pair in enumerate(sae["pairs"]):
        runs = [sae["members"][pair[end]]["run"] for end in ("first", "second")]
        label = f"runs {runs[0]} and {runs[1]}" if number < _LABELLED else None
        colour, marker = PALETTE[1 + number % (len(PALETTE) - 1)], MARKERS[number % len(MARKERS)]
        draw(pair, "agreement", label, color=colour, marker=marker, markevery=10, markersize=5)
    for number, (control, chance) in enumerate(_CHANCE.items()):
        for pair in sae["pairs"]:
            label = f"chance: {chance}" if pair is sae["pairs"][0] else None
            draw(pair, control, label, color="#666666", linestyle=LINES[1 + 2 * number])
    axes.axhline(threshold, color="#bbbbbb", linewidth=1)
    axes.annotate(f"threshold {threshold:g}", (100, threshold), ha="right", va="bottom", fontsize=8)
    axes.set_ylim(0, 1.04)
    axes.set_xlabel("latents, best match first (%)")
    axes.set_ylabel("|cosine| with its partner" if assigned else "cosine with its best match")
    axes.legend(frameon=False, fontsize=9)
    tidy(axes)
