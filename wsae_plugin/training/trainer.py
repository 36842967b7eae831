"""SAELens's trainer with a faster optimizer."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from sae_lens.saes.sae import TrainStepOutput
from sae_lens.training.optim import get_lr_scheduler
from sae_lens.training.sae_trainer import SAETrainer

from wsae_plugin.distributed.shards import Shards
from wsae_plugin.training.fused_adam import FUSED_DEVICES, FusedAdam


class WeightedSAETrainer(SAETrainer[Any, Any]):
    """A drop-in for `SAETrainer`: the same numbers to rounding, and the same checkpoints.

    SAELens's Adam passes over the memory once for every operation; this one once for all of them.
    Any SAELens SAE can be trained with it.

    Args:
        args: As SAELens's trainer takes them.
        kwargs: As SAELens's trainer takes them.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cfg = self.cfg
        if torch.device(cfg.device).type not in FUSED_DEVICES:
            return
        self.optimizer = FusedAdam(
            self.sae.parameters(), lr=cfg.lr, betas=(cfg.adam_beta1, cfg.adam_beta2)
        )
        assert cfg.lr_end is not None  # SAELens's configs set it
        self.lr_scheduler = get_lr_scheduler(
            cfg.lr_scheduler_name,
            lr=cfg.lr,
            optimizer=self.optimizer,
            warm_up_steps=cfg.lr_warm_up_steps,
            decay_steps=cfg.lr_decay_steps,
            training_steps=cfg.total_training_steps,
            lr_end=cfg.lr_end,
            num_cycles=cfg.n_restart_cycles,
        )

    @torch.no_grad()
    def over_all_latents(self, output: TrainStepOutput) -> dict[str, float]:
        """What SAELens logs of latents, where other processes have some of them."""
        shards: Shards = getattr(self.sae, "shards", Shards())
        if shards.size == 1:
            return {}
        n_active = output.feature_acts.bool().float().sum(-1).to_dense().mean()
        passes, dead = self.n_forward_passes_since_fired, self.dead_neurons
        sums = torch.stack([n_active, dead.sum(), passes.sum(), passes.new_tensor(len(passes))])
        l0, n_dead, n_passes, n = shards.sum_of_counts(sums).tolist()
        return {
            "metrics/l0": l0,
            "sparsity/dead_features": n_dead,
            "sparsity/mean_passes_since_fired": n_passes / n,
        }


@contextmanager
def learning_rate_times(factor: float, optimizer: torch.optim.Optimizer) -> Generator[None]:
    """Make the optimizer's steps inside with another learning rate, of which its schedule knows
    nothing."""

    def scaling(by: float) -> Callable[..., None]:
        def scale(*_: object) -> None:
            for group in optimizer.param_groups:
                group["lr"] *= by

        return scale

    hooks = (
        optimizer.register_step_pre_hook(scaling(factor)),
        optimizer.register_step_post_hook(scaling(1 / factor)),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
