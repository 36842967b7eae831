"""Nothing that should be independent is drawn from the same random bits."""

from __future__ import annotations

from itertools import combinations
from typing import get_args

import pytest
import torch
from torch.nn.functional import normalize

from wsae_plugin.measures.identifiability import random_like
from wsae_plugin.measures.matching import assign
from wsae_plugin.toy.batched.stack import initial_decoders
from wsae_plugin.toy.streams import Purpose, stream
from wsae_plugin.toy.superposition import learn_superposition
from wsae_plugin.toy.worlds import (
    Block,
    block_directions,
    random_directions,
)

SEEDS = range(8)
N_FEATURES, D_IN = 200, 20


def learned(n_steps: int) -> torch.Tensor:
    return learn_superposition([0.9] * len(SEEDS), SEEDS, N_FEATURES, D_IN, n_steps=n_steps)


def drawn(kind: str, seed: int) -> torch.Tensor:
    if kind == "axes":
        return block_directions([Block(N_FEATURES, D_IN)], seed)
    return random_directions(N_FEATURES, D_IN, seed=seed)


WORLDS = {
    "learned, before": lambda: learned(1),
    "learned": lambda: learned(30),
    **{
        kind: lambda kind=kind: torch.stack([drawn(kind, seed) for seed in SEEDS])
        for kind in ("axes", "dictionary")
    },
}


@pytest.mark.parametrize("world", WORLDS)
def test_no_sae_starts_turned_towards_its_world_or_away_from_it(world: str) -> None:
    features = normalize(WORLDS[world](), dim=-1)
    decoders = normalize(initial_decoders(SEEDS, N_FEATURES, D_IN), dim=-1)
    # The cosine of two independent directions has the variance 1 / d_in.
    cosines = (features * decoders).sum(dim=-1)
    bound = 5 / (cosines.numel() * D_IN) ** 0.5
    assert abs(float(cosines.mean())) < bound

    # Nor in another order: it matches no better than the world of another seed.
    def matched(truth: torch.Tensor) -> float:
        pairs = zip(decoders, truth, strict=True)
        return sum(float(assign(d, f).cosines.abs().mean()) for d, f in pairs) / len(SEEDS)

    assert abs(matched(features) - matched(features.roll(1, dims=0))) < 0.01


def test_streams_of_different_purposes_and_seeds_differ() -> None:
    purposes: tuple[Purpose, ...] = get_args(Purpose)
    draws = [torch.rand(100, generator=stream(p, seed)) for p in purposes for seed in (0, 1)]
    draws.append(torch.rand(100, generator=torch.Generator().manual_seed(0)))
    # What says what chance is, too.
    draws += [random_like(torch.ones(1, 100), seed)[0] for seed in (0, 1)]
    for one, other in combinations(draws, 2):
        assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 0.5
    assert torch.equal(draws[0], torch.rand(100, generator=stream(purposes[0], 0)))
