"""Planted defects of `wsae optimality`: what is committed is of the lines as they are."""

from __future__ import annotations

import json
from pathlib import Path

import planted
import torch

from wsae_plugin.optimality.lines import LINES

RESULT = json.loads(Path(planted.__file__).with_suffix(".json").read_text())


def test_the_result_is_of_these_lines() -> None:
    assert RESULT["thresholds"] == {name: line.above for name, line in LINES.items()}
    assert len(RESULT["seeds"]) >= 20
    again = planted.summary(RESULT["found"])
    assert {part: RESULT[part] for part in again} == again


def test_every_line_finds_its_own_defect_and_no_other() -> None:
    assert {*planted.DEFECTS} == {"none", *RESULT["detected"]}
    assert all(rate >= 0.95 for rate in RESULT["detected"].values())
    alarms = [rate for rates in RESULT["false alarms"].values() for rate in rates.values()]
    assert max(alarms) <= 0.05


def test_a_line_fires_above_its_threshold() -> None:
    quiet = dict.fromkeys(LINES, 0.0)
    loud = quiet | {"width": LINES["width"].above + 0.1}
    found = [
        {"defect": defect, "values": loud if defect == "too narrow" else quiet}
        for defect in planted.DEFECTS
    ]
    result = planted.summary(found)
    assert result["detected"]["too narrow"] == 1 and result["detected"]["too wide"] == 0
    assert not any(rate for rates in result["false alarms"].values() for rate in rates.values())


def test_the_first_world_is_drawn_again() -> None:
    torch.set_num_threads(1)
    defect, coded = next(planted.worlds(0))
    assert defect == "none" and coded.x.shape == (planted.N, planted.D)
    again = next(planted.worlds(0))[1]
    assert torch.equal(coded.x, again.x) and torch.equal(coded.atoms, again.atoms)
