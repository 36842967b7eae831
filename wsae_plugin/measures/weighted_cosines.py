"""How alike the samples are that excite a latent, each pair counting as much as it excites both.

It is the monosemanticity score of arXiv 2504.02821: the mean cosine of two different samples'
embeddings, weighted by the product of their activations, which are scaled to 0 to 1 by their
minimum and maximum. The pairs need not be visited: for unit embeddings e and scaled activations a,
Σ_{i≠j} a_i a_j e_i·e_j = ‖Σ a_i e_i‖² − Σ a_i², and Σ_{i≠j} a_i a_j = (Σ a_i)² − Σ a_i² are the
weights. The maximum cancels. The minimum, which is 0 unless a latent is active everywhere or
negative somewhere, is subtracted from sums.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wsae_plugin.gamma.consistency import FEWEST

_ROUNDING = 1e-9
"""A smaller share of a sum of float64 numbers is taken for rounding."""


class WeightedCosines:
    """Sums over samples that stream past, of which the score of each latent is made.

    It takes d_sae · d_in · 8 bytes: all sums are float64. A sample that is 0 has no direction and
    is left out.

    Args:
        d_in: dimensions of an embedding.
        d_sae: number of latents.
    """

    def __init__(self, d_in: int, d_sae: int) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64)

        self._n = 0
        self._embeddings = zeros(d_in)
        self._weighted = zeros(d_sae, d_in)
        self._activations, self._squares, self._not_zero = zeros(d_sae), zeros(d_sae), zeros(d_sae)
        self._smallest = torch.full((d_sae,), torch.inf, dtype=torch.float64)
        """The smallest activation that is not 0."""

    @torch.no_grad()
    def add(self, x: Tensor, codes: Tensor) -> None:
        """Take in the next samples.

        Args:
            x: their embeddings, of any length, shape (n, d_in).
            codes: their feature activations, sparse COO, coalesced, shape (n, d_sae).
        """
        x = x.cpu().double()
        norms = x.norm(dim=1)
        has_direction = norms > 0
        self._n += int(has_direction.sum())
        unit = x / norms.where(has_direction, 1).unsqueeze(1)
        rows, latents = codes.indices().cpu()
        # As if it were active on no sample that is left out.
        values = codes.values().cpu().double() * has_direction[rows]
        self._embeddings += unit.sum(dim=0)
        by_latent = torch.sparse_coo_tensor(
            torch.stack([latents, rows]),
            values,
            (len(self._weighted), len(x)),
            check_invariants=False,
        )
        # In place, one embedding for each entry: no dense (d_sae, d_in) is made for a batch.
        self._weighted.addmm_(by_latent, unit)
        self._activations.index_add_(0, latents, values)
        self._squares.index_add_(0, latents, values.square())
        self._not_zero.index_add_(0, latents, (values != 0).double())
        shown = values.where(values != 0, torch.inf)
        self._smallest.scatter_reduce_(0, latents, shown, "amin")

    def scores(self) -> Tensor:
        """The score of each latent.

        Returns:
            Shape (d_sae,), float64, from −1 to 1; NaN for a latent that is not 0 on fewer than
            `FEWEST` samples, or nowhere above its minimum but on one.
        """
        n, smallest = self._n, self._smallest
        smallest = smallest.where(self._not_zero == n, smallest.clamp(max=0))
        total = self._activations - n * smallest
        squares = self._squares - 2 * smallest * self._activations + n * smallest.square()
        # ‖Σ(a − m)e‖², the sum itself being as large as the decoder.
        length = self._weighted.square().sum(dim=1)
        length -= 2 * smallest * (self._weighted @ self._embeddings)
        length += smallest.square() * self._embeddings.square().sum()
        pairs = total.square() - squares
        # What rounding leaves of a latent without variation, or of one sample alone, is no pair.
        varies = total > _ROUNDING * self._activations.abs()
        has_pairs = varies & (pairs > _ROUNDING * total.square()) & (self._not_zero >= FEWEST)
        return ((length - squares) / pairs).where(has_pairs, torch.nan)

    def mean_cosine(self) -> float:
        """The mean cosine of two different samples: what weights that know nothing score."""
        if self._n < 2:
            return float("nan")
        return float((self._embeddings.square().sum() - self._n) / (self._n * (self._n - 1)))
