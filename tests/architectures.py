"""All weighted architectures beside their parents, for tests that hold for every one of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sae_lens
import torch
from sae_lens import LoggingConfig, TrainingSAE, TrainingSAEConfig
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.sae import TrainCoefficientConfig, TrainStepInput, TrainStepOutput
from sae_lens.training.sae_trainer import SAETrainer

import wsae_plugin
from wsae_plugin.saes import WeightedTrainingSAE, WeightedTrainingSAEConfig

D_IN, D_SAE = 8, 32


@dataclass(frozen=True)
class Architecture:
    name: str
    parent_class: type[TrainingSAE[Any]]
    parent_config: type[TrainingSAEConfig]
    weighted_class: type[WeightedTrainingSAE]
    weighted_config: type[WeightedTrainingSAEConfig]
    fields: dict[str, Any]

    def parent(self, **fields: Any) -> TrainingSAE[Any]:
        torch.manual_seed(0)
        return self.parent_class(
            self.parent_config(**{"d_in": D_IN, "d_sae": D_SAE, **self.fields, **fields})
        )

    def weighted(self, **fields: Any) -> WeightedTrainingSAE:
        torch.manual_seed(0)
        return self.weighted_class(
            self.weighted_config(**{"d_in": D_IN, "d_sae": D_SAE, **self.fields, **fields})
        )


def _architecture(stem: str, name: str, **fields: Any) -> Architecture:
    return Architecture(
        name=name,
        parent_class=getattr(sae_lens, f"{stem}TrainingSAE"),
        parent_config=getattr(sae_lens, f"{stem}TrainingSAEConfig"),
        weighted_class=getattr(wsae_plugin, f"Weighted{stem}TrainingSAE"),
        weighted_config=getattr(wsae_plugin, f"Weighted{stem}TrainingSAEConfig"),
        fields=fields,
    )


ARCHITECTURES = [
    _architecture("Standard", "standard", l1_coefficient=0.1, l1_warm_up_steps=3),
    _architecture("Gated", "gated", l1_coefficient=0.1),
    _architecture("JumpReLU", "jumprelu", l0_coefficient=0.1, jumprelu_bandwidth=0.5),
    _architecture("TopK", "topk", k=4),
    _architecture("BatchTopK", "batchtopk", k=4.0),
    _architecture(
        "MatryoshkaBatchTopK",
        "matryoshka_batchtopk",
        k=4.0,
        matryoshka_widths=[8, 16, D_SAE],
        use_matryoshka_aux_loss=True,
    ),
    _architecture("AbsTopK", "abstopk", k=4),
    # SAELens warns of any other norm, its own default too.
    _architecture("MatchingPursuit", "matching_pursuit", max_iterations=4, decoder_init_norm=1.0),
]


def activations(n: int = 64, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Activations with a mean, and with a variance that differs from dimension to dimension."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, D_IN, generator=generator, dtype=torch.float64)
    scale = torch.logspace(-0.5, 0.5, D_IN, dtype=torch.float64)
    return (x * scale + scale.flip(0)).to(dtype)


def batches(first: int = 0, n: int = 64) -> Iterator[torch.Tensor]:
    """An endless stream of batches, the i-th a function of i only."""
    seed = first
    while True:
        yield activations(n, seed=seed)
        seed += 1


def dead_latents() -> torch.Tensor:
    """A mask that marks some latents of every Matryoshka level as dead."""
    mask = torch.zeros(D_SAE, dtype=torch.bool)
    mask[[1, 9, 10, 20, 25, 30]] = True
    return mask


def step_input(
    sae: TrainingSAE[Any],
    step: int = 0,
    sae_in: torch.Tensor | None = None,
    dead: bool | torch.Tensor = True,
) -> TrainStepInput:
    """What SAELens's trainer passes at a step after every warm-up."""
    if isinstance(dead, bool):
        dead = dead_latents() & dead
    coefficients = {
        name: float(c.value if isinstance(c, TrainCoefficientConfig) else c)
        for name, c in sae.get_coefficients().items()
    }
    return TrainStepInput(
        sae_in=activations(dtype=sae.dtype) if sae_in is None else sae_in,
        coefficients=coefficients,
        dead_neuron_mask=dead if dead.any() else None,
        n_training_steps=step,
        is_logging_step=False,
    )


def forward(sae: TrainingSAE[Any], step: int = 0, **kwargs: Any) -> TrainStepOutput:
    sae.train()
    return sae.training_forward_pass(step_input(sae, step, **kwargs))


def trained_losses(output: TrainStepOutput) -> dict[str, torch.Tensor]:
    """The terms that training sums up, weighted or not, under SAELens's names."""
    weighted = [name for name in output.losses if name.startswith("weighted_")]
    plain = {name.removeprefix("weighted_") for name in weighted}
    return {
        name.removeprefix("weighted_"): loss
        for name, loss in output.losses.items()
        if name not in plain
    }


def trainer(
    sae: TrainingSAE[Any],
    steps: int = 10,
    first_batch: int = 0,
    lr: float = 1e-2,
    checkpoint_path: str | None = None,
) -> SAETrainer[Any, Any]:
    """SAELens's own trainer, with latents declared dead after two steps of silence."""
    return SAETrainer(
        cfg=SAETrainerConfig(
            n_checkpoints=0,
            checkpoint_path=checkpoint_path,
            save_final_checkpoint=False,
            total_training_samples=steps * 64,
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
            train_batch_size_samples=64,
            dead_feature_window=2,
            feature_sampling_window=1000,
            logger=LoggingConfig(log_to_wandb=False),
            n_batches_for_norm_estimate=2,
        ),
        sae=sae,
        data_provider=batches(first_batch),
    )
