"""Figure 2 of arXiv 2506.15963: what a single feature activates, under three conditions.

The paper varies sparsity, activation and width, the others at their best, and counts how many
features activate each latent. With Top-k and no biases this count cannot exceed k · n / d_sae,
trained or not: the SAE before training is the control that tells learning from arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from wsae_plugin.statistics import compare, resolution_of
from wsae_plugin.toy.batched import NO_ACTIVATION, jump_relu, top_k
from wsae_plugin.toy.experiments.arms import SAE
from wsae_plugin.toy.experiments.experiment import Cell, Experiment, Result
from wsae_plugin.toy.experiments.grid import cell
from wsae_plugin.toy.experiments.settings import ToySettings
from wsae_plugin.toy.experiments.words import cells_where, score, signed

SPARSITIES = (0.3, 0.5, 0.7, 0.9, 0.95, 0.99)
ACTIVATIONS = (NO_ACTIVATION, jump_relu(0.1), top_k(2))
BEST = SPARSITIES[-1]
METRIC = "activated_features"


def widths(settings: ToySettings) -> list[int]:
    """From d_in to n_features; 20, 40, 80, 120, 160, 200 at the paper's size."""
    room = settings.n_features - settings.d_in
    return sorted({settings.d_in + round(room * ninths / 9) for ninths in (0, 1, 3, 5, 7, 9)})


def cells(settings: ToySettings) -> list[Cell]:
    """Three panels that share a corner, for tied and untied SAEs."""
    n = settings.n_features
    found: dict[str, Cell] = {}
    for tied in (True, False):
        grid = [
            *((sparsity, ACTIVATIONS[-1], n) for sparsity in SPARSITIES),
            *((BEST, activation, n) for activation in ACTIVATIONS),
            *((BEST, ACTIVATIONS[-1], width) for width in widths(settings)),
        ]
        for sparsity, activation, d_sae in grid:
            one = cell("learned", sparsity, tied=tied, activation=activation, d_sae=d_sae)
            found[one.key] = one
    return list(found.values())


def panels(result: Result, tied: bool) -> dict[str, list[int]]:
    """Panel → its cells, from the condition said to be worst to the best."""
    n = result["settings"]["n_features"]
    top = ACTIVATIONS[-1].label
    fixed: dict[str, Any] = {"tied": tied}
    of_sparsity = cells_where(result, **fixed, activation=top, d_sae=n)
    of_width = cells_where(result, **fixed, activation=top, sparsity=BEST)
    of_activation = [
        cells_where(result, **fixed, activation=a.label, sparsity=BEST, d_sae=n)[0]
        for a in ACTIVATIONS
    ]
    return {
        "sparsity": sorted(of_sparsity, key=lambda i: result["cells"][i]["sparsity"]),
        "activation": of_activation,
        "width": sorted(of_width, key=lambda i: result["cells"][i]["d_sae"]),
    }


def verdict(result: Result) -> list[str]:
    """Each panel's two ends, trained and untrained; the six changes of either are one family."""
    ends = {
        (tied, name): (found[0], found[-1])
        for tied in (True, False)
        for name, found in panels(result, tied).items()
    }
    trained, untrained = (
        _changes(result, list(ends.values()), arm) for arm in ("sae", "untrained")
    )
    sentences = [
        f"{'Tied' if tied else 'Untied'}, {name} "
        f"({_condition(result, name, worst)} to {_condition(result, name, best)}): average "
        f"activated features go from {score(result, worst, 'sae', METRIC)} to "
        f"{score(result, best, 'sae', METRIC)}, {change}; before any training from "
        f"{score(result, worst, 'untrained', METRIC)} to "
        f"{score(result, best, 'untrained', METRIC)}, {before}."
        for ((tied, name), (worst, best)), change, before in zip(
            ends.items(), trained, untrained, strict=True
        )
    ]
    n, k = result["settings"]["n_features"], ACTIVATIONS[-1].k
    sentences.append(
        f"A Top-{k} SAE without biases cannot exceed {k}n/d_sae ({k} at d_sae = n = {n}), so where "
        "the untrained SAE shows the same fall, the fall says nothing about what was learned."
    )
    return sentences


def _changes(result: Result, ends: Sequence[tuple[int, int]], arm: str) -> list[str]:
    values = [cell["scores"][arm][METRIC]["per_seed"] for cell in result["cells"]]
    differences = [
        [b - a for a, b in zip(values[worst], values[best], strict=True)] for worst, best in ends
    ]
    resolution = resolution_of(chain.from_iterable(values))
    return [
        f"{_verb(cell)} ({signed(cell['mean'])} [{signed(cell['low'])}, {signed(cell['high'])}])"
        for cell in compare(differences, [resolution] * len(ends))
    ]


def _verb(cell: Mapping[str, float | bool]) -> str:
    if not cell["clear"]:
        return "no clear change"
    return "a clear fall" if cell["mean"] < 0 else "a clear rise"


def _condition(result: Result, panel: str, number: int) -> str:
    facts = result["cells"][number]
    return {
        "sparsity": f"S = {facts['sparsity']:g}",
        "activation": facts["activation"],
        "width": f"d_sae = {facts['d_sae']}",
    }[panel]


FIG2 = Experiment(
    name="fig2",
    title="Average activated features under three conditions (arXiv 2506.15963, Figure 2)",
    arms=(SAE,),
    measures=(METRIC, "activated_features_live", "l_gt_scaled", "recovered", "dead"),
    sparsities=SPARSITIES,
    cells=cells,
    verdict=verdict,
)
