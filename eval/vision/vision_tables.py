"""Trains the encoders of the study, writes their features as tables, and says what they learned.

    python eval/vision/vision_tables.py runs/vision

A table for each set of images, kind of encoder and seed; what they are like goes to encoders.json
and encoders.md beside this file. Six minutes of two cores.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from time import process_time
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from vision_encoders import Recipe, embed, live_dimensions, train
from vision_images import Splits, digits, pictures, pixels, write_table

from wsae_plugin.files import write_json_atomic, write_text_atomic
from wsae_plugin.gamma.consistency import ACTIVE, N_TOP, LabelCounter, semantic_consistency
from wsae_plugin.provenance import versions
from wsae_plugin.statistics import compare, rounded, t_interval

RESULT = Path(__file__).with_name("encoders.json")
SETS: dict[str, Callable[[], Splits]] = {"pictures": pictures, "digits": digits}
RECIPES = {
    ("pictures", "ncl"): Recipe(is_non_negative=True, epochs=5),
    ("pictures", "contrastive"): Recipe(is_non_negative=False, epochs=5),
    ("digits", "ncl"): Recipe(is_non_negative=True, epochs=60, flips=False),
    ("digits", "contrastive"): Recipe(is_non_negative=False, epochs=60, flips=False),
}
"""What differs within a set is the ReLU alone. Epochs are what time allows."""
SHOWN = {
    "one_nn": "1-NN",
    "probe": "linear probe",
    "dimensions": "dimensions",
    "active_share": "active",
    "consistency_of_top": f"consistency of the top {N_TOP}",
    "consistency_of_shuffled": "labels shuffled",
    "consistency_of_active": "of the active",
    "seconds": "seconds",
}


def class_shares(
    features: NDArray[np.float32], labels: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """How much of what excites each dimension is of one class, as the proxies of Γ have it.

    Args:
        features: Shape (n, d).
        labels: Shape (n,).

    Returns:
        `consistency_of_top` and `consistency_of_active`: the share of the most frequent class among
        the 20 images with the largest f, and among those with f > 1e-5; shape (d,), NaN where these
        are fewer than 20.
    """
    counter = LabelCounter(features.shape[1], int(labels.max()) + 1)
    counter.add(torch.from_numpy(features), torch.from_numpy(labels))
    found = counter.evidence()
    counts = {"consistency_of_top": found.top, "consistency_of_active": found.active}
    return {name: semantic_consistency(of).numpy() for name, of in counts.items()}


def described(rows: Mapping[str, NDArray[np.float32]], splits: Splits) -> dict[str, float]:
    """What features are like: accuracies on held-out images, and how specific dimensions are.

    Args:
        rows: Split → features, shape (n, d).
        splits: Their images.
    """
    labels = {split: of.labels for split, of in splits.items()}
    models = {
        "one_nn": KNeighborsClassifier(n_neighbors=1),
        "probe": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, tol=1e-2)),
    }
    accuracies = {
        name: float(
            model.fit(rows["train"], labels["train"]).score(rows["held_out"], labels["held_out"])
        )
        for name, model in models.items()
    }
    held_out = rows["held_out"]
    shares = class_shares(held_out, labels["held_out"])
    shuffled = class_shares(held_out, np.random.default_rng(0).permutation(labels["held_out"]))
    shares["consistency_of_shuffled"] = shuffled["consistency_of_top"]
    return (
        accuracies
        | {"dimensions": held_out.shape[1]}
        | {"active_share": float((held_out > ACTIVE).mean())}
        | {name: float(np.nanmean(of)) for name, of in shares.items()}
    )


def make_table(folder: Path, images: str, kind: str, seed: int) -> dict[str, Any]:
    """Train an encoder, write its features, and describe them; what is done is not done again.

    Dimensions that are active (> 0) on fewer than 20 training images are left out.

    Args:
        folder: Of all tables.
        images: Of `SETS`.
        kind: `ncl` or `contrastive`.
        seed: Of the encoder.
    """
    table = folder / f"{images}-{kind}-{seed}"
    about = folder / f"{table.name}.json"
    if about.exists():
        return json.loads(about.read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    start = process_time()
    splits = SETS[images]()
    recipe = replace(RECIPES[images, kind], seed=seed)
    encoder = train(splits["train"].images, recipe)
    rows = {split: embed(encoder, of.images) for split, of in splits.items()}
    live = live_dimensions(rows["train"])
    rows = {split: of[:, live] for split, of in rows.items()}
    write_table(table, rows, splits)
    seconds = process_time() - start
    found = {"set": images, "encoder": kind, "seed": seed, **described(rows, splits)}
    write_json_atomic(about, found | {"seconds": seconds})
    return found | {"seconds": seconds}


def raw(images: str) -> dict[str, Any]:
    """The same of pixels: what an encoder must exceed to have learned anything."""
    splits = SETS[images]()
    rows = {split: pixels(of.images) for split, of in splits.items()}
    return {"set": images, "encoder": "pixels", "seed": 0, **described(rows, splits), "seconds": 0}


def sentences_on_encoders(table: Any) -> list[str]:
    """Whether NCL's dimensions are more consistent, as arXiv 2403.12459 has it, set by set.

    Args:
        table: A row for each encoder, of two seeds or more.
    """
    kinds = {"consistency_of_top": f"the top {N_TOP}", "consistency_of_active": "the active"}
    cells: dict[str, list[float]] = {}
    for images, (metric, whose) in product(dict.fromkeys(table["set"]), kinds.items()):
        wide = table[table["set"] == images].pivot(index="seed", columns="encoder", values=metric)
        difference = (wide["ncl"] - wide["contrastive"]).tolist()
        cells[f"{images}, share of one class among {whose}"] = difference
    tests = compare(list(cells.values()), [0.0] * len(cells))
    words = {1: "more consistent", -1: "less consistent", 0: "not clearly different"}
    return [
        f"{name}: NCL's dimensions are {words[int(np.sign(test['mean']) * test['clear'])]} "
        f"({test['mean']:+.3f} [{test['low']:+.3f}, {test['high']:+.3f}], p = "
        f"{test['p_holm']:.2g})."
        for name, test in zip(cells, tests, strict=True)
    ]


def page_of_encoders(table: Any, chance: Mapping[str, float]) -> str:
    """The encoders as Markdown: the mean over seeds, with its 95 % interval.

    Args:
        table: A row for each encoder.
        chance: Set → the largest class's share of the held-out images.
    """
    lines = [
        "| images | encoder | " + " | ".join(SHOWN.values()) + " |",
        "|" + " --- |" * (2 + len(SHOWN)),
    ]
    for (images, kind), group in table.groupby(["set", "encoder"], sort=False):
        cells = [_cell(group[name].tolist()) for name in SHOWN]
        lines.append(f"| {images} | {kind} | " + " | ".join(cells) + " |")
    told = ", ".join(f"{name} {share:.3f}" for name, share in chance.items())
    said = [f"- {sentence}" for sentence in sentences_on_encoders(table)]
    return _INTRODUCTION.format(chance=told) + "\n".join([*lines, "", *said]) + "\n"


def _cell(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3g}"
    interval = t_interval(values)
    return f"{interval.mean:.3g} ± {interval.high - interval.mean:.2g}"


_INTRODUCTION = """# What the encoders learned

