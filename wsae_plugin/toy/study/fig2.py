"""Figure 2 of arXiv 2506.15963: what a single feature activates, under three conditions.

The paper varies sparsity, activation and width, the others at their best, and counts how many
features activate each latent. With Top-k and no biases this count cannot exceed k · n / d_sae,
trained or not: the SAE before training is the control that tells learning from arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from wsae_plugin.statistics import compare, resolution_of
from wsae_plugin.toy.batched.activation import NO_ACTIVATION, jump_relu, top_k
from wsae_plugin.toy.study.arms import SAE
from wsae_plugin.toy.study.cells import Condition, figure_study
from wsae_plugin.toy.study.settings import ToySettings
from wsae_plugin.toy.study.study import Result
from wsae_plugin.toy.study.words import score, signed

SPARSITIES = (0.3, 0.5, 0.7, 0.9, 0.95, 0.99)
ACTIVATIONS = (NO_ACTIVATION, jump_relu(0.1), top_k(2))
BEST, TOP = SPARSITIES[-1], ACTIVATIONS[-1]
METRIC = "activated_features"


def widths(settings: ToySettings) -> list[int]:
    """Go from d_in to n_features: 20, 40, 80, 120, 160, 200 at the paper's size."""
    room = settings.n_features - settings.d_in
    return sorted({settings.d_in + round(room * ninths / 9) for ninths in (0, 1, 3, 5, 7, 9)})


def _panels(settings: ToySettings, tied: bool) -> dict[str, list[Condition]]:
    n = settings.n_features
    varied = {
        "sparsity": [(sparsity, TOP, n) for sparsity in SPARSITIES],
        "activation": [(BEST, activation, n) for activation in ACTIVATIONS],
        "width": [(BEST, TOP, width) for width in widths(settings)],
    }
    return {
        panel: [Condition("learned", s, tied, activation, d) for s, activation, d in conditions]
        for panel, conditions in varied.items()
    }


def cells(settings: ToySettings) -> list[Condition]:
    """Three panels that share a corner, for tied and untied SAEs."""
    each = [panel for tied in (True, False) for panel in _panels(settings, tied).values()]
    return list(dict.fromkeys(chain.from_iterable(each)))


def panels(result: Result, tied: bool) -> dict[str, list[int]]:
    """Panel → its cells, from the condition said to be worst to the best."""
    settings = ToySettings(**result["settings"])
    numbers = {cell: number for number, cell in enumerate(cells(settings))}
    shown = _panels(settings, tied)
    return {panel: [numbers[cell] for cell in found] for panel, found in shown.items()}


def _ends(result: Result) -> dict[tuple[bool, str], tuple[int, int]]:
    """Tied or not, and panel → its first and its last cell."""
    return {
        (tied, name): (found[0], found[-1])
        for tied in (True, False)
        for name, found in panels(result, tied).items()
    }


def verdict(result: Result) -> list[str]:
    """How many of the three falls there are, before and after training, and the bound."""
    ends = list(_ends(result).values())
    falls = [
        sum(c["clear"] and c["mean"] < 0 for c in _compared(result, ends, arm))
        for arm in ("sae", "untrained")
    ]
    return [
        f"From the condition said to be worst to the best, the average activated features of the "
        f"trained SAE clearly fall in {falls[0]} of {len(ends)} panels, tied and untied.",
        f"Those of the same SAE before any training clearly fall in {falls[1]} of them.",
        _bound(result),
    ]


def _bound(result: Result) -> str:
    n, k = result["settings"]["n_features"], TOP.k
    return (
        f"A Top-{k} SAE without biases cannot exceed {k}n/d_sae ({k} at d_sae = n = {n}), so where "
        "the untrained SAE shows the same fall, the fall says nothing about what was learned."
    )


def evidence(result: Result) -> list[str]:
    """Each panel's two ends, trained and untrained; the six changes of either are one family."""
    ends = _ends(result)
    pairs = list(ends.values())
    trained, untrained = (_changes(result, pairs, arm) for arm in ("sae", "untrained"))
    return [
        "In brackets Student's 95 % interval over seeds. A change is clear if p < 0.05 in his "
        f"paired test after Holm's correction over the {len(ends)} panels, of the trained SAE or "
        "of the untrained one.",
        *(
            f"{'Tied' if tied else 'Untied'}, {name} ({_condition(result, name, worst)} to "
            f"{_condition(result, name, best)}): average activated features go {after}; before "
            f"any training {before}."
            for ((tied, name), (worst, best)), after, before in zip(
                ends.items(), trained, untrained, strict=True
            )
        ),
    ]


def _compared(result: Result, ends: Sequence[tuple[int, int]], arm: str) -> list[dict[str, Any]]:
    values = [cell["scores"][arm][METRIC]["per_seed"] for cell in result["cells"]]
    differences = [
        [b - a for a, b in zip(values[worst], values[best], strict=True)] for worst, best in ends
    ]
    resolution = resolution_of(chain.from_iterable(values))
    return compare(differences, [resolution] * len(ends))


def _changes(result: Result, ends: Sequence[tuple[int, int]], arm: str) -> list[str]:
    compared = _compared(result, ends, arm)
    kinds = [
        "no clear change" if not c["clear"] else f"a clear {'fall' if c['mean'] < 0 else 'rise'}"
        for c in compared
    ]
    return [
        f"from {score(result, worst, arm, METRIC)} to {score(result, best, arm, METRIC)}, {kind} "
        f"({signed(c['mean'])} [{signed(c['low'])}, {signed(c['high'])}])"
        for (worst, best), kind, c in zip(ends, kinds, compared, strict=True)
    ]


def _condition(result: Result, panel: str, number: int) -> str:
    facts = result["cells"][number]
    sparsity, width = f"S = {facts['sparsity']:g}", f"d_sae = {facts['d_sae']}"
    return {"sparsity": sparsity, "activation": facts["activation"], "width": width}[panel]


FIG2 = figure_study(
    name="fig2",
    title="Average activated features under three conditions (arXiv 2506.15963, Figure 2)",
    arms=(SAE,),
    measures=(METRIC, "activated_features_live", "l_gt_scaled", "recovered", "dead"),
    cells=cells,
    figures=("fig2",),
    verdict=verdict,
    evidence=evidence,
)
