"""The benchmark of the training step runs, and its contenders do the same work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "eval" / "perf" / "train_step.py"


@pytest.mark.slow
def test_a_small_run(tmp_path: Path) -> None:
    output, plot = tmp_path / "steps.json", tmp_path / "steps.png"
    command = [sys.executable, str(SCRIPT), "--without-sparsify", "--kernel=cpu", "--rounds=1"]
    command += ["--d-in=16", "--d-sae=256", "--batch=64", "--k=8", "--memory"]
    command += ["--sweep", "--sweep-rounds=1", f"--output={output}", f"--plot={plot}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    (size,) = result["sizes"]
    ours = size["contenders"]["wsae, WeightedSAETrainer"]
    assert ours["kernel"].startswith("cpu") and ours["memory"]["added_bytes"] > 0
    assert ours["first_loss"] == pytest.approx(
        size["contenders"]["SAELens dense"]["first_loss"], rel=1e-4
    )
    assert result["sweep"].keys() == {"d_sae", "k", "batch"}
    assert plot.stat().st_size > 0
