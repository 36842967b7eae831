"""Does semantic consistency as a weight make an SAE's latents more consistent? In small, on images.

    python eval/vision/vision_study.py runs/vision

Trains the encoders (vision_tables.py) and then what study.yaml lists, each table with `wsae
compare` and `wsae eval` in a process of its own, and goes on where it was interrupted; then writes
study.json, study.md and study.png beside this file. Half an hour of two cores.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
import yaml
from safetensors.torch import save_file
from vision_outcome import draw, outcome, page
from vision_tables import class_shares, make_tables

from wsae_plugin.compare.manifest import Comparison
from wsae_plugin.files import write_json_atomic, write_text_atomic
from wsae_plugin.provenance import versions
from wsae_plugin.report.inputs import read_inputs
from wsae_plugin.yaml_file import to_yaml

CONFIG = Path(__file__).with_name("study.yaml")
RESULT = CONFIG.with_suffix(".json")
WSAE = Path(sys.executable).with_name("wsae")
LEAK = "leak.safetensors"

Values = dict[str, Any]


def comparison(plan: Mapping[str, Any], table: Path, images: str, seed: int) -> Values:
    """The config of one table's SAEs.

    Args:
        plan: study.yaml.
        table: What `write_table` wrote.
        images: Of `plan["sets"]`.
        seed: Of the encoder, and of the SAEs.
    """
    d_in = np.load(table / "train" / "activations.npy", mmap_mode="r").shape[1]
    base = plan["base"]
    own = {"gamma_file": str(table / LEAK)}
    arms = {
        name: arm | own if arm.get("gamma_proxy") == "file" else arm
        for name, arm in base["arms"].items()
    }
    files = {
        "activations": table / "train" / "activations.npy",
        "labels": table / "train" / "labels.npy",
        "held_out": table / "held_out" / "activations.npy",
        "held_out_labels": table / "held_out" / "labels.npy",
    }
    sae = base["sae"] | plan["sets"][images] | {"d_in": d_in}
    paths = {field: str(path) for field, path in files.items()}
    return base | paths | {"seeds": [seed], "sae": sae, "arms": arms}


def write_leak(table: Path) -> None:
    """Write β of the held-out images, for the arm that shows what it is worth to know them."""
    features, labels = (
        np.load(table / "held_out" / f"{name}.npy") for name in ("activations", "labels")
    )
    beta = np.nan_to_num(class_shares(features, labels)["consistency_of_top"])
    save_file({"proxy": torch.from_numpy(beta)}, table / LEAK)


def trained(config: Path, batches: int) -> Path:
    """Train and measure the SAEs of a config, in a folder beside it; what is done is left alone."""
    output = config.with_suffix("")
    is_started = (output / "manifest.json").exists()
    if not is_started or Comparison.read(output).status != "finished":
        _wsae("compare", config, "--output", output, *["--resume"] * is_started)
    _wsae("eval", output, "--batches", batches)
    return output


def _wsae(*arguments: object) -> None:
    command = [str(WSAE), *map(str, arguments)]
    log = Path(str(arguments[1])).with_suffix(".log")
    with log.open("a") as file:
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, stdout=file, stderr=file, env=env)


def main(
    folder: Annotated[Path, typer.Argument(help="For the tables and the runs.")],
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at a time, a core each.")] = 2,
) -> None:
    """Make the tables, train, measure, and write the result."""
    plan = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    make_tables(folder, plan["seeds"], jobs)
    configs: dict[Path, str] = {}
    for images, encoder, seed in product(plan["sets"], plan["encoders"], plan["seeds"]):
        table = folder / f"{images}-{encoder}-{seed}"
        write_leak(table)
        config = folder / f"saes-{table.name}.yaml"
        config.write_text(to_yaml(comparison(plan, table, images, seed)), encoding="utf-8")
        configs[config] = f"{images}, {encoder}"
    with ThreadPoolExecutor(jobs) as pool:
        done = list(pool.map(lambda config: trained(config, plan["batches"]), configs))
    tables = [
        read_inputs(path).table.assign(part=part)
        for path, part in zip(done, configs.values(), strict=True)
    ]
    result = outcome(pd.concat(tables, ignore_index=True), plan)
    write_json_atomic(RESULT, {"versions": versions()} | result)
    draw(result, plan, RESULT.with_suffix(".png"))
    write_text_atomic(RESULT.with_suffix(".md"), page(result))
    typer.echo(page(result))


if __name__ == "__main__":
    typer.run(main)
