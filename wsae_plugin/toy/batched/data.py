"""Samples of several worlds at once, each world with a random stream of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wsae_plugin.errors import BadInputError
from wsae_plugin.toy.streams import Purpose, stream
from wsae_plugin.toy.worlds import World


class FeatureStream:
    """Independent features of several worlds: 0 with probability 1 − p, else uniform on [0, 1].

    A world's samples depend on its generator alone, not on what else is in the stack.

    Args:
        firing_probabilities: p, shape (n_worlds, n_features).
        generators: one for each world.
    """

    def __init__(self, firing_probabilities: Tensor, generators: Sequence[torch.Generator]) -> None:
        self._probabilities = firing_probabilities.unsqueeze(1)
        self._generators = generators

    def sample(self, n_samples: int) -> Tensor:
        """The next features, shape (n_worlds, n_samples, n_features)."""
        n_worlds, _, n_features = self._probabilities.shape
        u = torch.empty(n_worlds, n_samples, n_features, dtype=self._probabilities.dtype)
        for world, generator in zip(u, self._generators, strict=True):
            world.uniform_(generator=generator)
        # One uniform number decides both whether a feature fires and how strongly.
        return (u - (1 - self._probabilities)).clamp_(min=0).div_(self._probabilities)


class WorldStack:
    """Several worlds of the same size.

    Args:
        worlds: with independent features.
        seeds: of their random streams, one each.

    Raises:
        BadInputError: the sizes differ, or the features of a world depend on each other.
    """

    def __init__(self, worlds: Sequence[World], seeds: Sequence[int]) -> None:
        for world in worlds:
            if not world.is_independent or world.feature_vectors.shape != (
                worlds[0].feature_vectors.shape
            ):
                raise BadInputError(
                    "these worlds cannot be stacked: worlds of a stack have the same n_features "
                    "and d_in, and independent features."
                )
        self.feature_vectors = torch.stack([world.feature_vectors for world in worlds])
        self.firing_probabilities = torch.stack([world.firing_probabilities for world in worlds])
        self._seeds = tuple(seeds)

    def __len__(self) -> int:
        return len(self.feature_vectors)

    def stream(self, purpose: Purpose) -> FeatureStream:
        """A stream of features; another purpose has samples that no other stream has."""
        return FeatureStream(
            self.firing_probabilities, [stream(purpose, seed) for seed in self._seeds]
        )

    def activations(self, features: Tensor) -> Tensor:
        """x_p of features (n_worlds, n_samples, n_features): (n_worlds, n_samples, d_in)."""
        return torch.bmm(features, self.feature_vectors)
