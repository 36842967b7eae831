"""Latents that would better be two (T6 of arXiv 2606.02385)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wsae_plugin.optimality.coded import Coded
from wsae_plugin.optimality.lasso import unit
from wsae_plugin.optimality.pairs import FEWEST

_MOST_TRIED = 512
"""Latents, the busiest, that are looked at."""
_SHARE_SPLIT = 0.01
"""Of all latents: so many are split."""
_N_STEPS = 15


@dataclass(frozen=True)
class Split:
    """A latent's atom d becomes d + s₁t and d + s₂t.

    Args:
        latent: Which.
        along: t, orthogonal to d and of length 1, shape (d_in,).
        steps: s₁ and s₂, shape (2,).
    """

    latent: int
    along: Tensor
    steps: Tensor

    def left(self, coded: Coded, residual: Tensor) -> Tensor:
        """What is left of each sample if it takes the half that suits it.

        Args:
            coded: Samples and their codes.
            residual: What was left of them, shape (n, d_in).

        Returns:
            Shape (n, d_in).
        """
        rows, z = _active(coded, self.latent)
        pull = (residual[rows] @ self.along).unsqueeze(1)
        step = z.unsqueeze(1) * self.steps
        # ‖r‖² − ‖r − z s t‖² = 2 z s tᵀr − z² s².
        best = (2 * pull * step - step.square()).argmax(dim=1, keepdim=True)
        return residual.index_add(0, rows, -step.gather(1, best) * self.along)


def best_splits(coded: Coded, residual: Tensor) -> list[Split]:
    """The splits that gain most, one for every hundred latents, the best first.

    Each is of what those before it leave: latents that are active together gain the same but once.

    Args:
        coded: Samples and their codes.
        residual: What is left of them, shape (n, d_in).
    """
    busiest = coded.counts.topk(min(_MOST_TRIED, len(coded.atoms)))
    tried = busiest.indices[busiest.values >= FEWEST].tolist()
    left = {each: _left(_split_of(coded, residual, each), coded, residual) for each in tried}
    chosen = sorted(tried, key=left.__getitem__)[: -(-len(coded.atoms) // round(1 / _SHARE_SPLIT))]
    found: list[Split] = []
    for latent in chosen:
        found.append(_split_of(coded, residual, latent))
        residual = found[-1].left(coded, residual)
    return found


def _left(split: Split, coded: Coded, residual: Tensor) -> float:
    """The squared error after a split, less that before it."""
    rows, _ = _active(coded, split.latent)
    of, before = coded.of(rows), residual[rows]
    return float(split.left(of, before).square().sum() - before.square().sum())


def _split_of(coded: Coded, residual: Tensor, latent: int) -> Split:
    rows, z = _active(coded, latent)
    atom, own = coded.atoms[latent], residual[rows]
    across = own - (own @ atom).unsqueeze(1) * atom
    # As printed the samples are weighed by z², which is the worse the larger the split: its gain is
    # at most half the largest eigenvalue of Σ P r rᵀ P.
    along = _principal(across)
    pull = across @ along
    side = (pull > 0).long()
    squares, pulls = (
        torch.zeros(2, dtype=z.dtype, device=z.device).index_add_(0, side, each)
        for each in (z.square(), z * pull)
    )
    return Split(latent, along, pulls / squares.clamp(min=torch.finfo(z.dtype).tiny))


def _principal(rows: Tensor) -> Tensor:
    """About the first right singular vector, shape (d,), by power iteration."""
    t = rows[rows.square().sum(dim=1).argmax()]
    for _ in range(_N_STEPS):
        t = unit((rows @ t) @ rows, dim=0)
    return t


def _active(coded: Coded, latent: int) -> tuple[Tensor, Tensor]:
    rows, places = (coded.latents == latent).nonzero(as_tuple=True)
    return rows, coded.values[rows, places]
