"""Without the Hub: one line that says so, in bounded time, and nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.tiny import sae, write_config


@pytest.mark.parametrize(
    ("field", "name", "d_in"),
    [("model_name", "pythia-70m-deduped", 512), ("dataset_path", "NeelNanda/pile-10k", 128)],
)
def test_offline_with_an_empty_cache(field: str, name: str, d_in: int, tmp_path: Path) -> None:
    values = {
        "model_name": "bundled",
        "dataset_path": "bundled",
        "hook_name": "blocks.1.hook_resid_post",
        "sae": sae(d_in=d_in),
        "n_batches_in_buffer": 64,
        "training_tokens": 10_000,
    }
    config = write_config(tmp_path / "config.yaml", values | {field: name})
    code = "import sys; sys.argv[0] = 'wsae'; from wsae_plugin.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, "-q", "train", str(config)],
        cwd=tmp_path,
        env=os.environ
        | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
        | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 2
    *_, last = done.stderr.splitlines()
    assert f"{field} = '{name}'" in last and "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
