"""The three worlds of the recovery study; they differ in how often features fire."""

from __future__ import annotations

from functools import cache

import torch

from wsae_plugin.toy.recovery.settings import RecoverySettings
from wsae_plugin.toy.worlds import World, dictionary_of_frequencies, random_dictionary

BALANCED, IMBALANCED, SPREAD = "balanced", "imbalanced", "spread"
WORLDS = {
    BALANCED: "s = 12 features in every sample",
    IMBALANCED: "s = 3 in half of the samples, s = 20 in the other half",
    SPREAD: "independent features, of frequencies from 0.3 to 0.003",
}


@cache
def make(name: str, settings: RecoverySettings) -> World:
    """The world of that name.

    Imbalanced is the one printed in arXiv 2506.14002; s = 12 of the balanced one is about its mean.
    In both all features are equally frequent, so the spread one is added: only there can the
    frequency of a latent follow that of its feature.
    """
    n, d, seed = settings.n_features, settings.d_in, settings.world_seed
    if name != SPREAD:
        n_active = (12,) if name == BALANCED else (3, 20)
        return random_dictionary(n, d, n_active, name=name, seed=seed)
    frequencies = torch.logspace(0, -2, n) * 0.3
    return dictionary_of_frequencies(frequencies, d, name=name, seed=seed)
