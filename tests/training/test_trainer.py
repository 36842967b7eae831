"""`WeightedSAETrainer` in place of SAELens's trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import TrainingSAE
from sae_lens.training.optim import get_lr_scheduler
from sae_lens.training.sae_trainer import SAETrainer

from tests.architectures import ARCHITECTURES, Architecture, batches, trainer
from wsae_plugin import WeightedSAETrainer
from wsae_plugin.training.fused_adam import FusedAdam
from wsae_plugin.training.trainer import learning_rate_times

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


@pytest.mark.parametrize("optimizer_class", [FusedAdam, torch.optim.Adam, torch.optim.SGD])
@pytest.mark.parametrize("schedule", ["constant", "cosineannealing"])
def test_steps_at_another_rate_leave_the_schedule_alone(
    optimizer_class: Any, schedule: str
) -> None:
    def trained(factors: list[float], rate: float) -> tuple[torch.Tensor, list[float]]:
        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = optimizer_class([weight], lr=rate)
        schedule_of = get_lr_scheduler(
            schedule,
            lr=rate,
            optimizer=optimizer,
            warm_up_steps=1,
            decay_steps=2,
            training_steps=6,
            lr_end=rate / 10,
            num_cycles=1,
        )
        rates: list[float] = []
        for factor in factors:
            weight.grad = torch.tensor([1.0, 2.0, 3.0])
            with learning_rate_times(factor, optimizer):
                optimizer.step()
            schedule_of.step()
            rates += schedule_of.get_last_lr()
        return weight.detach(), rates

    as_it_is, rates = trained([1.0] * 5, rate=0.1)
    slower, its_rates = trained([0.5] * 5, rate=0.1)
    expected, _ = trained([1.0] * 5, rate=0.05)
    torch.testing.assert_close(slower, expected)
    assert its_rates == pytest.approx(rates, rel=1e-12)
    assert not torch.allclose(slower, as_it_is)
