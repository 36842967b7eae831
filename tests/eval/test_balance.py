"""The study of what α does to the balance with a sparsity penalty."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

STUDY = Path(__file__).parents[2] / "eval" / "balance"


@pytest.mark.slow
def test_a_small_run_has_the_rows_of_the_committed_one(tmp_path: Path) -> None:
    output = tmp_path / "balance.json"
    options = ["--seeds=1", "--tokens=15360", "--batches=2", f"--output={output}"]
    command = [sys.executable, str(STUDY / "balance.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found, committed = (
        json.loads(path.read_text())["results"] for path in (output, STUDY / "balance.json")
    )
    arm = ("architecture", "normalization", "alpha", "clip", "seed")
    assert [[row[name] for name in arm] for row in found] == [
        [row[name] for name in arm] for row in committed if row["seed"] == 0
    ]
    assert len(found) == 4 * (1 + 2 * 4)
    for row in found:
        assert row["l0"] == 16 or row["architecture"] != "weighted_topk"
        assert row["explained_variance_of_the_others"] < row["explained_variance"]