Written by `python eval/vision/vision_tables.py FOLDER`. On held-out images, mean over seeds with
Student's 95 % interval; one seed's training and embedding took `seconds` of one core. `active`:
share of the features above 1e-5. Consistency: share of the most frequent class, mean over
dimensions, among the held-out images with the largest values of a dimension, the same of shuffled
labels, and among all images that it is active on. Chance (the largest class's share): {chance}.
Differences between encoders are paired by seed, p by Holm's method over all of them. A pixel is
brightest in the brightest pictures, so few classes are among its top images: consistent is not
useful.

"""


def make_tables(folder: Path, seeds: Sequence[int], jobs: int) -> None:
    """Train the encoders whose tables are missing, and write what all of them are like.

    Args:
        folder: For the tables.
        seeds: Of the encoders of each kind.
        jobs: Encoders at a time, a core each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"  # read when a worker starts
    grid = [(folder, *key, seed) for key, seed in product(RECIPES, seeds)]
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        made = pool.map(make_table, *zip(*grid, strict=True))
        rows = [*pool.map(raw, SETS), *made]
    table = pd.DataFrame(rows)
    chance: dict[str, float] = {}
    for name, make in SETS.items():
        labels = make()["held_out"].labels
        chance[name] = rounded(float(np.bincount(labels).max() / len(labels)))
    values = table.map(lambda value: rounded(value) if isinstance(value, float) else value)
    found = {
        "recipes": {"-".join(key): vars(recipe) for key, recipe in RECIPES.items()},
        "chance": chance,
        "versions": versions(),
        "encoders": values.to_dict("records"),
    }
    write_json_atomic(RESULT, found)
    write_text_atomic(RESULT.with_suffix(".md"), page_of_encoders(table, chance))


def main(
    folder: Annotated[Path, typer.Argument(help="For the tables.")],
    seeds: Annotated[int, typer.Option(min=2, help="Encoders of each kind.")] = 7,
    jobs: Annotated[int, typer.Option(min=1, help="Encoders at a time, a core each.")] = 2,
) -> None:
    """Train, write and describe."""
    make_tables(folder, range(seeds), jobs)
    typer.echo(RESULT.with_suffix(".md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
