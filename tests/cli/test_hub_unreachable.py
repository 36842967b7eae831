"""Without the Hub: one line that says so, in bounded time, and nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.training.tiny import sae, write_config


def refused(command: str, values: dict[str, Any], folder: Path) -> str:
    """The last line that a command with an empty cache and without a network says."""
    config = write_config(folder / "config.yaml", values)
    code = "import sys; sys.argv[0] = 'wsae'; from wsae_plugin.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, "-q", command, str(config)],
        cwd=folder,
        env=os.environ
        | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
        | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not (folder / "runs").exists()
    return done.stderr.splitlines()[-1]


VALUES: dict[str, Any] = {
    "model_name": "bundled",
    "dataset_path": "bundled",
    "n_batches_in_buffer": 64,
    "training_tokens": 10_000,
}


@pytest.mark.parametrize(
    ("field", "name", "d_in"),
    [("model_name", "pythia-70m-deduped", 512), ("dataset_path", "NeelNanda/pile-10k", 128)],
)
def test_a_training(field: str, name: str, d_in: int, tmp_path: Path) -> None:
    own = {"hook_name": "blocks.1.hook_resid_post", "sae": sae(d_in=d_in), field: name}
    assert f"{field} = '{name}'" in refused("train", VALUES | own, tmp_path)


def test_a_comparison(tmp_path: Path) -> None:
    own = {
        "hooks": ["blocks.1.hook_resid_post"],
        "sae": sae(d_in=128),
        "seeds": [0],
        "baseline": "plain",
        "arms": {"plain": {"alpha": 0}},
        "dataset_path": "NeelNanda/pile-10k",
    }
    assert "dataset_path = 'NeelNanda/pile-10k'" in refused("compare", VALUES | own, tmp_path)
