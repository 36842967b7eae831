"""What the experiments share: sizes, training, seeds."""

from __future__ import annotations

from dataclasses import dataclass

from wsae_plugin.errors import BadInputError
from wsae_plugin.toy.batched import Training


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
        if self.d_in < 4:
            raise BadInputError(
                f"--d-in {self.d_in}: at least 4, half of it for features that stand alone"
            )
        if self.n_features <= self.d_in:
            raise BadInputError(
                f"--n-features {self.n_features}: more than --d-in ({self.d_in}), or nothing is "
                "superposed"
            )
        if self.n_seeds < 2:
            raise BadInputError(f"--seeds {self.n_seeds}: at least 2, the spread is over seeds")
        if self.n_steps < 1:
            raise BadInputError(f"--steps {self.n_steps}: at least 1")

    @property
    def seeds(self) -> range:
        return range(self.n_seeds)

    @property
    def training(self) -> Training:
        return Training(self.n_steps, self.batch_size, self.lr, self.n_steps // 5)
