"""How much faster a stack trains than SAELens's trainer, one SAE after the other."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import torch
from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.synthetic import train_toy_sae

from wsae_plugin.toy.batched.activation import top_k
from wsae_plugin.toy.batched.data import WorldStack
from wsae_plugin.toy.batched.stack import initial_decoders
from wsae_plugin.toy.batched.trainer import Training, train_stack
from wsae_plugin.toy.worlds import World


@dataclass(frozen=True)
class Speed:
    """Seconds of wall-clock time for one training step of one SAE.

    Attributes:
        stacked: in a stack, its data included.
        one_at_a_time: through SAELens's `train_toy_sae`, its data included.
        n_saes: how many were trained.
        n_steps: of each.
    """

    stacked: float
    one_at_a_time: float
    n_saes: int
    n_steps: int

    @property
    def ratio(self) -> float:
        """How many times as fast a stack is."""
        return self.one_at_a_time / self.stacked

    def to_json(self) -> dict[str, float]:
        """Plain values."""
        return {**asdict(self), "ratio": self.ratio}


def measure_speed(
    world: World, d_sae: int, *, n_saes: int = 16, n_steps: int = 100, k: int = 2
) -> Speed:
    """Train the same number of untied Top-k SAEs both ways, in the same run, on one world.

    Args:
        world: with independent features; all SAEs of the stack read the same samples of it, as
            the arms of an experiment do.
        d_sae: latents of an SAE.
        n_saes: how many.
        n_steps: of each.
        k: of Top-k.
    """
    d_in = world.feature_vectors.shape[1]
    training = Training(n_steps)
    stream = WorldStack([world], [0])
    samples = stream.stream()

    def next_batch(n_samples: int) -> torch.Tensor:
        x_p = stream.activations(samples.sample(n_samples))
        return x_p.expand(n_saes, -1, -1)

    start = time.perf_counter()
    train_stack(
        initial_decoders(range(n_saes), d_sae, d_in),
        top_k(k),
        next_batch,
        torch.ones(n_saes, d_in),
        training,
        tied=False,
    )
    stacked = time.perf_counter() - start

    start = time.perf_counter()
    for _ in range(n_saes):
        train_toy_sae(
            TopKTrainingSAE(TopKTrainingSAEConfig(d_in=d_in, d_sae=d_sae, k=k)),
            world.feature_dict,
            world.activation_generator,
            training_samples=n_steps * training.batch_size,
            batch_size=training.batch_size,
            lr=training.lr,
        )
    one_at_a_time = time.perf_counter() - start
    steps = n_saes * n_steps
    return Speed(stacked / steps, one_at_a_time / steps, n_saes, n_steps)
