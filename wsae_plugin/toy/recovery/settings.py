"""Sizes, steps, rates and seeds of the recovery study."""

from __future__ import annotations

from dataclasses import dataclass

from wsae_plugin.errors import BadInputError


@dataclass(frozen=True)
class RecoverySettings:
    """n, d and the batch are printed in arXiv 2506.14002; the width and the steps are ours.

    Attributes:
        n_features: n, rows of V.
        d_in: d, columns of V.
        d_sae: latents.
        batch_size: samples in a step.
        n_steps: Adam steps of every SAE.
        rates: Adam's learning rates; every arm is trained at each of them.
        n_seeds: trainings of every arm on the same V, each with initial weights and samples of its
            own.
        world_seed: of V.
        pool_size: samples that the batches of a training are drawn from, with replacement.
        n_held_out: samples that reconstruction and frequencies are measured on.
        n_snapshots: measurements on the way, evenly spaced.
    """

    n_features: int = 128
    d_in: int = 42
    d_sae: int = 1024
    batch_size: int = 512
    n_steps: int = 2500
    rates: tuple[float, ...] = (1e-3,)
    n_seeds: int = 3
    world_seed: int = 0
    pool_size: int = 100_000
    n_held_out: int = 20_000
    n_snapshots: int = 10

    def __post_init__(self) -> None:
        if self.n_features < 32:
            raise BadInputError(
                f"--n-features {self.n_features}: at least 32, some samples have 20 features"
            )
        if self.d_in < 2:
            raise BadInputError(f"--d-in {self.d_in}: at least 2")
        if self.d_sae < self.n_features:
            raise BadInputError(
                f"--d-sae {self.d_sae}: at least --n-features ({self.n_features}), or some feature "
                "has no latent"
            )
        if self.n_seeds < 2:
            raise BadInputError(f"--seeds {self.n_seeds}: at least 2, the spread is over seeds")
        if self.n_steps < self.n_snapshots:
            raise BadInputError(f"--steps {self.n_steps}: at least {self.n_snapshots}")
        if not self.rates or any(rate <= 0 for rate in self.rates):
            raise BadInputError(f"--lr {self.rates}: every learning rate is above 0")
