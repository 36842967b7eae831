"""Which direction of one dictionary is which of another: best matches and one-to-one assignments.

Cosines are computed in float64 and do not know the lengths of the directions; a zero vector has
cosine 0 with everything.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

_BLOCK = 1024
"""Rows compared at once: with 24,576 candidates a block of cosines takes 200 MB."""


class Assignment(NamedTuple):
    """Pairs of a one-to-one assignment.

    Attributes:
        first: rows of the first dictionary, shape (n_pairs,), int64, ascending.
        second: their partners in the second, shape (n_pairs,), int64.
        cosines: of each pair, signed, shape (n_pairs,), float64.
    """

    first: Tensor
    second: Tensor
    cosines: Tensor


def best_matches(vectors: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Find the largest signed cosine of each vector with any candidate; one may serve many.

    It needs a block of cosines, not all of them.

    Args:
        vectors: shape (n, d).
        candidates: shape (m, d), m ≥ 1.

    Returns:
        The cosines, shape (n,), float64, in [−1, 1], and which candidates, shape (n,), int64.
    """
    ours, theirs = _unit_rows(vectors), _unit_rows(candidates)
    indices = torch.cat([(block @ theirs.T).argmax(dim=1) for block in ours.split(_BLOCK)])
    return _cosines(ours, theirs[indices]), indices


def assign(first: Tensor, second: Tensor) -> Assignment:
    """Find the one-to-one assignment with the largest sum of |cosine| (the Hungarian problem).

    The smaller dictionary is matched whole; what the larger has left over is in no pair. All n·m
    cosines are held at once, in float64: 0.5 GB for 8,192 × 8,192 and 4.8 GB for 24,576 × 24,576.
    scipy's solver takes up to cubic time: on one core 0.3 s for 2,048 and 6 s for 4,096 random
    directions, a fraction of that for dictionaries that agree.

    Args:
        first: shape (n, d).
        second: shape (m, d).

    Returns:
        min(n, m) pairs.
    """
    ours, theirs = _unit_rows(first), _unit_rows(second)
    cost = (ours @ theirs.T).abs_().neg_().cpu().numpy()
    rows, columns = (torch.from_numpy(i).to(ours.device) for i in linear_sum_assignment(cost))
    return Assignment(rows, columns, _cosines(ours[rows], theirs[columns]))


def _unit_rows(vectors: Tensor) -> Tensor:
    vectors = vectors.detach().to(torch.float64)
    norms = vectors.norm(dim=1, keepdim=True)
    return vectors / norms.where(norms > 0, 1)


def _cosines(first: Tensor, second: Tensor) -> Tensor:
    """Row by row, of unit or zero rows; equal rows give 1 exactly, which a dot product need not."""
    opposite = (first * second).sum(dim=1) < 0
    sign = 1 - 2 * opposite.to(first.dtype)
    apart = (first - sign.unsqueeze(1) * second).square().sum(dim=1)
    nonzero = first.any(dim=1) & second.any(dim=1)
    return (sign * (1 - apart / 2)).where(nonzero, 0)
