"""Worlds with privileged axes: some input dimensions carry one feature, others several.

Only here, or in a real model's residual stream, can a weight for each dimension mean anything: a
learned W_p is known up to a rotation, and its dimensions all look alike (arXiv 2506.15963, eq. 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from wsae_plugin.errors import BadInputError
from wsae_plugin.toy.streams import stream


@dataclass(frozen=True)
class Block:
    """Features that share a few dimensions and have them to themselves.

    One dimension holds one feature, or two opposite ones (a digon); two dimensions hold a regular
    polygon; more dimensions hold random directions.

    Args:
        n_features: how many features.
        n_dimensions: how many dimensions they share.
    """

    n_features: int
    n_dimensions: int

    def __post_init__(self) -> None:
        if self.n_dimensions < 1 or self.n_features < 1:
            raise BadInputError(f"{self}: a block has at least one feature and one dimension.")
        if self.n_dimensions == 1 and self.n_features > 2:
            raise BadInputError(
                f"{self}: one dimension has two directions, so it holds one or two features; "
                "give the block more dimensions."
            )

    def directions(self, generator: torch.Generator) -> Tensor:
        """Unit vectors, shape (n_features, n_dimensions)."""
        if self.n_dimensions == 1:
            return torch.tensor([[1.0], [-1.0]])[: self.n_features]
        if self.n_dimensions == 2:
            angles = torch.arange(self.n_features) * (2 * math.pi / self.n_features)
            return torch.stack([angles.cos(), angles.sin()], dim=1)
        return normalize(torch.randn(self.n_features, self.n_dimensions, generator=generator))


def block_directions(blocks: Sequence[Block], seed: int = 0) -> Tensor:
    """Take the direct sum of `blocks`, in their order: shape (n_features, d_in).

    Args:
        blocks: which features share which dimensions.
        seed: of the random directions of blocks of three dimensions or more.
    """
    generator = stream("directions", seed)
    return torch.block_diag(*(block.directions(generator) for block in blocks))


def mixed_axes(d_in: int, shared: Block) -> list[Block]:
    """Give half of the dimensions one feature each, the other half in copies of `shared`.

    Dimensions that are too few for one more copy carry one feature each as well.
    """
    n_shared = (d_in // 2) // shared.n_dimensions
    if n_shared == 0:
        raise BadInputError(
            f"d_in is {d_in}; half of it has to hold a block of {shared.n_dimensions} dimensions."
        )
    n_single = d_in - n_shared * shared.n_dimensions
    return [Block(1, 1)] * n_single + [shared] * n_shared
