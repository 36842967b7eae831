"""The benchmark of the toy experiments' stack runs, and its ratio is that of its times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "eval" / "perf" / "toy_stack.py"


def test_a_small_run(tmp_path: Path) -> None:
    output = tmp_path / "toy_stack.json"
    command = [sys.executable, str(SCRIPT), "--rounds=1", "--saes=2", "--steps=3"]
    done = subprocess.run(
        [*command, f"--output={output}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    (one,) = result["rounds"]
    assert one["ratio"] == pytest.approx(one["one_at_a_time"] / one["stacked"])
    assert result["ratio"]["median"] == pytest.approx(one["ratio"])
