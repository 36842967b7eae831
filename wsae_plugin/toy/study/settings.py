"""Sizes, training and seeds of the studies."""

from __future__ import annotations

from dataclasses import dataclass

from wsae_plugin.errors import BadInputError
from wsae_plugin.toy.batched.trainer import Training


@dataclass(frozen=True)
class ToySettings:
    """Sizes and training; the sizes are the paper's (arXiv 2506.15963, Section 5.1).

    Attributes:
        n_features: n, features of the learned world, and of the block world.
        d_in: n_p, input dimensions.
        n_seeds: independent repetitions: W_p, data, initial weights, shuffles.
        n_steps: Adam steps of every W_p and every SAE.
        batch_size: samples in a step.
        lr: Adam's learning rate; it falls linearly to 0 over the last fifth of the steps.
        n_held_out: samples that the measures are taken on.
    """

    n_features: int = 200
    d_in: int = 20
    n_seeds: int = 8
    n_steps: int = 1000
    batch_size: int = 256
    lr: float = 1e-2
    n_held_out: int = 4096

    def __post_init__(self) -> None:
        n, d = self.n_features, self.d_in
        _refuse(d < 4, f"--d-in {d}: at least 4, half of it for features that stand alone")
        _refuse(n <= d, f"--n-features {n}: more than --d-in ({d}), or nothing is superposed")
        _refuse_few(self.n_seeds, self.n_steps, 1)

    @property
    def training(self) -> Training:
        """How every SAE is trained."""
        return Training(self.n_steps, self.batch_size, self.lr, self.n_steps // 5)


@dataclass(frozen=True)
class GBASettings:
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
        n, d_sae, rates = self.n_features, self.d_sae, self.rates
        _refuse(n < 32, f"--n-features {n}: at least 32, some samples have 20 features")
        _refuse(self.d_in < 2, f"--d-in {self.d_in}: at least 2")
        few = f"--d-sae {d_sae}: at least --n-features ({n}), or some feature has no latent"
        _refuse(d_sae < n, few)
        _refuse_few(self.n_seeds, self.n_steps, self.n_snapshots)
        wrong = not rates or any(rate <= 0 for rate in rates)
        _refuse(wrong, f"--lr {rates}: every learning rate is above 0")


def _refuse_few(n_seeds: int, n_steps: int, fewest_steps: int) -> None:
    _refuse(n_seeds < 2, f"--seeds {n_seeds}: at least 2, the spread is over seeds")
    _refuse(n_steps < fewest_steps, f"--steps {n_steps}: at least {fewest_steps}")


def _refuse(wrong: bool, message: str) -> None:
    if wrong:
        raise BadInputError(message)
