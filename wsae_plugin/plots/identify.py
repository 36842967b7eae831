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
    for sae, (matrix, curves) in zip(
        saes, figure.subplots(len(saes), 2, squeeze=False), strict=True
    ):
        _matrix(matrix, sae, figure)
        _curves(curves, sae, result["threshold"])
    figure.suptitle(
        "Do separately trained SAEs find the same directions?  "
        + ", ".join(f"run {i}: {run['path']}" for i, run in enumerate(result["runs"])),
        fontsize=10,
        wrap=True,
    )
    return figure


def is_assigned(sae: dict[str, Any]) -> bool:
    """Whether every pair has a one-to-one assignment; if not, best matches are shown."""
    return all(pair["agreement"]["assignment"] is not None for pair in sae["pairs"])


def _matrix(axes: Any, sae: dict[str, Any], figure: Figure) -> None:
    members, assigned = sae["members"], is_assigned(sae)
    values = [[1.0] * len(members) for _ in members]
    for pair in sae["pairs"]:
        first, second, measured = pair["first"], pair["second"], pair["agreement"]
        if assigned:
            values[first][second] = values[second][first] = measured["assignment"]["mean_cosine"]
        else:
            values[first][second] = measured["forward"]["mmcs"]
            values[second][first] = measured["backward"]["mmcs"]
    image = axes.imshow(values, vmin=0, vmax=1, cmap="cividis")
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            axes.text(
                column,
                row,
                f"{value:.2f}",
                ha="center",
                va="center",
                color="white" if value < 0.6 else "black",
            )
    ticks = [str(member["run"]) for member in members]
    axes.set_xticks(range(len(members)), ticks)
    axes.set_yticks(range(len(members)), ticks)
    axes.set_xlabel("run")
    axes.set_ylabel("run")
    kind = "mean |cosine|, matched one to one" if assigned else "MMCS, row's latents in column's"
    axes.set_title(f"{sae['name']}: {kind}", fontsize=10)
    figure.colorbar(image, ax=axes, shrink=0.8)


def _curves(axes: Any, sae: dict[str, Any], threshold: float) -> None:
    pairs, assigned = sae["pairs"], is_assigned(sae)
    side = "assignment" if assigned else "forward"
    for number, pair in enumerate(pairs):
        curve = pair["agreement"][side]["curve"]
        runs = [sae["members"][pair[end]]["run"] for end in ("first", "second")]
        axes.plot(
            _percent(curve),
            curve,
            color=PALETTE[1 + number % (len(PALETTE) - 1)],
            marker=MARKERS[number % len(MARKERS)],
            markevery=10,
            markersize=5,
            label=f"runs {runs[0]} and {runs[1]}" if number < _LABELLED else None,
        )
    for number, (control, label) in enumerate(_CHANCE.items()):
        for pair in pairs:
            curve = pair[control][side]["curve"]
            axes.plot(
                _percent(curve),
                curve,
                color="#666666",
                linestyle=LINES[1 + 2 * number],
                label=f"chance: {label}" if pair is pairs[0] else None,
            )
    axes.axhline(threshold, color="#bbbbbb", linewidth=1)
    axes.annotate(f"threshold {threshold:g}", (100, threshold), ha="right", va="bottom", fontsize=8)
    axes.set_ylim(0, 1.04)
    axes.set_xlabel("latents, best match first (%)")
    axes.set_ylabel("|cosine| with its partner" if assigned else "cosine with its best match")
    axes.legend(frameon=False, fontsize=9)
    tidy(axes)


def _percent(curve: list[float]) -> list[float]:
    return [100 * (i + 0.5) / len(curve) for i in range(len(curve))]
