"""Random directions of the activations in the place of latents.

The activations themselves are specific to tokens, so any direction's top tokens agree more often
than chance; only what a latent has beyond these is the dictionary's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wsae_plugin.evaluation.interpretability import TopTokens

N_DIRECTIONS = 512


class RandomDirections:
    """The top tokens of x · r for random r, x centred by the mean of the first batch.

    Args:
        seed: of the directions.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._top = TopTokens(N_DIRECTIONS)
        self._mean: Tensor | None = None
        self._directions: Tensor | None = None

    def add(self, x: Tensor) -> None:
        """Take in the activations on the next tokens.

        Args:
            x: shape (n_tokens, d_in).
        """
        if self._mean is None or self._directions is None:
            generator = torch.Generator().manual_seed(self._seed)
            self._mean = x.float().mean(dim=0)
            drawn = torch.randn(x.shape[1], N_DIRECTIONS, generator=generator)
            self._directions = drawn.to(x.device)
        self._top.add((x.float() - self._mean) @ self._directions)

    @property
    def positions(self) -> Tensor:
        """As `TopTokens.positions`, shape (N_DIRECTIONS, n_top)."""
        return self._top.positions
