"""One SAE of the recovery study: SAELens's trainer on one world, measured on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from sae_lens import LoggingConfig, TrainingSAE
from sae_lens.config import SAETrainerConfig
from torch import Tensor

from wsae_plugin.saes.gba import GBATrainingSAE
from wsae_plugin.saes.gba_rule import groups_of_latents, target_frequencies
from wsae_plugin.toy.metrics import best_matches, explained_variance, feature_recovery_rate
from wsae_plugin.toy.recovery.arms import RecoveryArm
from wsae_plugin.toy.recovery.settings import RecoverySettings
from wsae_plugin.toy.worlds import World
from wsae_plugin.training.trainer import WeightedSAETrainer

THRESHOLDS = (0.8, 0.9)
CURVE = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98)
_SAMPLES_AT_A_TIME = 1000


@dataclass(frozen=True)
class Trained:
    """What one training left.

    Attributes:
        record: history and measures, plain values for JSON.
        tensors: `W_dec` (d_sae, d_in); `frequency`, the share of held-out samples each latent fired
            on, (d_sae,); `target`, what its group may fire on, (d_sae,), NaN where nothing is aimed
            for.
    """

    record: dict[str, Any]
    tensors: dict[str, Tensor]


def train(
    arm: RecoveryArm, world: World, lr: float, seed: int, settings: RecoverySettings
) -> Trained:
    """Train and measure; the same arguments give the same numbers on the same machine.

    All arms of a seed see the same samples in the same order.
    """
    pool = _pool(world, seed, settings.pool_size)
    samples = batches(pool, seed, settings.batch_size)
    torch.manual_seed(seed)
    sae = arm.make(settings.d_in, settings.d_sae, seed)
    trainer = WeightedSAETrainer(
        cfg=constant_rate(lr, settings.batch_size), sae=sae, data_provider=samples
    )
    # SAELens's "expected_average_only_in", of the whole pool where SAELens takes some batches.
    scale = settings.d_in**0.5 / float(pool.norm(dim=-1).mean())
    trainer.activation_scaler.scaling_factor = scale
    every = settings.n_steps // settings.n_snapshots
    history: list[dict[str, float]] = []
    for step in range(1, settings.n_steps + 1):
        output = trainer.step(next(samples))
        trainer.n_training_steps += 1
        if step % every == 0:
            l0 = (output.feature_acts.to_dense() != 0).float().sum(dim=-1).mean()
            history.append({"step": step, "l0": float(l0), **recovery(sae, world, THRESHOLDS)})
    sae.fold_activation_norm_scaling_factor(scale)
    measured, frequency = measure(sae, world, seed, settings)
    tensors = {
        "W_dec": sae.W_dec.detach().clone(),
        "frequency": frequency,
        "target": targets(sae),
    }
    return Trained({"history": history, **measured}, tensors)


def constant_rate(lr: float, batch_size: int) -> SAETrainerConfig:
    """SAELens's trainer without a schedule, resampling, checkpoints or an end."""
    return SAETrainerConfig(
        n_checkpoints=0,
        checkpoint_path=None,
        save_final_checkpoint=False,
        total_training_samples=10**9,
        device="cpu",
        autocast=False,
        lr=lr,
        lr_end=lr,
        lr_scheduler_name="constant",
        lr_warm_up_steps=0,
        adam_beta1=0.9,
        adam_beta2=0.999,
        lr_decay_steps=0,
        n_restart_cycles=1,
        train_batch_size_samples=batch_size,
        dead_feature_window=1000,
        feature_sampling_window=2000,
        logger=LoggingConfig(log_to_wandb=False),
        n_batches_for_norm_estimate=1,
    )


def batches(pool: Tensor, seed: int, batch_size: int) -> Iterator[Tensor]:
    """Batches (batch_size, d_in), drawn with replacement from a pool (n_samples, d_in)."""
    generator = torch.Generator().manual_seed(2000 + seed)
    while True:
        yield pool[torch.randint(len(pool), (batch_size,), generator=generator)]


def recovery(
    sae: TrainingSAE[Any], world: World, thresholds: tuple[float, ...]
) -> dict[str, float]:
    """`frr_<τ>` of the decoder's rows."""
    return {
        f"frr_{threshold:g}": feature_recovery_rate(sae.W_dec, world.feature_vectors, threshold)
        for threshold in thresholds
    }


@torch.no_grad()
def measure(
    sae: TrainingSAE[Any], world: World, seed: int, settings: RecoverySettings
) -> tuple[dict[str, float], Tensor]:
    """Measures on samples that no training has seen, and how often each latent fired.

    Returns:
        `frr_<τ>`; `explained_variance`; `l0`; `dead`, the share of latents that never fired;
        `latents_that_are_features`, the share of those that fired whose decoder row has a cosine of
        at least 0.9 with some feature; and the frequencies, shape (d_sae,).
    """
    sae.eval()
    _, x = world.sample(settings.n_held_out, torch.Generator().manual_seed(3000 + seed))
    # Bit by bit: (n_held_out, d_sae) may not fit into memory.
    outputs = [
        (acts, sae.decode(acts))
        for acts in (sae.encode(chunk) for chunk in x.split(_SAMPLES_AT_A_TIME))
    ]
    firings = torch.stack([(acts != 0).sum(dim=0) for acts, _ in outputs]).sum(dim=0)
    live = firings > 0
    closest, _ = best_matches(sae.W_dec[live], world.feature_vectors)
    measures = {
        **recovery(sae, world, CURVE),
        "explained_variance": explained_variance(torch.cat([out for _, out in outputs]), x),
        "l0": float(firings.sum() / len(x)),
        "dead": float((~live).double().mean()),
        "latents_that_are_features": float((closest >= 0.9).double().mean()) if live.any() else 0.0,
    }
    return measures, firings.float() / len(x)


def targets(sae: TrainingSAE[Any]) -> Tensor:
    """The target frequency of each latent, shape (d_sae,); NaN where nothing is aimed for."""
    if type(sae) is not GBATrainingSAE:
        return torch.full((sae.cfg.d_sae,), torch.nan)
    cfg = sae.cfg
    aims = target_frequencies(
        cfg.n_groups, cfg.highest_target_frequency, cfg.lowest_target_frequency
    )
    return aims[groups_of_latents(cfg.d_sae, cfg.n_groups)].float()


@lru_cache(maxsize=2)
def _pool(world: World, seed: int, size: int) -> Tensor:
    return world.sample(size, torch.Generator().manual_seed(1000 + seed))[1]
