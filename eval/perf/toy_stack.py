"""How much faster the toy experiments' stack of SAEs trains than SAELens, one SAE at a time.

Both ways train the same number of untied Top-k SAEs of the paper's size (n = 200, n_p = 20) on the
same world, data included, in alternation in one process:

    python eval/perf/toy_stack.py --rounds 7 --output eval/perf/toy_stack.json
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.synthetic import train_toy_sae
from tqdm.auto import tqdm

from wsae_plugin.files import write_json_atomic
from wsae_plugin.toy.batched.activation import top_k
from wsae_plugin.toy.batched.data import WorldStack
from wsae_plugin.toy.batched.stack import initial_decoders
from wsae_plugin.toy.batched.trainer import Training, train_stack
from wsae_plugin.toy.worlds import World, make_world


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
    worlds = WorldStack([world], [0])
    features = worlds.stream("training")

    def next_batch(n_samples: int) -> torch.Tensor:
        x_p = worlds.activations(features.sample(n_samples))
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--saes", type=int, default=64, help="in the stack, and one by one")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.getLogger("sae_lens").setLevel(logging.ERROR)
    directions = torch.randn(200, 20, generator=torch.Generator().manual_seed(0))
    world = make_world(torch.nn.functional.normalize(directions), 0.01)
    rounds = [
        measure_speed(world, 200, n_saes=arguments.saes, n_steps=arguments.steps)
        for _ in tqdm(range(arguments.rounds), desc="Rounds", unit="round")
    ]
    ratio = np.percentile([one.ratio for one in rounds], [25, 50, 75])
    result = {
        "n_features": 200,
        "d_in": 20,
        "d_sae": 200,
        "threads": arguments.threads,
        "torch": str(torch.__version__),
        "ratio": dict(zip(("lower_quartile", "median", "upper_quartile"), ratio, strict=True)),
        "rounds": [one.to_json() for one in rounds],
    }
    low, median, high = ratio
    sys.stdout.write(
        f"a stack of {arguments.saes} trains {median:.1f} times as fast as SAELens one at a time "
        f"(quartiles {low:.1f} to {high:.1f})\n"
    )
    if arguments.output:
        write_json_atomic(arguments.output, result)


if __name__ == "__main__":
    main()
