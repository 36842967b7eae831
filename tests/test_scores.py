"""The scores of one SAE: one schema, one reader, one writer."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from wsae_plugin.errors import BadInputError
from wsae_plugin.scores import Score, ScoreFile, read_scores


def score(**fields: Any) -> Score:
    own = {"eval": "held_out", "metric": "l0", "label": "L0", "value": 3.0, "direction": "none"}
    return Score(**own | fields)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_null_with_the_reason(value: float) -> None:
    for note, expected in (("of latents", "not finite; of latents"), ("", "not finite")):
        found = score(value=value, chance=value, control=value, spread=value, note=note)
        json.dumps(found.model_dump(), allow_nan=False)
        assert found.note == expected
        assert [found.value, found.chance, found.control, found.spread] == [None] * 4


def test_a_score() -> None:
    assert score(headline=True, spread=0.5).model_dump() == {
        "eval": "held_out",
        "metric": "l0",
        "label": "L0",
        "value": 3.0,
        "direction": "none",
        "headline": True,
        "unit": "",
        "chance": None,
        "control": None,
        "noise": None,
        "spread": 0.5,
        "note": "",
        "definition": "",
    }


def test_what_is_written_is_read(tmp_path: Path) -> None:
    scores = ScoreFile(
        run="mine",
        scores=[score()],
        per_batch={"l0": [1.0, math.nan]},
        settings={"seed": 1},  # type: ignore[call-arg]
    )
    document = scores.write(tmp_path, "held_out")
    assert json.loads((tmp_path / "scores" / "held_out.json").read_text()) == document
    assert document["per_batch"] == {"l0": [1.0, None]}
    (found,) = read_scores(tmp_path, "mine").values()
    assert found.model_dump() == document
    assert read_scores(tmp_path / "nothing", "mine") == {}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"run": "another"}, "run = 'another': must be 'mine'"),
        ({"scores_version": 2}, "scores_version: "),
        ({"scores": [{}]}, "scores.0.eval: Field required"),
        ({"scores": [score().model_dump() | {"value": "x"}]}, "scores.0.value: "),
        ({"scores": [score().model_dump() | {"direction": "sideways"}]}, "scores.0.direction: "),
        ({"scores": [1]}, "scores.0: "),
        ({"per_batch": 1}, "per_batch: "),
        ({"scores": 2 * [score().model_dump()]}, ".*there more than once"),
    ],
)
def test_what_is_broken_is_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    document = ScoreFile(run="mine", scores=[score()]).write(tmp_path, "held_out")
    file = tmp_path / "scores" / "held_out.json"
    file.write_text(json.dumps(document | changes))
    with pytest.raises(BadInputError, match=f"held_out.json: {said}.*run `wsae eval` again"):
        read_scores(tmp_path, "mine")
