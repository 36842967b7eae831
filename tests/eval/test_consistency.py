"""The benchmark of the counting of classes runs, and its codes are what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "eval" / "perf" / "consistency.py"


def test_a_small_run(tmp_path: Path) -> None:
    output = tmp_path / "consistency.json"
    command = [sys.executable, str(SCRIPT), "--samples=500", "--d-sae=64", "--k=4", "--classes=3"]
    done = subprocess.run(
        [*command, "--block=200", "--rounds=1", f"--output={output}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    for kind in ("dense", "sparse"):
        measured = result[kind]
        assert measured["all_active_over_read"] > 0 and measured["both_over_read"] > 0
        low, high = measured["both_over_read_quartiles"]
        assert low <= measured["both_over_read"] <= high
