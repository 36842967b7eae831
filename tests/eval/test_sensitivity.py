"""What the study of the Fisher metric makes of scores, on scores whose answers are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from study import merged, parts_of
from tables import effects, pairs, pooled, rule

STUDY = Path(__file__).parents[2] / "eval" / "sensitivity"
HOOKS = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")


def scores(part: str, arm: str, factor: float, hook: str = HOOKS[0]) -> list[dict[str, Any]]:
    """The divergence of three seeds, times a factor, but for a little."""
    return [
        {"part": part, "arm": arm, "hook_name": hook, "sparsity": "k = 32", "seed": seed}
        | {"metric": "kl_divergence", "value": factor * (1 + seed) * (1 + 1e-3 * seed * factor)}
        for seed in range(3)
    ]


def test_changes_are_of_what_stands_beside() -> None:
    table = pd.DataFrame(
        [
            *scores("topk", "uniform", 1.0),
            *scores("topk", "fisher", 0.9),
            *scores("longer", "uniform", 0.8),
            *scores("zero", "zero", 1.5),
            *scores("gated", "uniform", 2.0),
            *scores("gated", "fisher", 3.0),
        ]
    )
    found = effects(table).set_index(["part", "arm"])["mean"]
    expected = {
        ("topk", "fisher"): -10,
        ("longer", "uniform"): -20,
        ("zero", "zero"): 50,
        ("zero", "fisher"): -40,
        ("gated", "fisher"): 50,
    }
    assert found.to_dict() == pytest.approx(expected, abs=0.2)
    lost = table[~((table["part"] == "gated") & (table["arm"] == "fisher") & (table["seed"] == 1))]
    with pytest.raises(ValueError, match="gated, fisher: kl_divergence is missing in some SAEs"):
        list(pairs(lost, "kl_divergence"))


def test_what_stands_beside_is_pooled_in_the_same_places() -> None:
    rows = [("topk", HOOKS[0], -2.0), ("topk", HOOKS[1], -8.0), ("beside", HOOKS[1], -3.0)]
    cells = pd.DataFrame(
        [
            cell(part, hook, 0.0, mean)
            | {"arm": "fisher", "sparsity": "k = 32", "changes": [mean - 1, mean, mean + 1]}
            for part, hook, mean in rows
        ]
    )
    found = {row["part"]: row["mean"] for row in pooled(cells)}
    assert found == {"topk": -5.0, "beside": -3.0, "topk, where beside is": -8.0}


def cell(part: str, hook: str, predicted: float, mean: float) -> dict[str, Any]:
    found = {"part": part, "hook_name": hook, "predicted": predicted, "mean": mean}
    return found | {"low": mean - 1, "high": mean + 1, "clear": False}


def test_the_rule_is_the_line_of_the_fitted_cells_alone() -> None:
    cells = pd.DataFrame(
        [
            *(cell("topk", hook, x, 2 * x + 10) for hook in HOOKS for x in (-20.0, -10.0, -5.0)),
            cell("outputs", "blocks.1.hook_mlp_out", -15.0, -18.0),
            cell("gated", HOOKS[0], -20.0, 4.0),
        ]
    )
    found = rule(cells)
    assert (found["slope"], found["intercept"]) == pytest.approx((2, 10))
    assert found["of"]["fitted: topk"]["rms_error"] == pytest.approx(0, abs=1e-9)
    assert found["of"]["other hooks: outputs"]["rms_error"] == pytest.approx(2)
    gated = found["of"]["other architectures, same hooks"]
    assert gated["rms_error"] == pytest.approx(34)
    assert (gated["yes"]["cells"], gated["yes"]["interval_above_0"]) == (1, 1)
    assert found["of"]["each layer, fitted without it"]["cells"] == 7


def test_a_part_for_each_learning_rate_that_its_arms_have() -> None:
    plan = yaml.safe_load((STUDY / "study.yaml").read_text(encoding="utf-8"))
    rates = {name: {"uniform": 0.008, "fisher": 0.004} for name in plan["architectures"]}
    found = dict(parts_of(plan, rates))
    assert {"topk-0p004", "topk-0p008", "jumprelu-0p008", "longer-0p008"} <= set(found)
    assert "jumprelu-0p004" not in found  # L0 is matched at one rate
    assert found["topk-0p004"]["sparsity"] == {"k": [16, 32, 64]}
    assert list(found["beside-0p004"]["arms"]) == ["kl", "both", "end-to-end"]
    assert merged({"a": {"b": 1}, "arms": {"x": 1}}, {"a": {"c": 2}, "arms": {"y": 2}}) == {
        "a": {"b": 1, "c": 2},
        "arms": {"y": 2},
    }
