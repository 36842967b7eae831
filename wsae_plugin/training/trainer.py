"""SAELens's trainer with a faster optimizer."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from sae_lens.training.optim import get_lr_scheduler
from sae_lens.training.sae_trainer import SAETrainer

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
