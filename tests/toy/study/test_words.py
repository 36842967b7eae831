"""The verdict of a toy study, from comparisons that are made up."""

from __future__ import annotations

from typing import Any

import pytest

from wsae_plugin.toy.study import ToySettings, fig2
from wsae_plugin.toy.study.cells import Condition
from wsae_plugin.toy.study.words import in_three_sentences

ARMS = [
    {"name": "sae", "role": "baseline", "treatment": "weights"},
    {"name": "wsae", "role": "weighted", "treatment": "weights"},
    {"name": "literal", "role": "weighted", "treatment": "literal"},
    {"name": "shuffled", "role": "control", "treatment": "shuffled"},
    {"name": "opposite", "role": "control", "treatment": "weights"},
]
N_CELLS = 4


def told(clear: dict[tuple[str, str], list[float]]) -> list[str]:
    """The three sentences where (arm, measure) has these clear differences, and no others."""
    rows: list[dict[str, Any]] = []
    for arm in ARMS[1:]:
        for measure in ("l_gt", "reconstruction_error"):
            means = clear.get((arm["name"], measure), [])
            for cell in range(N_CELLS):
                is_clear = cell < len(means)
                mean = means[cell] if is_clear else -1.0
                at = {"arm": arm["name"], "measure": measure, "cell": cell}
                rows.append({**at, "mean": mean, "clear": is_clear})
    result = {"arms": ARMS, "cells": [{}] * N_CELLS, "comparisons": rows}
    return in_three_sentences(result | {"settings": {"n_seeds": 8}}, "l_gt", "L_GT")


@pytest.mark.parametrize(
    ("wsae", "literal", "expected"),
    [
        ([], [], "Weighting changes nothing clearly: "),
        (
            [-1.0],
            [],
            "Weighting mostly changes nothing clearly, and helps more often than it harms ",
        ),
        (
            [1.0],
            [],
            "Weighting mostly changes nothing clearly, and harms more often than it helps ",
        ),
        ([-1.0, 1.0, 1.0], [1.0], "Weighting harms more often than it helps: "),
        ([-1.0, -1.0, 1.0], [-1.0], "Weighting helps more often than it harms: "),
        ([-1.0, -1.0, 1.0, 1.0], [], "Weighting helps as often as it harms: "),
    ],
)
def test_the_first_sentence_follows_the_counts(
    wsae: list[float], literal: list[float], expected: str
) -> None:
    (first, *_) = told({("wsae", "l_gt"): wsae, ("literal", "l_gt"): literal})
    lower, higher = (sum(sign * mean > 0 for mean in wsae + literal) for sign in (-1, 1))
    assert first.startswith(expected)
    counted = (
        f"SAE's in {lower} and clearly higher in {higher} of 8 comparisons, each over 8 seeds."
    )
    assert first.endswith(counted)


def test_controls_and_cost_are_counted_apart() -> None:
    _, controls, cost = told(
        {
            ("shuffled", "l_gt"): [-1.0, 1.0, 1.0],
            ("opposite", "l_gt"): [1.0],
            ("wsae", "reconstruction_error"): [1.0, 1.0],
            ("literal", "reconstruction_error"): [-1.0],
            ("shuffled", "reconstruction_error"): [1.0] * 4,
        }
    )
    assert controls == (
        "The same counts of the controls: shuffled weights 1 and 2 of 4; "
        "the opposite α or even weights 0 and 1 of 4."
    )
    assert cost.endswith("error is clearly lower in 1 and clearly higher in 2 of 8 comparisons.")


def test_figure_2_counts_falls_before_and_after_training() -> None:
    settings = ToySettings(n_features=8, d_in=4)

    def scores(cell: Condition) -> dict[str, Any]:
        # Narrower SAEs have more features a latent, trained or not; without σ, once trained. That
        # sparser data have more is no fall.
        untrained = 2.0 + (cell.d_sae < 8) + (cell.sparsity > 0.9)
        trained = untrained + (cell.activation.label == "none")
        levels = {"sae": trained, "untrained": untrained}
        seeds = (0.01, -0.01, 0.02, -0.02)
        return {
            arm: {fig2.METRIC: {"per_seed": [n + x for x in seeds]}} for arm, n in levels.items()
        }

    cells = [{"scores": scores(cell)} for cell in fig2.cells(settings)]
    first, second, third = fig2.verdict({"cells": cells, "settings": vars(settings)})
    assert first.endswith("trained SAE clearly fall in 4 of 6 panels, tied and untied.")
    assert second.endswith("before any training clearly fall in 2 of them.")
    assert "cannot exceed 2n/d_sae (2 at d_sae = n = 8)" in third
