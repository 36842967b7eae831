"""`WeightedSAETrainer` in place of SAELens's trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import TrainingSAE
from sae_lens.training.sae_trainer import SAETrainer

from tests.architectures import ARCHITECTURES, Architecture, batches, trainer
from wsae_plugin import WeightedSAETrainer

every_architecture = pytest.mark.parametrize("arch", ARCHITECTURES, ids=lambda a: a.name)


def run(
    trainer_class: type[SAETrainer[Any, Any]], sae: TrainingSAE[Any], steps: int = 10
) -> SAETrainer[Any, Any]:
    cfg = trainer(sae, steps=steps).cfg
    cfg.lr_scheduler_name, cfg.lr_warm_up_steps, cfg.lr_decay_steps = "cosineannealing", 3, 2
    cfg.lr_end = cfg.lr / 10
    cfg.adam_beta1, cfg.adam_beta2 = 0.5, 0.9  # not Adam's own defaults
    return trainer_class(cfg=cfg, sae=sae, data_provider=batches())


def assert_close(a: TrainingSAE[Any], b: TrainingSAE[Any]) -> None:
    for name, tensor in a.state_dict().items():
        torch.testing.assert_close(b.state_dict()[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


@every_architecture
@pytest.mark.parametrize("plain", [True, False])
def test_the_same_numbers_as_saelens(arch: Architecture, plain: bool) -> None:
    build = arch.parent if plain else arch.weighted
    expected, ours = build(), build()
    first, second = run(SAETrainer, expected), run(WeightedSAETrainer, ours)
    first.fit()
    second.fit()
    assert_close(expected, ours)
    assert second.lr_scheduler.get_last_lr() == first.lr_scheduler.get_last_lr()


@pytest.mark.parametrize("first_class", [SAETrainer, WeightedSAETrainer])
@pytest.mark.parametrize("second_class", [SAETrainer, WeightedSAETrainer])
@pytest.mark.parametrize("kernels", [("eager", "cpu"), ("cpu", "eager"), ("cpu", "cpu")])
def test_each_goes_on_from_the_others_checkpoint(
    first_class: type[SAETrainer[Any, Any]],
    second_class: type[SAETrainer[Any, Any]],
    kernels: tuple[str, str],
    tmp_path: Path,
) -> None:
    arch = ARCHITECTURES[3]
    whole = arch.weighted(kernel="eager")
    run(SAETrainer, whole, steps=10).fit()

    def go(cls: type[SAETrainer[Any, Any]], kernel: str, first: int, n: int) -> Any:
        part = run(cls, arch.weighted(kernel=kernel))
        if first:
            part.load_trainer_state(tmp_path)
            part.sae.load_weights_from_checkpoint(tmp_path)
        stream = batches(first)
        for _ in range(n):
            part.step(next(stream))
            part.n_training_steps += 1
        return part

    before = go(first_class, kernels[0], 0, 6)
    before.sae.save_model(tmp_path)
    before.save_trainer_state(tmp_path)
    after = go(second_class, kernels[1], 6, 4)
    assert_close(whole, after.sae)
