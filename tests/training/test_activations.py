"""Activations outside of a training run."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch

from tests.training.tiny import BATCH, D_MODEL, TinyWorld, sae, write_config
from wsae_plugin.errors import BadInputError
from wsae_plugin.training import activations_of, load_run_config


def batches(world: TinyWorld, folder: Path, seed: int) -> torch.Tensor:
    config = load_run_config(write_config(folder / "config.yaml", world.language_model()))
    torch.manual_seed(seed)
    return torch.stack(list(islice(activations_of(config.runner_config()), 3)))


def test_batches_are_of_the_configs_shape_and_repeat(world: TinyWorld, tmp_path: Path) -> None:
    first = batches(world, tmp_path, seed=0)
    assert first.shape == (3, BATCH, D_MODEL)
    assert torch.equal(first, batches(world, tmp_path, seed=0))
    assert not torch.equal(first, batches(world, tmp_path, seed=1))


def test_the_bundled_names_are_resolved(world: TinyWorld, tmp_path: Path) -> None:
    values = world.language_model(model_name="bundled", dataset_path="bundled", sae=sae(d_in=128))
    config = load_run_config(write_config(tmp_path / "config.yaml", values))
    assert next(activations_of(config.runner_config())).shape == (BATCH, 128)


def test_errors_come_with_the_call(world: TinyWorld, tmp_path: Path) -> None:
    values = world.language_model(sae=sae(d_in=48))
    config = load_run_config(write_config(tmp_path / "config.yaml", values))
    with pytest.raises(BadInputError, match="d_in"):
        activations_of(config.runner_config())
