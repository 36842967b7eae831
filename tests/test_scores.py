"""The scores of one SAE: one schema, one reader, one writer."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from wsae_plugin.errors import BadInputError
from wsae_plugin.scores import OptimalityFile, Score, ScoreFile, read_scores


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


LINE = {"name": "l0", "value": 3.0, "interval": 0.1, "control": None, "action": "widen"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lines": None}, "lines: "),
        ({"lines": [1]}, "lines.0: "),
        ({"lines": [{**LINE, "value": "much"}]}, "lines.0.value: "),
        ({"lines": [{**LINE, "interval": [1]}]}, "lines.0.interval: "),
        ({"lines": [LINE, {**LINE, "name": 3}]}, "lines.1.name: "),
        (
            {"lines": [{n: v for n, v in LINE.items() if n != "action"}]},
            "lines.0.action: Field req",
        ),
        ({"lines": [{**LINE, "action": 1}]}, "lines.0.action: "),
        ({"lines": [{**LINE, "action": "x" * 301}]}, "lines.0.action: "),
        ({"lines": [{**LINE, "name": "another"}]}, ".*lines: 'another': no score of optimality"),
        ({"lines": [{**LINE, "name": "x" * 10_000}]}, ".*lines: 'x{79}: no score"),
        ({"duality_gap": "small"}, "duality_gap: "),
        ({"duality_gap": -1.0}, "duality_gap: "),
        ({"penalty": None}, "penalty: "),
        ({"samples": 0}, "samples: "),
        ({"samples": True}, "samples: "),
        ({"settings": {"dataset": "x"}}, "settings.penalty: Field required"),
    ],
)
def test_what_is_broken_of_optimality_is_named(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    document = OptimalityFile.model_validate(
        {
            **{"run": "mine", "scores": [score(eval="optimality")], "lines": [LINE]},
            **{"samples": 9, "penalty": 0.5, "duality_gap": 0.0},
            "settings": {"dataset": "a text", "penalty": None},
        }
    ).write(tmp_path, "optimality")
    (found,) = read_scores(tmp_path, "mine").values()
    assert found.model_dump() == document
    file = tmp_path / "scores" / "optimality.json"
    file.write_text(json.dumps(document | changes))
    with pytest.raises(BadInputError, match=f"optimality.json: {said}.*`wsae optimality` again"):
        read_scores(tmp_path, "mine")
    file.write_text(json.dumps(document | {"duality_gap": math.nan}))
    with pytest.raises(BadInputError, match=r"optimality.json: .*NaN is no JSON"):
        read_scores(tmp_path, "mine")
