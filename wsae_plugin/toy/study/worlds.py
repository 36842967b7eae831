"""The worlds of the figure studies: add a function with `toy_world`, and every study has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from wsae_plugin.toy.study.settings import ToySettings
from wsae_plugin.toy.worlds import Block, block_directions, mixed_axes

_PAPERS_N_FEATURES = 200


@dataclass(frozen=True)
class Layout:
    """A world of some size, before its sparsity and its seed are chosen.

    Attributes:
        rates: how often each feature fires, relative to the rarest, shape (n_features,).
        directions: seed → feature vectors, shape (n_features, d_in); None where they are learned,
            at every sparsity anew.
        superposed_at: of how many features the sparsity is that of; None is the rates' sum.
    """

    rates: Tensor
    directions: Callable[[int], Tensor] | None
    superposed_at: int | None = None

    def sparsity_for(self, n_active: float) -> float:
        """The S of the rarest features, to three digits, with so many active on average."""
        n_features = self.superposed_at or float(self.rates.sum())
        return round(1 - min(0.9, n_active / n_features), 3)


WORLDS: dict[str, str] = {}
"""World → what it is, for readers."""
_LAYOUTS: dict[str, Callable[[ToySettings], Layout]] = {}


def toy_world(
    label: str,
) -> Callable[[Callable[[ToySettings], Layout]], Callable[[ToySettings], Layout]]:
    """Register a function settings → `Layout` as the world of its name.

    Args:
        label: what the world is, for readers.
    """

    def register(layout: Callable[[ToySettings], Layout]) -> Callable[[ToySettings], Layout]:
        name = layout.__name__
        WORLDS[name], _LAYOUTS[name] = label, layout
        return layout

    return register


def layout_of(world: str, settings: ToySettings) -> Layout:
    """Lay out one of the `WORLDS` at the sizes of the settings."""
    return _LAYOUTS[world](settings)


@toy_world("learned W_p (axes arbitrary)")
def learned(settings: ToySettings) -> Layout:
    """The toy model of superposition; it superposes only what is as rare as with the paper's n."""
    return Layout(torch.ones(settings.n_features), None, _PAPERS_N_FEATURES)


@toy_world("half the axes single, half a random block")
def block(settings: ToySettings) -> Layout:
    """All features that do not stand alone share one block."""
    n_shared = settings.d_in // 2
    n_single = settings.d_in - n_shared
    return _axes(mixed_axes(settings.d_in, Block(settings.n_features - n_single, n_shared)))


@toy_world("half the axes single, half pentagons")
def pentagons(settings: ToySettings) -> Layout:
    """Five features in two dimensions, as often as they fit."""
    return _axes(mixed_axes(settings.d_in, Block(5, 2)))


@toy_world("pentagons, single features 5 × as frequent")
def frequent(settings: ToySettings) -> Layout:
    """Where the variance of a single dimension is not the smallest."""
    return _axes(mixed_axes(settings.d_in, Block(5, 2)), single_rate=5)


def _axes(blocks: Sequence[Block], single_rate: float = 1) -> Layout:
    sizes = torch.tensor([block.n_features for block in blocks])
    rates = torch.where(sizes == 1, float(single_rate), 1.0).repeat_interleave(sizes)
    return Layout(rates, partial(block_directions, blocks))
