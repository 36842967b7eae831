"""Random streams that share no numbers: one for each purpose and seed.

An SAE starts from what SAELens draws under `torch.manual_seed(seed)`. Were its world drawn from
that stream too, the two would share random bits: the SAE would start turned towards the features or
away from them, whatever transforms the numbers on the way.
"""

from __future__ import annotations

from typing import Literal

import torch

Purpose = Literal["directions", "learning", "training", "evidence", "held out", "shuffle"]

# Far apart, so that no seed of one purpose is a seed of another.
_OFFSETS: dict[Purpose, int] = {
    "directions": 7_340_033_000_003,
    "learning": 7_340_034_000_003,
    "training": 7_340_035_000_003,
    "evidence": 7_340_036_000_003,
    "held out": 7_340_037_000_003,
    "shuffle": 7_340_038_000_003,
}


def stream(purpose: Purpose, seed: int) -> torch.Generator:
    """Make a new generator.

    Args:
        purpose: what is drawn from it: a world's feature vectors; the samples that W_p is learned
            from, that SAEs are trained on, that Γ is made from, that is measured on; the order of a
            shuffled Γ.
        seed: at least 0, and less than 10⁶.
    """
    return torch.Generator().manual_seed(_OFFSETS[purpose] + seed)
