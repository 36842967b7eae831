"""One SAE of the study of Group Bias Adaptation: SAELens's trainer on one world, and measures."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from sae_lens import TrainingSAE
from sae_lens.config import SAETrainerConfig
from sae_lens.evals import ExplainedVarianceCalculator
from torch import Tensor

from wsae_plugin.saes.gba import GBATrainingSAE
from wsae_plugin.saes.gba_rule import groups_of_latents, target_frequencies
from wsae_plugin.toy.metrics import feature_recovery_rate
from wsae_plugin.toy.study.gba_arms import Maker
from wsae_plugin.toy.study.settings import GBASettings
from wsae_plugin.toy.study.study import OnStep
from wsae_plugin.toy.worlds import World
from wsae_plugin.training.trainer import WeightedSAETrainer

THRESHOLDS = (0.8, 0.9)
CURVE = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98)
SAME = 0.9
"""A cosine at which a latent and a feature, or above which two latents, count as the same."""
_SAMPLES_AT_A_TIME = 1000


def train(
    make: Maker,
    world: World,
    lr: float,
    seed: int,
    settings: GBASettings,
    on_step: OnStep = lambda _: None,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Train and measure; the same arguments give the same numbers on the same machine.

    All arms of a seed see the same samples in the same order.

    Returns:
        A record, plain values for JSON: `history`, and the measures. And tensors: `W_dec`
        (d_sae, d_in); `frequency`, the share of held-out samples each latent fired on, (d_sae,);
        `target`, what its group may fire on, (d_sae,), NaN where nothing is aimed for.
    """
    pool = _pool(world, seed, settings.pool_size)
    samples = batches(pool, seed, settings.batch_size)
    torch.manual_seed(seed)
    sae = make(settings.d_in, settings.d_sae, seed)
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
        on_step(1)
        if step % every == 0:
            l0 = (output.feature_acts.to_dense() != 0).float().sum(dim=-1).mean()
            history.append({"step": step, "l0": float(l0), **recovery(sae, world, THRESHOLDS)})
    sae.fold_activation_norm_scaling_factor(scale)
    measured, frequency = measure(sae, world, seed, settings)
    W_dec = sae.W_dec.detach().clone()
    tensors = {"W_dec": W_dec, "frequency": frequency, "target": targets(sae)}
    return {"history": history, **measured}, tensors


def constant_rate(lr: float, batch_size: int) -> SAETrainerConfig:
    """Configure SAELens's trainer without a schedule, resampling, checkpoints or an end."""
    return SAETrainerConfig(
        total_training_samples=10**9,
        train_batch_size_samples=batch_size,
        lr=lr,
        lr_end=lr,
        n_batches_for_norm_estimate=1,
    )


def batches(pool: Tensor, seed: int, batch_size: int) -> Iterator[Tensor]:
    """Draw batches (batch_size, d_in) with replacement from a pool (n_samples, d_in)."""
    generator = torch.Generator().manual_seed(2000 + seed)
    while True:
        yield pool[torch.randint(len(pool), (batch_size,), generator=generator)]


def recovery(
    sae: TrainingSAE[Any], world: World, thresholds: tuple[float, ...]
) -> dict[str, float]:
    """Measure `frr_<τ>` of the decoder's rows."""
    vectors = world.feature_vectors
    return {f"frr_{tau:g}": feature_recovery_rate(sae.W_dec, vectors, tau) for tau in thresholds}


@torch.no_grad()
def measure(
    sae: TrainingSAE[Any], world: World, seed: int, settings: GBASettings
) -> tuple[dict[str, float], Tensor]:
    """Measure on samples that no training has seen, and count how often each latent fired.

    Returns:
        `frr_<τ>`; `explained_variance`; `l0`; `dead`, the share of latents that never fired;
        `latents_that_are_features`, the share of those that fired whose decoder row has a cosine of
        at least 0.9 with some feature; and the frequencies, shape (d_sae,).
    """
    sae.eval()
    _, x = world.sample(settings.n_held_out, torch.Generator().manual_seed(3000 + seed))
    # Bit by bit: (n_held_out, d_sae) may not fit into memory.
    acts = (sae.encode(chunk) for chunk in x.split(_SAMPLES_AT_A_TIME))
    fired, outputs = zip(*(((z != 0).sum(dim=0), sae.decode(z)) for z in acts), strict=True)
    firings = torch.stack(fired).sum(dim=0)
    live = firings > 0
    explained = ExplainedVarianceCalculator()
    explained.add_batch(torch.cat(outputs), x)
    measures = {
        **recovery(sae, world, CURVE),
        "explained_variance": explained.compute(),
        "l0": float(firings.sum() / len(x)),
        "dead": float((~live).double().mean()),
        "latents_that_are_features": share_found(sae.W_dec[live], world.feature_vectors),
    }
    return measures, firings.float() / len(x)


def share_found(vectors: Tensor, candidates: Tensor) -> float:
    """The share of vectors (n, d_in) with a cosine of at least 0.9 to a candidate; 0 of none."""
    if not (len(vectors) and len(candidates)):
        return 0.0
    return feature_recovery_rate(candidates, vectors, SAME)


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
