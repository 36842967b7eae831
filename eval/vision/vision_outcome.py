"""What vision_study.py found, in numbers: one family of tests, sentences that follow from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wsae_plugin.plots.style import LINES, MARKERS, PALETTE, new_figure, save_png, tidy
from wsae_plugin.statistics import compare, resolution_of, rounded, rounded_cell, t_interval

PROXIES = {
    "beta": "β: class share of a dimension's top images",
    "active": "β of all images that it is active on",
    "variance": "variance",
}


def contrasts(plan: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every arm beside the baseline, then the arms that study.yaml puts beside each other."""
    baseline = plan["base"]["baseline"]
    yield from ((arm, baseline) for arm in plan["base"]["arms"] if arm != baseline)
    yield from ((arm, other) for arm, others in plan["beside"].items() for other in others)


def outcome(table: Any, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that is said of the study, as plain values.

    Args:
        table: A row for each score of each SAE, with its `part`: images and encoder.
        plan: study.yaml.

    Raises:
        ValueError: A score is missing in some SAEs.
    """
    metrics = [plan["primary"], *plan["others"]]
    cells = pd.DataFrame(
        [
            {"part": part, "metric": metric, "arm": arm, "beside": other}
            | {"of_arm": rounded(wide[arm].mean()), "of_other": rounded(wide[other].mean())}
            | {"differences": (wide[arm] - wide[other]).tolist()}
            for metric in metrics
            for part, wide in _wide(table, metric)
            for arm, other in contrasts(plan)
        ]
    )
    is_primary = cells["metric"] == plan["primary"]
    family, shown = cells[is_primary].copy(), cells[~is_primary]
    values = table.loc[table["metric"] == plan["primary"], "value"]
    resolution = resolution_of(values)
    tests = compare(family["differences"].tolist(), [resolution] * len(family))
    found = [row | rounded_cell(test) for row, test in zip(_records(family), tests, strict=True)]
    chance = table[table["metric"] == plan["primary"]].groupby("part", sort=False)["chance"].mean()
    return {
        "seeds": len(plan["seeds"]),
        "family": len(family),
        "chance": {part: rounded(value) for part, value in chance.items()},
        "cells": found,
        "others": [row | _interval(row["differences"]) for row in _records(shown)],
        "sentences": sentences(pd.DataFrame(found)),
    }


def _wide(table: Any, metric: str) -> Iterator[tuple[str, Any]]:
    """Part → the values of a metric, a row a seed, a column an arm."""
    rows = table[table["metric"] == metric]
    for part, mine in rows.groupby("part", sort=False):
        wide = mine.pivot(index="seed", columns="arm", values="value")
        if wide.isna().any(axis=None) or len(wide) < table["seed"].nunique():
            raise ValueError(f"{part}: {metric} is missing in some SAEs")
        yield str(part), wide


def _records(cells: Any) -> list[dict[str, Any]]:
    rounded_ones = cells["differences"].map(lambda values: [rounded(value) for value in values])
    return cells.assign(differences=rounded_ones).to_dict("records")


def _interval(differences: list[float]) -> dict[str, float]:
    interval = t_interval(differences)
    return {name: rounded(value) for name, value in vars(interval).items()}


def sentences(cells: Any) -> list[str]:
    """What the family says of the arms that are put beside others, in each part and counted.

    Args:
        cells: The cells of the primary outcome.
    """
    found: list[str] = []
    pairs = cells[cells["arm"].isin(cells.loc[cells["beside"] != cells["beside"].iloc[0], "arm"])]
    for (arm, other), mine in pairs.groupby(["arm", "beside"], sort=False):
        words = mine["clear"] * np.sign(mine["mean"])
        counted = ", ".join(
            f"{word} in {(words == sign).sum()}"
            for sign, word in ((1, "clearly higher"), (-1, "clearly lower"))
        )
        each = "; ".join(
            f"{row.part}: {100 * row.of_arm:.1f} beside {100 * row.of_other:.1f}, "
            f"{100 * row.mean:+.1f} [{100 * row.low:+.1f}, {100 * row.high:+.1f}], "
            f"p = {row.p_holm:.2g}"
            for row in mine.itertuples()
        )
        found.append(f"{arm} beside {other}: {counted} of {len(mine)} ({each}).")
    return found


def page(result: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    cells, others = pd.DataFrame(result["cells"]), pd.DataFrame(result["others"])
    shown = pd.DataFrame(
        {
            **{name: cells[name] for name in ("part", "arm", "beside")},
            "consistency": (100 * cells["of_arm"]).map("{:.1f}".format),
            "change": [_points(row) for row in result["cells"]],
            "p_holm": [f"{row['p_holm']:.2g}{' *' * row['clear']}" for row in result["cells"]],
        }
    )
    beside = others.assign(change=[_change(row) for row in result["others"]])
    wide = beside.pivot_table(
        index=["part", "arm", "beside"],
        columns="metric",
        values="change",
        aggfunc="first",
        sort=False,
    )
    chance = ", ".join(f"{part} {100 * share:.1f}" for part, share in result["chance"].items())
    sections = {
        "What it says": "\n".join(f"- {sentence}" for sentence in result["sentences"]),
        "Semantic consistency of latents": _markdown(shown),
        "What else changed": _markdown(wide.reset_index()),
    }
    body = "\n\n".join(f"## {name}\n\n{text}" for name, text in sections.items())
    told = {name: result[name] for name in ("seeds", "family")}
    return f"{_INTRODUCTION.format(chance=chance, **told)}\n\n{body}\n"


def _points(row: Mapping[str, Any]) -> str:
    return f"{100 * row['mean']:+.1f} [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"


def _change(row: Mapping[str, Any]) -> str:
    return f"{row['mean']:+.4f} ± {row['high'] - row['mean']:.4f}"


def _markdown(frame: Any) -> str:
    head = "| " + " | ".join(map(str, frame.columns)) + " |"
    rows = ["| " + " | ".join(map(str, row)) + " |" for row in frame.to_numpy().tolist()]
    return "\n".join([head, "|" + " --- |" * len(frame.columns), *rows])


_INTRODUCTION = """# Semantic consistency as a weight, on images

Written by `python eval/vision/vision_study.py FOLDER`; what is trained stands in study.yaml, which
was written before. Consistency, %: of the held-out images that excite a latent most, the share of
their most frequent class, mean over latents; by chance {chance}. Changes are in points, paired over
{seeds} seeds, each with an encoder of its own; brackets and ± hold Student's 95 % intervals. p is
Holm's, over all {family} changes of the second section as one family; * below 0.05."""


def draw(result: Mapping[str, Any], plan: Mapping[str, Any], path: Path) -> None:
    """Draw consistency and explained variance against α, a column for each part."""
    primary = [row | {"metric": plan["primary"]} for row in result["cells"]]
    cells = pd.DataFrame([*primary, *result["others"]])
    cells = cells[cells["beside"] == plan["base"]["baseline"]]
    alphas = {name: arm.get("alpha") for name, arm in plan["base"]["arms"].items()}
    parts = list(result["chance"])
    metrics = {
        plan["primary"]: "semantic consistency, %",
        "explained_variance": "explained variance",
    }
    figure = new_figure(3.1 * len(parts), 5.2)
    grid = figure.subplots(len(metrics), len(parts), squeeze=False, sharex=True)
    for (row, metric), (column, part) in (
        (one, other) for one in enumerate(metrics) for other in enumerate(parts)
    ):
        axes = grid[row, column]
        scale = 100 if row == 0 else 1
        here = cells[(cells["part"] == part) & (cells["metric"] == metric)].set_index("arm")
        level = scale * float(here["of_other"].iloc[0])
        axes.axhline(level, color="#888888", linewidth=0.8)
        for n, (proxy, label) in enumerate(PROXIES.items()):
            mine = here[here.index.str.startswith(f"{proxy}_")]
            axes.errorbar(
                [alphas[arm] for arm in mine.index],
                level + scale * mine["mean"],
                yerr=scale * (mine["high"] - mine["low"]) / 2,
                color=PALETTE[n],
                marker=MARKERS[n],
                linestyle=LINES[n],
                markersize=4,
                linewidth=1,
                label=label,
            )
        controls = here[here.index.str.startswith("shuffled_")]
        axes.plot(
            [float(arm.rsplit("_", 1)[1]) for arm in controls.index],
            level + scale * controls["mean"],
            **{"color": PALETTE[4], "marker": "x", "linestyle": "none", "label": "shuffled β"},
        )
        axes.set_title(part if row == 0 else "")
        axes.set_ylabel(metrics[metric] if column == 0 else "")
        axes.set_xlabel("α" if row else "")
        tidy(axes)
    grid[0, 0].legend(frameon=False, fontsize=7)
    save_png(figure, path)
