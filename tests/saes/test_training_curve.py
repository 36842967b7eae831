"""200 steps on activations of the bundled model: the sparse step learns what SAELens's learns."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig, TrainingSAE
from sae_lens.training.sae_trainer import SAETrainer

from tests.architectures import trainer
from wsae_plugin import (
    WeightedSAETrainer,
    WeightedTopKTrainingSAE,
    WeightedTopKTrainingSAEConfig,
)
from wsae_plugin.training import activations_of, load_run_config

STEPS = 200
CONFIG = Path(__file__).parents[2] / "configs" / "bundled" / "topk.yaml"


def curve(
    sae: TrainingSAE[Any], trainer_class: type[SAETrainer[Any, Any]], batches: list[torch.Tensor]
) -> torch.Tensor:
    cfg = trainer(sae, steps=STEPS, lr=1e-3).cfg
    cfg.dead_feature_window = 20
    run = trainer_class(cfg=cfg, sae=sae, data_provider=iter(()))
    losses: list[torch.Tensor] = []
    for batch in batches:
        losses.append(run.step(batch).loss.detach())
        run.n_training_steps += 1
    return torch.stack(losses)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["cpu", "auto"])
def test_the_same_training_curve(kernel: str) -> None:
    fields: dict[str, Any] = {"d_in": 128, "d_sae": 1024, "k": 16}
    torch.manual_seed(0)
    batches = list(islice(activations_of(load_run_config(CONFIG).runner_config()), STEPS))
    torch.manual_seed(0)
    expected = curve(TopKTrainingSAE(TopKTrainingSAEConfig(**fields)), SAETrainer, batches)
    torch.manual_seed(0)
    cfg = WeightedTopKTrainingSAEConfig(**fields, alpha=0.0, kernel=kernel)
    ours = curve(WeightedTopKTrainingSAE(cfg), WeightedSAETrainer, batches)
    torch.testing.assert_close(ours, expected, rtol=0.01, atol=0)
    assert expected[-20:].mean() < 0.7 * expected[:3].mean()
