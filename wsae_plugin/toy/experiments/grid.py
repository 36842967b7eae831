"""The worlds of the experiments, as makers that a cell can call for each seed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wsae_plugin.toy.batched import Activation
from wsae_plugin.toy.experiments.experiment import Cell, Condition
from wsae_plugin.toy.experiments.settings import ToySettings
from wsae_plugin.toy.worlds import Block, World, axis_privileged, mixed_axes, superposed

WORLDS = {
    "learned": "learned W_p (axes arbitrary)",
    "block": "half the axes single, half a random block",
    "pentagons": "half the axes single, half pentagons",
    "frequent": "pentagons, single features 5 × as frequent",
}
"""World → for readers."""

FREQUENT = 5
"""How many times as often the single features fire in the world `frequent`."""


def cell(world: str, sparsity: float, *, tied: bool, activation: Activation, d_sae: int) -> Cell:
    """A cell on one of the `WORLDS` at one sparsity."""
    weights = "tied" if tied else "untied"
    sigma = activation.label.lower().replace(" ", "-")
    return Cell(
        key=f"{world}-S{sparsity:g}-{weights}-{sigma}-{d_sae}",
        facts={
            "world": world,
            "sparsity": sparsity,
            "tied": tied,
            "activation": activation.label,
            "d_sae": d_sae,
        },
        world=lambda settings, seed, learned: make(world, sparsity, settings, seed, learned),
        condition=Condition(tied, activation, d_sae),
    )


def sparsity_for(world: str, n_active: float, settings: ToySettings) -> float:
    """The S, to three digits, at which so many features are active on average.

    In the world `frequent` it is that of the features that are not single.
    """
    n_features = n_features_of(world, settings)
    if world == "frequent":
        n_features += (FREQUENT - 1) * _n_single(_blocks(world, settings))
    return round(1 - min(0.9, n_active / n_features), 3)


def n_features_of(world: str, settings: ToySettings) -> int:
    """Features of a world; a cell's d_sae, since the theory has n_m = n."""
    if world == "learned":
        return settings.n_features
    return sum(block.n_features for block in _blocks(world, settings))


def make(
    world: str,
    sparsity: float,
    settings: ToySettings,
    seed: int,
    learned: Callable[[float], Tensor],
) -> World:
    """The world of a seed."""
    if world == "learned":
        return superposed(learned(sparsity), sparsity)
    blocks = _blocks(world, settings)
    probabilities = torch.full((n_features_of(world, settings),), 1 - sparsity)
    if world == "frequent":
        probabilities[: _n_single(blocks)] *= FREQUENT
    return axis_privileged(blocks, probabilities.clamp(max=1), name=world, seed=seed)


def _blocks(world: str, settings: ToySettings) -> list[Block]:
    if world == "block":
        n_shared = settings.d_in // 2
        n_single = settings.d_in - n_shared
        return mixed_axes(settings.d_in, Block(settings.n_features - n_single, n_shared))
    return mixed_axes(settings.d_in, Block(5, 2))


def _n_single(blocks: list[Block]) -> int:
    return sum(block.n_features == 1 for block in blocks)
