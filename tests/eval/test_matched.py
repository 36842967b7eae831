"""The benchmark of matched training runs, and its units are whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "eval" / "perf" / "matched.py"


@pytest.mark.slow
def test_a_small_run(tmp_path: Path) -> None:
    output = tmp_path / "matched.json"
    command = [sys.executable, str(SCRIPT), "--pairs=2", f"--output={output}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert (result["arms"], result["pairs"]) == (["sae", "alpha-half", "alpha-1"], 2)
    # 4,096 fresh tokens fill half of the buffer: two forward passes, eight steps.
    assert result["unit"] == {"n_forward": 2, "n_steps": 8}
    times = result["median_cpu_s"]
    assert times["steps"] < times["matched"]
    assert result["three_runs_at_least"] > 1
