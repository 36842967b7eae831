"""What α does to the balance of the reconstruction with a sparsity penalty.

    python eval/balance/balance.py --output eval/balance/balance.json

Each SAE of balance.yaml is trained at α = 0, 0.25, 0.5 and 1 with Γ normalized so that predicting
the mean costs what it costs unweighted (`total_variance`, Σγ²·Var = ΣVar) and so that the mean of
γ² is 1 (`mean_square`), and at α = 1 with a `gamma_clip`; all of a seed from one pass of the
language model, on the same batches. Penalties stay what they are. On held-out text: L0, the
unweighted explained variance, and that of the dimensions other than the eight with the largest
variance ("the others"). A few minutes of two cores a seed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer
from rich.console import Console

from wsae_plugin.files import write_json_atomic
from wsae_plugin.gamma.weights import effective_dimensions
from wsae_plugin.measures.evaluate import evaluate_runs
from wsae_plugin.measures.held_out import EvalSettings
from wsae_plugin.provenance import versions
from wsae_plugin.training import load_run_config
from wsae_plugin.training.train import train
from wsae_plugin.yaml_file import to_yaml

CONFIG = Path(__file__).with_name("balance.yaml")
NORMALIZATIONS = ("total_variance", "mean_square")
ALPHAS = (0.25, 0.5, 1.0)
CLIP = 3.0
N_OUTLIERS = 8
KEY = ["architecture", "normalization", "alpha", "clip"]
SHOWN = ["l0", "explained_variance", "explained_variance_of_the_others", "effective_dimensions"]


def grid(saes: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The sections of all SAEs, by names that become folders."""
    sections: dict[str, dict[str, Any]] = {}
    for name, sae in saes.items():
        sections[name] = sae
        for rule in NORMALIZATIONS:
            arms = [(alpha, None) for alpha in ALPHAS] + [(1.0, CLIP)]
            for alpha, clip in arms:
                weighted = {"alpha": alpha, "gamma_normalization": rule, "gamma_clip": clip}
                sections[f"{name}-{len(sections)}"] = {**sae, **weighted}
    return sections


def row(section: dict[str, Any], seed: int, found: dict[str, Any]) -> dict[str, Any]:
    """One SAE in numbers, from its scores/held_out.json."""
    scores = {score["metric"]: score["value"] for score in found["scores"]}
    per_dimension = pd.DataFrame(found["per_dimension"])
    variance, gamma = per_dimension["variance"], torch.tensor(per_dimension["gamma"])
    explained = variance * per_dimension["explained_variance"]
    others = variance.sort_values().index[:-N_OUTLIERS]
    return {
        "architecture": section["architecture"],
        "normalization": section["gamma_normalization"] if section["alpha"] else None,
        "alpha": section["alpha"],
        "clip": section["gamma_clip"],
        "seed": seed,
        "l0": scores["l0"],
        "explained_variance": scores["explained_variance"],
        "explained_variance_of_the_others": float(explained[others].sum() / variance[others].sum()),
        "variance_share_of_the_others": float(variance[others].sum() / variance.sum()),
        "effective_dimensions": float(effective_dimensions(gamma, torch.tensor(variance))),
        "dead_share": scores["dead_share"],
    }


def main(
    seeds: Annotated[int, typer.Option(min=1)] = 2,
    tokens: Annotated[int | None, typer.Option(help="Of each training, for a quick look.")] = None,
    batches: Annotated[int, typer.Option(min=2, help="Held-out batches of 8 contexts.")] = 16,
    output: Annotated[Path | None, typer.Option(help="JSON to write.")] = None,
) -> None:
    """Train, measure, print the table, and write it."""
    length = [] if tokens is None else [f"training_tokens={tokens}", "lr_decay_steps=0"]
    saes = grid(load_run_config(CONFIG).values["saes"])
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "grid.yaml"
        for seed in range(seeds):
            values = load_run_config(CONFIG, [f"seed={seed}", *length]).values
            path.write_text(to_yaml(values | {"saes": saes}), encoding="utf-8")
            run = Path(folder) / f"seed-{seed}"
            train(load_run_config(path), run)
            evaluated = evaluate_runs([run], EvalSettings(batches=batches))
            found = {scores["run"].removeprefix(f"{run.name}-"): scores for scores in evaluated}
            rows += [row(section, seed, found[name]) for name, section in saes.items()]
    means = pd.DataFrame(rows).groupby(KEY, sort=False, dropna=False).mean(numeric_only=True)
    Console(width=160).print(means[SHOWN].round(3).to_string())
    if output is not None:
        about = {"seeds": seeds, "outliers": N_OUTLIERS, "versions": versions()}
        write_json_atomic(output, {**about, "results": rows})


if __name__ == "__main__":
    typer.run(main)
