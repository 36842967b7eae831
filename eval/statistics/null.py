r"""How often is a family of tests wrong where nothing differs?

    python eval/statistics/null.py --output eval/statistics/null.json

Every comparison of the package (`wsae report`, `wsae toy`) goes through `wsae_plugin.statistics`:
the paired differences of all arms and metrics that answer one question are tested together, and
those that stay below 0.05 after Holm's correction are called clear. Here every arm is drawn from
the same distribution, so that whatever is called clear is wrong. The family-wise error, the share
of families with at least one such difference, should be at most 5 %.

A family has four arms beside their baseline and five metrics of one kind, at one layer or averaged
over four. The kinds are those of the package's own metrics: continuous ones, counts, shares of few
samples, ones that are mostly 0, and ones that move in steps; the second table says how large the
steps of the metrics in the committed reports are beside what their differences scatter over seeds.

"Outside" are distributions that Student's test does not cover: a metric that jumps between two
values looks certain where few seeds happen to agree, and no test can tell; flat ones are a little
over the 5 %. "Covered" is the share of Student's intervals that hold the true difference, 0.

A report also gives an interval over held-out batches, with the seeds as they are, and names what
lies outside it: the last table says how often that is wrong where the difference of two SAEs is 0
on average and scatters from batch to batch in the ways named.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import scipy
import typer
from numpy.random import Generator
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from tqdm.auto import tqdm

import wsae_plugin
from wsae_plugin.files import write_json_atomic
from wsae_plugin.statistics import compare, resolution_of, t_interval

Values = NDArray[np.float64]
Kind = Callable[[Generator, tuple[int, ...]], Values]

ARMS, METRICS = 4, 5
LAYERS = (1, 4)
SEEDS = (2, 3, 4, 5, 6, 7, 8)
BATCHES = (8, 16, 32, 64)
REPORTS = ("eval/saebench/report.json", "eval/gba/report.json")


def steps_of(size: float) -> Kind:
    """Normal, but measured in steps of so many standard deviations."""
    return lambda draw, shape: np.round(draw.normal(size=shape) / size) * size


KINDS: dict[str, Kind] = {
    "normal": lambda draw, shape: draw.normal(size=shape),
    "heavy tails (t, 3 degrees of freedom)": lambda draw, shape: draw.standard_t(3, size=shape),
    "skewed (exponential)": lambda draw, shape: draw.exponential(size=shape),
    "0 in four of five, else exponential": lambda draw, shape: (
        draw.exponential(size=shape) * (draw.uniform(size=shape) < 0.2)
    ),
    "steps of 0.1 standard deviations": steps_of(0.1),
    "steps of 0.5 standard deviations": steps_of(0.5),
    "steps of 1 standard deviation": steps_of(1),
    "steps of 2 standard deviations": steps_of(2),
    "a count, 0.3 on average": lambda draw, shape: draw.poisson(0.3, size=shape).astype(float),
    "a count, 3 on average": lambda draw, shape: draw.poisson(3, size=shape).astype(float),
    "a share of 50 samples, 0.9": lambda draw, shape: draw.binomial(50, 0.9, size=shape) / 50,
    "a float32 mean of three shares of 10 samples": lambda draw, shape: (
        (draw.binomial(10, 0.7, size=(3, *shape)) / 10).astype(np.float32).mean(axis=0)
    ),
}
OUTSIDE: dict[str, Kind] = {
    "flat (uniform)": lambda draw, shape: draw.uniform(size=shape),
    "two values": lambda draw, shape: (
        (draw.uniform(size=shape) < 0.5) + 0.01 * draw.normal(size=shape)
    ),
}


def simulate(name: str, n_seeds: int, layers: int, families: int) -> dict[str, Any]:
    """The errors of one kind of metric at one number of seeds."""
    draw = np.random.default_rng([list(KINDS | OUTSIDE).index(name), n_seeds, layers])
    kind = (KINDS | OUTSIDE)[name]
    wrong = covered = 0
    for _ in range(families):
        runs = kind(draw, (METRICS, 1 + ARMS, n_seeds, layers))
        resolutions = [resolution_of(metric.ravel()) for metric in runs for _ in range(ARMS)]
        per_seed = (runs[:, 1:] - runs[:, :1]).mean(axis=-1).reshape(-1, n_seeds)
        cells = compare(per_seed.tolist(), resolutions)
        wrong += any(cell["clear"] for cell in cells)
        covered += sum(cell["low"] <= 0 <= cell["high"] for cell in cells)
    return {
        "kind": name,
        "outside": name in OUTSIDE,
        "seeds": n_seeds,
        "layers": layers,
        "family_wise_error": wrong / families,
        "covered": round(covered / families / ARMS / METRICS, 4),
    }


SCATTER: dict[str, Kind] = {
    "normal": KINDS["normal"],
    "heavy tails (t, 3 degrees of freedom)": KINDS["heavy tails (t, 3 degrees of freedom)"],
    "skewed (exponential)": lambda draw, shape: draw.exponential(size=shape) - 1,
}


def named_over_batches(name: str, n_batches: int, differences: int) -> dict[str, Any]:
    """How often the interval over batches leaves out a mean difference of 0."""
    draw = np.random.default_rng([list(SCATTER).index(name), n_batches])
    rows = SCATTER[name](draw, (differences, n_batches)).tolist()
    intervals = [t_interval(row) for row in rows]
    wrong = sum(not interval.low <= 0 <= interval.high for interval in intervals)
    return {"scatter": name, "batches": n_batches, "named": wrong / differences}


def steps_of_metrics(report: Path) -> list[dict[str, Any]]:
    """The tested metrics of a report: the smallest step beside the scatter of the differences."""
    document = json.loads(report.read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = []
    for metric in document["metrics"]:
        scatters = [
            float(np.std(arm["per_seed"], ddof=1))
            for arm in metric["arms"].values()
            if "outcome" in arm["difference"]
        ]
        if scatters:
            found.append(
                {
                    "report": str(report),
                    "metric": f"{metric['eval']}: {metric['label']}",
                    "step": metric["resolution"],
                    "median_scatter": float(f"{np.median(scatters):.4g}"),
                }
            )
    return found


def main(
    families: Annotated[int, typer.Option(min=20, help="Families of each condition.")] = 2000,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    output: Annotated[Path | None, typer.Option(help="JSON to write.")] = None,
) -> None:
    """Simulate, print the table, and write it."""
    conditions = [(k, n, layers) for k in KINDS | OUTSIDE for layers in LAYERS for n in SEEDS]
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        found = pool.map(simulate, *zip(*conditions, strict=True), [families] * len(conditions))
        results = list(tqdm(found, "Null", total=len(conditions), unit="condition"))
    table = Table("kind of metric", "layers", *(f"{n} seeds" for n in SEEDS))
    for name in KINDS | OUTSIDE:
        for layers in LAYERS:
            mine = [r for r in results if (r["kind"], r["layers"]) == (name, layers)]
            shown = name + (" (outside)" if name in OUTSIDE else "")
            table.add_row(shown, str(layers), *(f"{r['family_wise_error']:.1%}" for r in mine))
    console = Console(width=120)
    console.print("Families in which something was called clear, where nothing differs:")
    console.print(table)
    metrics = [
        row for name in REPORTS if Path(name).is_file() for row in steps_of_metrics(Path(name))
    ]
    steps = Table("metric", "smallest step", "scatter of differences over seeds")
    for row in metrics:
        steps.add_row(row["metric"], f"{row['step']:.2g}", f"{row['median_scatter']:.2g}")
    console.print(steps)
    over_batches = [named_over_batches(name, n, 10 * families) for name in SCATTER for n in BATCHES]
    batches = Table("scatter from batch to batch", *(f"{n} batches" for n in BATCHES))
    for name in SCATTER:
        shares = [f"{row['named']:.1%}" for row in over_batches if row["scatter"] == name]
        batches.add_row(name, *shares)
    console.print("Differences of 0 that the interval over held-out batches leaves out:")
    console.print(batches)
    if output is not None:
        versions = {
            "wsae-plugin": wsae_plugin.__version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        }
        write_json_atomic(
            output,
            {
                "families": families,
                "arms": ARMS,
                "metrics": METRICS,
                "versions": versions,
                "worst": max(r["family_wise_error"] for r in results if not r["outside"]),
                "results": results,
                "steps_of_metrics": metrics,
                "over_batches": over_batches,
            },
        )


if __name__ == "__main__":
    typer.run(main)
