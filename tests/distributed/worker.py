"""What every process that a test starts does: one run after the other.

    torchrun --nproc-per-node 2 tests/distributed/worker.py RUNS

RUNS is a JSON file: a list of arguments of `train`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from wsae_plugin.distributed.world import together
from wsae_plugin.training import load_run_config
from wsae_plugin.training.train import train


def main() -> None:
    torch.set_num_threads(1)
    with together(timeout=60):
        for config, output, resume in json.loads(Path(sys.argv[1]).read_text()):
            train(load_run_config(Path(config)), Path(output), resume=resume)


if __name__ == "__main__":
    main()
