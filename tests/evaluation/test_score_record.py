"""One score of eval.json."""

from __future__ import annotations

import json
import math

import pytest

from wsae_plugin.evaluation.score_record import record


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_null_with_the_reason(value: float) -> None:
    for note, expected in (("of latents", "not finite; of latents"), ("", "not finite")):
        score = record(
            "r", "m", "label", value, "up", chance=value, control=value, spread=value, note=note
        )
        json.dumps(score, allow_nan=False)
        assert score["note"] == expected
        assert [score[key] for key in ("value", "chance", "control", "spread")] == [None] * 4


def test_a_score() -> None:
    assert record("r", "l0", "L0", 3.0, "none", headline=True, spread=0.5) == {
        "run": "r",
        "eval": "held_out",
        "metric": "l0",
        "label": "L0",
        "value": 3.0,
        "direction": "none",
        "headline": True,
        "chance": None,
        "control": None,
        "noise": None,
        "spread": 0.5,
        "note": "",
    }
