"""How much faster the toy experiments' stack of SAEs trains than SAELens, one SAE at a time.

Both ways train the same number of untied Top-k SAEs of the paper's size (n = 200, n_p = 20) on the
same world, data included, in alternation in one process:

    python eval/perf/toy_stack.py --output eval/perf/toy_stack.json
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from wsae_plugin.files import write_json_atomic
from wsae_plugin.toy.batched.benchmark import measure_speed
from wsae_plugin.toy.worlds import superposed


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
    world = superposed(torch.nn.functional.normalize(directions), 0.99)
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
