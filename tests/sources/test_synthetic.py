"""A synthetic model as a source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens.training.activation_scaler import ActivationScaler

from tests.training.tiny import BATCH, D_MODEL, TinyWorld, write_config
from wsae_plugin.sources import open_source
from wsae_plugin.training import load_run_config
from wsae_plugin.training.saes import build_saes


def opened(world: TinyWorld, folder: Path, **changes: Any) -> tuple[Any, Any]:
    """A source, and an SAE for it."""
    config = load_run_config(write_config(folder / "config.yaml", world.synthetic(**changes)))
    return open_source(config.runner_config()), build_saes(config)["sae"]


def test_its_position_is_the_state_of_torchs_generator(world: TinyWorld, tmp_path: Path) -> None:
    source, _ = opened(world, tmp_path)
    assert (set(source.d_in.values()), source.has_language_model) == ({D_MODEL}, False)
    torch.manual_seed(0)
    next(source)
    (tmp_path / "checkpoint").mkdir()
    source.save(tmp_path / "checkpoint")
    state = torch.get_rng_state()
    (expected,) = next(source).values()
    assert expected.shape == (BATCH, D_MODEL)
    again, _ = opened(world, tmp_path)
    again.load(tmp_path / "checkpoint")
    torch.set_rng_state(state)
    (found,) = next(again).values()
    assert torch.equal(found, expected)


def test_what_it_writes_beside_an_sae(world: TinyWorld, tmp_path: Path) -> None:
    source, sae = opened(world, tmp_path, save_synthetic_model=True)
    scores = source.finish(sae, tmp_path)
    assert json.loads((tmp_path / "eval_stats.json").read_text())["mcc"] == scores["final/mcc"]
    assert (tmp_path / "synthetic_model").is_dir()
    source, sae = opened(world, tmp_path, run_final_eval=False)
    (tmp_path / "none").mkdir()
    assert source.finish(sae, tmp_path / "none") == {}
    assert list((tmp_path / "none").iterdir()) == []


@pytest.mark.parametrize("frequency", [0, 5])
def test_it_measures_during_training_if_asked_to(
    world: TinyWorld, tmp_path: Path, frequency: int
) -> None:
    source, sae = opened(world, tmp_path, eval_frequency=frequency)
    scores = source.evaluate(sae, ActivationScaler())
    assert ("synthetic/mcc" in scores) == (frequency > 0)
