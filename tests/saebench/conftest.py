"""Runs of a bundled-model SAE small enough to be measured in seconds; SAEBench's own environment.

Outside the environment of `make saebench` the tests that need SAEBench are not collected.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from sae_lens import SAE

D_SAE = 64
LAYER = 1

if importlib.util.find_spec("sae_bench") is None:
    collect_ignore = [
        *("test_bench.py", "test_data.py", "test_hostile.py", "test_judge.py"),
        "test_own_scripts.py",
    ]
else:
    # Here alone: it holds for the whole process, and tests of publishing speak to a Hub.
    os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_run(folder: Path, seed: int = 0, hook: str | None = None, **metadata: object) -> Path:
    """A run folder with an SAE of random weights, as `wsae train` lays one out."""
    hook = hook or f"blocks.{LAYER}.hook_resid_post"
    torch.manual_seed(seed)
    sae = SAE.from_dict(
        {
            "architecture": "topk",
            "d_in": 128,
            "d_sae": D_SAE,
            "k": 8,
            "rescale_acts_by_decoder_norm": True,
            "dtype": "float32",
            "device": "cpu",
            "metadata": {
                "model_name": "bundled/python-neox",
                "model_class_name": "HookedTransformer",
                "hook_name": hook,
                "context_size": 64,
                **metadata,
            },
        }
    )
    decoder = torch.randn(D_SAE, 128) * 0.3
    sae.W_dec.data = decoder
    sae.W_enc.data = decoder.T.contiguous().clone()
    folder.mkdir(parents=True)
    sae.save_model(folder / "sae")
    (folder / "config.yaml").write_text(f"hook_name: {hook}\nseed: {seed}\n")
    return folder


def make_comparison(folder: Path) -> Path:
    """A comparison folder of a baseline and a weighted SAE."""
    arms = {"sae": "baseline", "alpha-1": "weighted"}
    hook = f"blocks.{LAYER}.hook_resid_post"
    for seed, arm in enumerate(arms):
        make_run(folder / "runs" / arm, seed=seed)
    manifest = {
        "comparison": 1,
        "status": "finished",
        "model_name": "bundled/python-neox",
        "model_class_name": "HookedTransformer",
        "dataset_path": "bundled",
        "context_size": 64,
        "seeds": [0],
        "baseline": "sae",
        "arms": [
            {"name": arm, "label": arm, "role": role, "alpha": float(i), "proxy": "variance"}
            for i, (arm, role) in enumerate(arms.items())
        ],
        "runs": [
            {
                "run": arm,
                "path": f"runs/{arm}",
                "arm": arm,
                "role": role,
                "hook_name": hook,
                "layer": LAYER,
                "sparsity": {"k": 8},
                "seed": 0,
                "pair": "only",
            }
            for arm, role in arms.items()
        ],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def comparison(tmp_path: Path) -> Path:
    return make_comparison(tmp_path / "comparison")


@pytest.fixture
def in_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory is a user's repository with one commit."""
    repository = tmp_path / "repository"
    repository.mkdir()
    for command in (
        ["git", "init", "-q"],
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "--allow-empty"]
        + ["-m", "first"],
    ):
        subprocess.run(command, cwd=repository, check=True)
    monkeypatch.chdir(repository)
    return repository
