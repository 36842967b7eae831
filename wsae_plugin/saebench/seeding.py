"""One seeded call at a time: SAEBench seeds some evals, and leaves the process changed by all."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Generator

import numpy as np
import torch


@contextlib.contextmanager
def seeded(seed: int) -> Generator[None]:
    """Seed Python, NumPy and torch, with gradients on; afterwards all is as before.

    TPP and autointerp switch gradients off for the whole process, so that an eval after them
    would fail to train.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        with torch.enable_grad():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
