"""The figure of train_step.py, drawn from its JSON alone.

python eval/perf/train_step_plot.py train_step.json train_step.png
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer
from matplotlib.figure import Figure

from wsae_plugin.plots.style import MARKERS, PALETTE, new_figure, save_png, tidy

FLOOR = "floor"
COLOURS = {FLOOR: 0, "SAELens": 1, "sparsify": 2, "wsae": 5}  # places in the palette, by owner
AXES = {"d_sae": "latents d_sae", "k": "active latents k", "batch": "batch"}


def draw(result: dict[str, Any], path: Path) -> None:
    """Write the figure as PNG."""
    save_png(train_step_figure(result), path)


def train_step_figure(result: dict[str, Any]) -> Figure:
    """Step times at the central size over the floor, and how they grow along every axis."""
    measured = _at_centre(result)
    sweep: dict[str, list[dict[str, Any]]] = result["sweep"]
    figure = new_figure(6 + 2.6 * len(sweep), 3.8)
    bars, *panels = figure.subplots(
        1, 1 + len(sweep), width_ratios=[2.2] + [1] * len(sweep), squeeze=False
    )[0]
    _draw_bars(bars, measured)
    for axes, (axis, points) in zip(panels, sweep.items(), strict=True):
        axes.sharey(panels[0])
        _draw_growth(axes, axis, points)
    for axes in panels[1:]:
        axes.tick_params(labelleft=False)
    if panels:
        panels[0].set_ylabel("step, s")
        figure.legend(
            *panels[0].get_legend_handles_labels(),
            loc="outside lower right",
            ncols=4,
            frameon=False,
            fontsize=8,
        )
    about = result["about"]
    figure.suptitle(
        f"Top-k training step, {measured['d_in']:,} → {measured['d_sae']:,}, k {measured['k']}, "
        f"batch {measured['batch']:,}: {about['device_name']}"
        + (f", threads: {about['threads']}" if about["device"] == "cpu" else "")
        + (", bfloat16" if about["bf16"] else ""),
        fontsize=10,
    )
    return figure


def _at_centre(result: dict[str, Any]) -> dict[str, Any]:
    """What was measured at the central size, or at the first before that is done."""
    centre = result["centre"].items()
    sizes = result["sizes"]
    return next((size for size in sizes if centre <= size.items()), sizes[0])


def _draw_bars(axes: Any, measured: dict[str, Any]) -> None:
    contenders = {n: figures for n, figures in measured["contenders"].items() if n != FLOOR}
    names = list(contenders)
    ratios = [figures["over_floor"] for figures in contenders.values()]
    lengths = [ratio["median"] for ratio in ratios]
    errors = [
        [ratio["median"] - ratio["quartiles"][0] for ratio in ratios],
        [ratio["quartiles"][1] - ratio["median"] for ratio in ratios],
    ]
    axes.barh(names, lengths, xerr=errors, color=[_colour(n) for n in names], capsize=2)
    for place, figures in enumerate(contenders.values()):
        end = max(figures["over_floor"]["quartiles"][1], 1)  # right of the floor's line
        text = duration(figures["step_s"]["median"])
        axes.text(end, place, f"  {text}", va="center", fontsize=8)
    axes.axvline(1, color="black", linestyle="--", linewidth=1)
    axes.text(1, -0.62, " float32 floor", va="center", fontsize=8)
    axes.set_xlim(0, 1.2 * max(ratio["quartiles"][1] for ratio in ratios))
    axes.set_ylim(len(names) - 0.4, -0.8)
    axes.set_xlabel("step time / time of the floor")
    tidy(axes)
    axes.grid(False, axis="y")


def _draw_growth(axes: Any, axis: str, points: list[dict[str, Any]]) -> None:
    for name in points[0]["contenders"]:
        steps = [point["contenders"][name]["step_s"] for point in points]
        axes.plot(
            [point[axis] for point in points],
            [step["median"] for step in steps],
            color=_colour(name),
            marker=MARKERS[_place(name)],
            markersize=4,
            linestyle="--" if name == FLOOR else "-",
            label=name,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(AXES[axis])
    tidy(axes)
    values = [point[axis] for point in points]
    axes.set_xticks(values, [_short(value) for value in values], fontsize=7, rotation=45)
    axes.minorticks_off()


def _short(value: int) -> str:
    return f"{value / 1024:g}k" if value >= 1024 else str(value)


def duration(seconds: float) -> str:
    """In seconds, or milliseconds below one."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def _place(name: str) -> int:
    return next(place for owner, place in COLOURS.items() if name.startswith(owner))


def _colour(name: str) -> str:
    return PALETTE[_place(name)]


def main(result: Path, png: Path) -> None:
    """Draw the figure of a JSON that train_step.py wrote."""
    draw(json.loads(result.read_text()), png)


if __name__ == "__main__":
    typer.run(main)
